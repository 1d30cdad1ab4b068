"""A session of AWS' own client with the gateway as SQS: messages are sent, received, kept, given back, deleted and given up.

The case `groups::boto3_has_a_session` of the end-to-end tests runs it, with the gateway in BASE and an admin key in KEY.
"""

import hashlib
import json
import os
import threading
import time
import urllib.request

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError

BASE, ADMIN = os.environ["BASE"], os.environ["KEY"]


def call(method, path, document):
    request = urllib.request.Request(
        BASE + path,
        method=method,
        data=json.dumps(document).encode(),
        headers={"authorization": f"Bearer {ADMIN}", "content-type": "application/json"},
    )
    with urllib.request.urlopen(request) as answer:
        return json.load(answer)


def client(key_id, secret, token):
    return boto3.client(
        "sqs",
        endpoint_url=f"{BASE}/sqs",
        region_name="eu-central-1",
        aws_access_key_id=key_id,
        aws_secret_access_key=secret,
        aws_session_token=token,
        config=Config(retries={"total_max_attempts": 1}),
    )


def code_of(attempt):
    try:
        attempt()
    except ClientError as error:
        return error.response["Error"]["Code"]
    raise AssertionError("it is to be refused")


def receive(queue, **more):
    return sqs.receive_message(QueueUrl=queue, MaxNumberOfMessages=10, **more).get("Messages", [])


def eventually(queue, wanted, **more):
    """What comes back does so when its time is over; the clock is the gateway's."""
    until = time.monotonic() + 15
    while time.monotonic() < until:
        found = receive(queue, WaitTimeSeconds=1, **more)
        if found:
            assert [message["Body"] for message in found] == wanted, found
            return found
    raise AssertionError(f"{wanted} did not come back")


made = call("POST", "/api/keys", {"name": "consumer", "scopes": ["topics"]})
sqs = client(made["id"], made["key"], made["key"])
call("PUT", "/api/topics/sqs-jobs/groups/workers.fifo", {"maxAttempts": 2})
call("PUT", "/api/topics/sqs-jobs/groups/audit", {})

# Queues.
queue = sqs.get_queue_url(QueueName="sqs-jobs/workers.fifo")["QueueUrl"]
assert queue.endswith("/sqs/sqs-jobs/workers.fifo"), queue
assert queue in sqs.list_queues(QueueNamePrefix="sqs-jobs/")["QueueUrls"]
pages = sqs.get_paginator("list_queues").paginate(QueueNamePrefix="sqs-jobs/", PaginationConfig={"PageSize": 1})
assert len([url for page in pages for url in page.get("QueueUrls", [])]) == 2
assert code_of(lambda: sqs.get_queue_url(QueueName="sqs-jobs/none")) == "AWS.SimpleQueueService.NonExistentQueue"
try:
    sqs.receive_message(QueueUrl=queue[:-4])
    raise AssertionError("there is no such queue")
except sqs.exceptions.QueueDoesNotExist:
    pass

# Sent, received, kept for longer, deleted.
attributes = {"trace": {"DataType": "String", "StringValue": "é"}, "raw": {"DataType": "Binary", "BinaryValue": b"\x00\xff"}}
text = "{\"order\": 7, \"name\": \"Zoë\"}"
sent = sqs.send_message(QueueUrl=queue, MessageBody=text, MessageGroupId="ann", MessageAttributes=attributes)
assert sent["MD5OfMessageBody"] == hashlib.md5(text.encode()).hexdigest()
(message,) = receive(queue, AttributeNames=["All"], MessageAttributeNames=["All"], VisibilityTimeout=30)
assert message["Body"] == text and message["MessageId"] == sent["MessageId"], message
assert message["MD5OfBody"] == sent["MD5OfMessageBody"]
assert message["MD5OfMessageAttributes"] == sent["MD5OfMessageAttributes"]
assert message["MessageAttributes"] == attributes, message
assert message["Attributes"]["MessageGroupId"] == "ann" and message["Attributes"]["ApproximateReceiveCount"] == "1"
counts = sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=["All"])["Attributes"]
assert counts["ApproximateNumberOfMessages"] == "0" and counts["ApproximateNumberOfMessagesNotVisible"] == "1", counts
assert counts["FifoQueue"] == "true" and json.loads(counts["RedrivePolicy"])["maxReceiveCount"] == 2, counts
sqs.change_message_visibility(QueueUrl=queue, ReceiptHandle=message["ReceiptHandle"], VisibilityTimeout=60)
for _ in range(2):
    sqs.delete_message(QueueUrl=queue, ReceiptHandle=message["ReceiptHandle"])
assert receive(queue) == []

# Every group of the topic has it.
audit = queue.replace("workers.fifo", "audit")
assert [message["Body"] for message in receive(audit)] == [text]

# In order for each group id; what is given back, or not finished in time, comes again, and at last not any more.
entries = [{"Id": str(number), "MessageBody": body, "MessageGroupId": body[0]} for number, body in enumerate(["a1", "a2", "b1"])]
batch = sqs.send_message_batch(QueueUrl=queue, Entries=entries)
assert len(batch["Successful"]) == 3 and not batch.get("Failed"), batch
first = receive(queue, VisibilityTimeout=1)
assert [message["Body"] for message in first] == ["a1", "b1"], first
done = [{"Id": "b", "ReceiptHandle": first[1]["ReceiptHandle"]}, {"Id": "no", "ReceiptHandle": "no"}]
deleted = sqs.delete_message_batch(QueueUrl=queue, Entries=done)
assert [one["Id"] for one in deleted["Successful"]] == ["b"]
assert [one["Code"] for one in deleted["Failed"]] == ["ReceiptHandleIsInvalid"], deleted
(again,) = eventually(queue, ["a1"], AttributeNames=["ApproximateReceiveCount"], VisibilityTimeout=30)
assert again["Attributes"] == {"ApproximateReceiveCount": "2"}
late = first[0]["ReceiptHandle"]
assert code_of(lambda: sqs.delete_message(QueueUrl=queue, ReceiptHandle=late)) == "InvalidParameterValue"
late_change = lambda: sqs.change_message_visibility(QueueUrl=queue, ReceiptHandle=late, VisibilityTimeout=5)
assert code_of(late_change) == "AWS.SimpleQueueService.MessageNotInflight"
entry = {"Id": "a", "ReceiptHandle": again["ReceiptHandle"], "VisibilityTimeout": 0}
assert len(sqs.change_message_visibility_batch(QueueUrl=queue, Entries=[entry])["Successful"]) == 1
(other,) = eventually(queue, ["a2"], VisibilityTimeout=30)
dead = urllib.request.Request(
    f"{BASE}/api/topics/sqs-jobs/groups/workers.fifo/dead-letters", headers={"authorization": f"Bearer {ADMIN}"}
)
with urllib.request.urlopen(dead) as answer:
    letters = json.load(answer)["deadLetters"]
assert [letter["message"]["data"] for letter in letters] == ["a1"], letters
sqs.delete_message(QueueUrl=queue, ReceiptHandle=other["ReceiptHandle"])

# Once within five minutes, and later. A window of five minutes may end in between, but not twice.
def sent_twice():
    once = {"QueueUrl": queue, "MessageBody": "once", "MessageGroupId": "c", "MessageDeduplicationId": os.urandom(8).hex()}
    return sqs.send_message(**once)["MessageId"] == sqs.send_message(**once)["MessageId"]


assert sent_twice() or sent_twice()
for message in receive(queue, VisibilityTimeout=30):
    sqs.delete_message(QueueUrl=queue, ReceiptHandle=message["ReceiptHandle"])
for message in receive(queue, VisibilityTimeout=30):
    sqs.delete_message(QueueUrl=queue, ReceiptHandle=message["ReceiptHandle"])
sent = sqs.send_message(QueueUrl=queue, MessageBody="later", DelaySeconds=2, MessageGroupId="d")
assert receive(queue) == []
(message,) = eventually(queue, ["later"])
sqs.delete_message(QueueUrl=queue, ReceiptHandle=message["ReceiptHandle"])

# Who waits is answered when a message comes, and not before the time is over if none does.
began = time.monotonic()
assert receive(queue, WaitTimeSeconds=2) == []
assert 1.5 < time.monotonic() - began < 10, time.monotonic() - began
sender = threading.Timer(1.0, lambda: sqs.send_message(QueueUrl=queue, MessageBody="now", MessageGroupId="e"))
began = time.monotonic()
sender.start()
(message,) = receive(queue, WaitTimeSeconds=20)
waited = time.monotonic() - began
assert message["Body"] == "now" and 0.5 < waited < 10, waited
sender.join()

# Who is not known, or signs with something else, is refused.
asked = lambda other: code_of(lambda: other.list_queues())
assert asked(client(made["id"], made["key"], None)) == "InvalidClientTokenId"
assert asked(client(made["id"], "another", made["key"])) == "SignatureDoesNotMatch"
assert asked(client("another", made["key"], made["key"])) == "InvalidClientTokenId"
other = call("POST", "/api/keys", {"name": "links", "scopes": ["links"]})
assert asked(client(other["id"], other["key"], other["key"])) == "AccessDenied"
assert code_of(lambda: sqs.create_queue(QueueName="x")) == "AWS.SimpleQueueService.UnsupportedOperation"
assert code_of(lambda: sqs.receive_message(QueueUrl=queue, MaxNumberOfMessages=11)) == "InvalidParameterValue"
print("the session is over")
