"""Asks Holdfast one question and shows the answer as it is made, and how it came to be.

    python3 stream.py localhost:50051 "Why is the sky blue?"
"""

import sys

import grpc
from holdfast.v1 import generate_pb2 as api
from holdfast.v1.generate_pb2_grpc import GenerateServiceStub

server, question = sys.argv[1:]
request = api.GenerateRequest(messages=[api.Message(role="user", content=question)])
text = ""
with grpc.insecure_channel(server) as channel:
    try:
        for event in GenerateServiceStub(channel).GenerateStream(request, timeout=10):
            kind = event.WhichOneof("event")
            if kind == "started":
                print(f"started:     {event.started.served_by.model}")
            elif kind == "delta":
                text += event.delta.text
                print(event.delta.text, end="", flush=True)
            elif kind == "continued":
                print(f"\ncontinued:   {event.continued.served_by.model}")
            elif kind == "reset":
                # A program with a screen of its own would take the text away from it.
                text = ""
                print(f"\nreset:       {event.reset.served_by.model}")
            elif kind == "finished":
                answer = event.finished
    except grpc.RpcError as error:
        sys.exit(f"\nno answer: {error.code().name}: {error.details()}")

print(f"\nanswer:      {text}")
print(f"degradation: {api.Degradation.Name(answer.degradation)}")
print(f"served by:   {answer.served_by.provider}/{answer.served_by.model}")
if answer.notice:
    print(f"notice:      {answer.notice}")
