"""docs/streaming.md's loop in a program. See ../streaming_peer.py."""

import sys

import grpc
from google.protobuf import json_format
from holdfast.v1 import generate_pb2 as api
from holdfast.v1.generate_pb2_grpc import GenerateServiceStub


def show(response):
    print(json_format.MessageToJson(response, indent=None))


stub = GenerateServiceStub(grpc.insecure_channel(sys.argv[1]))
request = json_format.Parse(sys.argv[2], api.GenerateRequest())
try:
    # SNIPPET
    pass
except grpc.RpcError as error:
    print("error", error.code().value[0])
    sys.exit()
show(finished)
message = api.Message(role="assistant")
if not calls:
    message.content = text
else:
    if text:
        message.parts.add(text=text)
    for index in sorted(calls):
        message.parts.add(tool_call=calls[index])
finished.message.CopyFrom(message)
show(finished)
