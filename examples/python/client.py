"""Asks Holdfast one question and shows the answer and how it came to be.

    python3 client.py localhost:50051 "Why is the sky blue?"
"""

import sys

import grpc
from holdfast.v1 import generate_pb2 as api
from holdfast.v1.generate_pb2_grpc import GenerateServiceStub

server, question = sys.argv[1:]
request = api.GenerateRequest(messages=[api.Message(role="user", content=question)])
# One channel serves a whole program, from all its threads.
with grpc.insecure_channel(server) as channel:
    try:
        # The deadline is what Holdfast plans its retries and fallbacks by: say what you can wait.
        answer = GenerateServiceStub(channel).Generate(request, timeout=10)
    except grpc.RpcError as error:
        # Not even a degraded answer; docs/errors.md lists the reasons. Holdfast has retried already.
        sys.exit(f"no answer: {error.code().name}: {error.details()}")

print(answer.message.content)
# A degraded answer is an answer: show it, and say so if it is stale or partial.
print(f"degradation: {api.Degradation.Name(answer.degradation)}")
print(f"served by:   {answer.served_by.provider}/{answer.served_by.model}")
if answer.notice:
    print(f"notice:      {answer.notice}")
for attempt in answer.attempts:
    print(f"attempt:     {attempt.target.provider}/{attempt.target.model}: {attempt.outcome}")
