"""A mail server that writes down what it takes: mail_server.py PORT DIRECTORY. A file of the directory called RCPT or DATA is what it
answers to that command, while it is there."""
import asyncio
import email
import email.policy
import json
import os
import sys

from aiosmtpd.smtp import SMTP

port, directory = int(sys.argv[1]), sys.argv[2]


def answer(command):
    try:
        with open(os.path.join(directory, command)) as file:
            return file.read()
    except FileNotFoundError:
        return None


class Handler:
    async def handle_RCPT(self, server, session, envelope, address, options):
        if said := answer("RCPT"):
            return said
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server, session, envelope):
        if said := answer("DATA"):
            return said
        mail = email.message_from_bytes(envelope.content, policy=email.policy.default)
        part = lambda kind: mail.get_body((kind,)) and mail.get_body((kind,)).get_content()
        taken = {
            "envelope": [envelope.mail_from, envelope.rcpt_tos],
            "headers": dict(mail.items()),
            "text": part("plain"),
            "html": part("html"),
        }
        with open(os.path.join(directory, "taken"), "a") as file:
            file.write(json.dumps(taken) + "\n")
            file.flush()
            os.fsync(file.fileno())
        return "250 taken"


async def serve():
    server = await asyncio.get_running_loop().create_server(lambda: SMTP(Handler(), hostname="mail.test"), "127.0.0.1", port)
    await server.serve_forever()


asyncio.run(serve())
