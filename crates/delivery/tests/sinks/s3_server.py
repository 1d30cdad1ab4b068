"""An S3 server for tests, moto's: s3_server.py PORT DIRECTORY BUCKET ACCESS_KEY SECRET_KEY.

What it is given it keeps in the directory, and has it again after a kill. A PUT has to be signed with the key in its URL, as botocore signs.
While there is a file `refuse` in the directory, it takes nothing.
"""

import json
import sys
import time
from pathlib import Path
from urllib.parse import parse_qsl, urlencode

from botocore.auth import S3SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import WSGIRequestHandler, run_simple
from werkzeug.test import Client
from werkzeug.wrappers import Request, Response

port, directory, bucket, access_key, secret_key = sys.argv[1:]
kept = Path(directory) / "kept"
refuse = Path(directory) / "refuse"
moto = DomainDispatcherApplication(create_backend_app)


# What moto wants to see of who reads or overwrites; it checks nothing more.
NAMED = "AWS somebody:unsigned"


def problem(status, code):
    return Response(f"<?xml version=\"1.0\"?><Error><Code>{code}</Code></Error>", status, content_type="application/xml")


def wrong(request):
    """Why the signature of a request is none; nothing if it is one."""
    query = dict(parse_qsl(request.query_string.decode(), keep_blank_values=True))
    given = query.pop("X-Amz-Signature", "")
    key, _, region, service, _ = (query.get("X-Amz-Credential", "") + "////").split("/")[:5]
    if key != access_key or service != "s3":
        return "InvalidAccessKeyId"
    signed = time.strptime(query["X-Amz-Date"] + " UTC", "%Y%m%dT%H%M%SZ %Z")
    if abs(time.time() - (time.mktime(signed) - time.timezone)) > int(query["X-Amz-Expires"]):
        return "AccessDenied"
    asked = AWSRequest("PUT", f"{request.host_url.rstrip('/')}{request.environ['RAW_URI'].split('?')[0]}?{urlencode(query)}")
    asked.context["timestamp"] = query["X-Amz-Date"]
    auth = S3SigV4QueryAuth(Credentials(access_key, secret_key), service, region)
    expected = auth.signature(auth.string_to_sign(asked, auth.canonical_request(asked)), asked)
    return "" if given == expected else "SignatureDoesNotMatch"


def application(environ, start_response):
    request = Request(environ)
    if request.method != "PUT":
        environ["HTTP_AUTHORIZATION"] = NAMED
        return moto(environ, start_response)
    body = request.get_data(cache=True)
    if refuse.exists():
        return problem(503, "SlowDown")(environ, start_response)
    if code := wrong(request):
        return problem(403, code)(environ, start_response)
    headers = {"host": request.host, "content-type": request.content_type, "authorization": NAMED}
    answer = Client(moto, Response).put(request.path, data=body, headers=headers)
    if answer.status_code == 200:
        with kept.open("a") as file:
            file.write(json.dumps([request.path, body.decode()]) + "\n")
    return answer(environ, start_response)


client, headers = Client(moto, Response), {"host": f"127.0.0.1:{port}", "authorization": NAMED}
client.put(f"/{bucket}", headers=headers)
for line in kept.open() if kept.exists() else []:
    path, body = json.loads(line)
    client.put(path, data=body.encode(), headers=headers)
WSGIRequestHandler.protocol_version = "HTTP/1.1"
run_simple("127.0.0.1", int(port), application, threaded=True)
