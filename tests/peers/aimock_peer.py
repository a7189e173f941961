"""aimock: the three wire formats as another's server speaks them, with its faults and physics.

Each case is a model of its own at aimock and a route of its own at Holdfast, named KIND/CASE; so no
case sees another's breaker or cooldown. The spare model answers where a case's own may fail.
"""

import json
import shutil
import sys
import tempfile
import urllib.request

import grpc
from google.rpc import error_details_pb2, status_pb2
from holdfast.v1 import admin_pb2, generate_pb2

from checks import ROOT, Checks, Holdfast, Process

KINDS = ("openai", "anthropic", "gemini")
KEY = "sk-peer-0123456789"
TEXT = 'The sky is blue: Rayleigh scattering. Voilà, "quoted" \\ and \n日本語 ✓ done.'
EMOJI = "Blue 🙂 sky 🌍 and sea 🧜‍♀️."
STORY = " ".join(f"word{i}" for i in range(60))
SPARE = "This is the spare model."
USAGE = {"prompt_tokens": 11, "completion_tokens": 7, "total_tokens": 18}
ARGUMENTS = {"city": "Zürich", "days": [1, 2], "note": 'a "quoted" {brace}'}
SCHEMA = json.dumps({"type": "object", "properties": {"city": {"type": "string"}},
                     "required": ["city"], "additionalProperties": False})

# Status, error, and what Holdfast must make of it; in the words of the real providers.
ERRORS = {
    "openai": {
        "bad_request": (400, {"message": "Unsupported parameter: 'frobnicate'",
                              "type": "invalid_request_error", "code": "unsupported_parameter"},
                        "bad_request"),
        "too_long": (400, {"message": "This model's maximum context length is 8192 tokens.",
                           "type": "invalid_request_error", "code": "context_length_exceeded"},
                     "context_length"),
        "filtered": (400, {"message": "The response was filtered due to the prompt triggering "
                                      "Azure OpenAI's content management policy.",
                           "type": "invalid_request_error", "code": "content_filter"}, "refusal"),
        "quota": (429, {"message": "You exceeded your current quota, please check your plan.",
                        "type": "insufficient_quota", "code": "insufficient_quota"}, "quota"),
        "auth": (401, {"message": "Incorrect API key provided.", "type": "invalid_request_error",
                       "code": "invalid_api_key"}, "auth"),
        "region": (403, {"message": "Country, region, or territory not supported",
                         "type": "request_forbidden",
                         "code": "unsupported_country_region_territory"}, "auth"),
        "not_found": (404, {"message": "The model `not_found` does not exist",
                            "type": "invalid_request_error", "code": "model_not_found"},
                      "model_not_found"),
        "server_error": (500, {"message": "The server had an error", "type": "server_error"},
                         "server_error"),
        "overloaded": (503, {"message": "The engine is currently overloaded",
                             "type": "service_unavailable"}, "overloaded"),
        "rate_limited": (429, {"message": "Rate limit reached for requests", "type": "requests",
                               "code": "rate_limit_exceeded"}, "rate_limited"),
    },
    "anthropic": {
        "bad_request": (400, {"message": "frobnicate: Extra inputs are not permitted",
                              "type": "invalid_request_error"}, "bad_request"),
        "too_long": (400, {"message": "prompt is too long: 210000 tokens > 200000 maximum",
                           "type": "invalid_request_error"}, "context_length"),
        "filtered": (400, {"message": "Output blocked by content filtering policy",
                           "type": "invalid_request_error"}, "refusal"),
        "quota": (400, {"message": "Your credit balance is too low to access the Anthropic API.",
                        "type": "invalid_request_error"}, "quota"),
        "auth": (401, {"message": "invalid x-api-key", "type": "authentication_error"}, "auth"),
        "region": (403, {"message": "Request not allowed", "type": "forbidden"}, "auth"),
        "not_found": (404, {"message": "model: not_found", "type": "not_found_error"},
                      "model_not_found"),
        "server_error": (500, {"message": "Internal server error", "type": "api_error"},
                         "server_error"),
        "overloaded": (529, {"message": "Overloaded", "type": "overloaded_error"}, "overloaded"),
        "rate_limited": (429, {"message": "This request would exceed the rate limit",
                               "type": "rate_limit_error"}, "rate_limited"),
    },
    "gemini": {
        "bad_request": (400, {"message": "Invalid JSON payload. Unknown name \"frobnicate\"",
                              "type": "INVALID_ARGUMENT"}, "bad_request"),
        "too_long": (400, {"message": "The input token count (1300000) exceeds the maximum number "
                                      "of tokens allowed (1048576).",
                           "type": "INVALID_ARGUMENT"}, "context_length"),
        "quota": (403, {"message": "This API method requires billing to be enabled. Please enable "
                                   "billing on project.", "type": "PERMISSION_DENIED"}, "quota"),
        "auth": (400, {"message": "API key not valid. Please pass a valid API key.",
                       "type": "INVALID_ARGUMENT"}, "auth"),
        "region": (400, {"message": "User location is not supported for the API use.",
                         "type": "FAILED_PRECONDITION"}, "auth"),
        "not_found": (404, {"message": "models/not_found is not found for API version v1beta",
                            "type": "NOT_FOUND"}, "model_not_found"),
        "server_error": (500, {"message": "An internal error has occurred.", "type": "INTERNAL"},
                         "server_error"),
        "overloaded": (503, {"message": "The model is overloaded. Please try again later.",
                             "type": "UNAVAILABLE"}, "overloaded"),
        "rate_limited": (429, {"message": "Resource has been exhausted (e.g. check quota).",
                               "type": "RESOURCE_EXHAUSTED"}, "rate_limited"),
    },
}
OF_THE_CREDENTIAL = ("quota", "auth", "region")  # these rest every model of a provider entry
CHAOS = {"dropped": "dropRate", "malformed": "malformedRate", "throttled": "rateLimitRate",
         "disconnected": "disconnectRate"}
# Cases with a spare model, and their timers.
SPARED = {"late": {"first_token": "300ms"}, "silent": {"first_token": "300ms"}}
SPARED.update({case: {} for case in CHAOS})


def fixtures():
    """What aimock answers; the first that matches."""

    def on(model, response, match=None, **options):
        return {"match": {"model": model, **(match or {})}, "response": response, **options}

    def text(content, **overrides):
        return {"content": content, "usage": USAGE, **overrides}

    def call(identifier, name, arguments):
        return {"id": identifier, "name": name, "arguments": arguments}

    weather = [call("call_a", "get_weather", ARGUMENTS), call("call_b", "get_weather",
                                                             {"city": "Oslo"})]
    oslo = json.dumps({"city": "Oslo"})
    made = [
        on("spare", text(SPARE)),
        on("text", text(TEXT), chunkSize=3),
        on("emoji", text(EMOJI), chunkSize=1),
        on("length", text("Cut he", finishReason="length")),
        on("stopped_by_filter", text("So far", finishReason="content_filter")),
        on("refused", text("I will not.", finishReason="refusal")),
        on("thinking", text("42", reasoning="Let me think about it.", redactedThinking=["b3Bh"])),
        on("empty", text("")),
        on("tools", text("It is cold."), {"hasToolResult": True,
                                          "toolResultContains": "12 degrees"}),
        on("tools", {"toolCalls": weather, "usage": USAGE}, {"toolName": "get_weather"},
           chunkSize=5),
        on("mixed", {"blocks": [{"type": "text", "text": "Let me look."},
                                {"type": "toolCall", **weather[0]}], "usage": USAGE}, chunkSize=4),
        on("no_arguments", {"toolCalls": [call("call_n", "now", {})], "usage": USAGE}),
        on("json", text(oslo), {"responseFormat": "json_schema"}),
        on("json", {"toolCalls": [call("call_j", "place", {"city": "Oslo"})], "usage": USAGE},
           {"toolName": "place"}),
        on("json", text(oslo)),
        on("not_json", text("Oslo, I guess")),
        on("request", text("heard"), {"systemMessage": ["Be brief.", "Be kind."],
                                      "userMessage": "third"}),
        on("flaky", {"error": {"message": "hiccup", "type": "api_error"}, "status": 500},
           {"sequenceIndex": 0}),
        on("flaky", text(TEXT), {"sequenceIndex": 1}),
        on("wait", {"error": {"message": "slow down", "type": "rate_limit_error"}, "status": 429,
                    "retryAfter": 1}, {"sequenceIndex": 0}),
        on("wait", text(TEXT), {"sequenceIndex": 1}),
        on("physics", text(STORY), streamingProfile={"ttft": 200, "tps": 150, "jitter": 0.2}),
        on("late", text(STORY), streamingProfile={"ttft": 20000, "tps": 100}),
        on("stalled", text(STORY), recordedTimings={
            "ttftMs": 0, "interChunkDelaysMs": [0, 0, 0, 20000], "totalDurationMs": 20000}),
        on("silent", text(STORY), recordedTimings={
            "ttftMs": 0, "interChunkDelaysMs": [20000], "totalDurationMs": 20000}),
        # Without a delay the connection is gone before its first byte.
        on("truncated", text(STORY), truncateAfterChunks=5, latency=20),
        on("hung_up", text(STORY), latency=30, disconnectAfterMs=300),
        on("drip", text(STORY), latency=200),
    ]
    for case, rate in CHAOS.items():
        made.append(on(case, text(TEXT), chaos={rate: 1}))
    made += [
        on("router", {**text("routed"), "usage": {
            **USAGE, "cost": 0.001, "prompt_tokens_details": {"cached_tokens": 4},
            "completion_tokens_details": {"reasoning_tokens": 3}}}, openRouterProcessing=True),
        on("router_limited", {"error": {"message": "Rate limited upstream"}, "status": 429,
                              "retryAfter": 30}),
    ]
    # The errors of a kind are found by the model's name too, so that carries the kind.
    for kind in KINDS:
        for case, (status, error, _) in ERRORS[kind].items():
            made.append(on(f"{kind}-{case}", {"error": error, "status": status, "retryAfter": 30}))
    return made


def configuration(url):
    providers, routes = [], []

    def provider(name, kind, base=None, key="${PEER_KEY}", **more):
        base = base or url + ("/v1" if kind == "openai" else "")
        providers.append({"name": name, "kind": kind, "base_url": base, "api_key": key,
                          "headers": {"x-test-id": name}, **more})

    def route(name, steps, timeouts=None, **more):
        chain = [{"provider": p, "model": m, **({"timeouts": timeouts} if timeouts else {})}
                 for p, m in steps]
        routes.append({"name": name, "chain": chain, "cache": {"enabled": False},
                       "timeout": "10s", "min_useful": "200ms",
                       "retry": {"base": "1ms", "cap": "1ms", "max_retries": 1}, **more})

    alone = ["text", "emoji", "length", "stopped_by_filter", "refused", "thinking", "empty",
             "tools", "mixed", "no_arguments", "json", "not_json", "request", "flaky", "wait",
             "physics", "unknown_model"]
    for kind in KINDS:
        provider(kind, kind)
        for case in alone:
            route(f"{kind}/{case}", [(kind, case)])
        for case in ("truncated", "hung_up", "stalled", "drip"):
            route(f"{kind}/{case}", [(kind, case)], {"idle": "400ms"},
                  retry={"max_retries": 0})
        for case, timeouts in SPARED.items():
            route(f"{kind}/{case}", [(kind, case), (kind, "spare")], timeouts,
                  retry={"base": "1ms", "cap": "1ms", "max_retries": 1, "prefer_wait": "0s"})
        for case in ERRORS[kind]:
            entry = f"{kind}-{case}" if case in OF_THE_CREDENTIAL else kind
            if entry != kind:
                provider(entry, kind)
            route(f"{kind}/{case}", [(entry, f"{kind}-{case}"), (kind, "spare")])
        provider(f"{kind}-wrong-key", kind, key="sk-peer-wrong-key-0000")
        route(f"{kind}/wrong_key", [(f"{kind}-wrong-key", "text"), (kind, "spare")])

    provider("azure", "openai", url, api_key_header="api-key",
             path="/openai/deployments/{model}/chat/completions?api-version=2024-10-21")
    route("azure", [("azure", "text")])
    provider("openrouter", "openai", url + "/api/v1")
    route("openrouter", [("openrouter", "router")])
    route("openrouter/limited", [("openrouter", "router_limited"), ("openai", "spare")])
    provider("vertex", "gemini", url, api_key_header="authorization",
             path="/v1/projects/p/locations/l/publishers/google/models/{model}"
                  ":streamGenerateContent?alt=sse")
    route("vertex", [("vertex", "text")])
    return {"providers": providers, "routes": routes}


checks = Checks()
work = tempfile.TemporaryDirectory(prefix="aimock-")
with open(f"{work.name}/fixtures.json", "w") as file:
    json.dump({"fixtures": fixtures()}, file)
with open(f"{work.name}/aimock.json", "w") as file:
    json.dump({"llm": {"fixtures": f"{work.name}/fixtures.json", "logLevel": "warn"},
               "auth": {"apiKeys": [KEY]}}, file)
cli = ROOT / "build/peers/npm/node_modules/@copilotkit/aimock/dist/aimock-cli.js"
node = shutil.which("node") or sys.exit("FAIL there is no node")
aimock = Process("aimock", [node, cli, "--config", f"{work.name}/aimock.json"])
url = aimock.wait_for(r"listening on (\S+)").rstrip("/")
holdfast = Holdfast("holdfast-aimock", configuration(url), env={"PEER_KEY": KEY})
channel = grpc.insecure_channel(holdfast.address)
admin_channel = grpc.insecure_channel(holdfast.admin)
call_generate = channel.unary_unary(
    "/holdfast.v1.GenerateService/Generate",
    request_serializer=generate_pb2.GenerateRequest.SerializeToString,
    response_deserializer=generate_pb2.GenerateResponse.FromString)
call_status = admin_channel.unary_unary(
    "/holdfast.v1.AdminService/GetStatus",
    request_serializer=admin_pb2.GetStatusRequest.SerializeToString,
    response_deserializer=admin_pb2.GetStatusResponse.FromString)


def generate(route, messages="Why is the sky blue?", timeout=15, **fields):
    """The response, or the error."""
    if isinstance(messages, str):
        messages = [{"role": "user", "content": messages}]
    request = generate_pb2.GenerateRequest(route=route, messages=messages, **fields)
    try:
        return call_generate(request, timeout=timeout)
    except grpc.RpcError as error:
        return error


def outcomes(response):
    """One word an attempt; of an error, those in its details."""
    if isinstance(response, grpc.RpcError):
        attempts = detail(response, generate_pb2.FailedAttempts).attempts
    else:
        attempts = response.attempts
    return [attempt.outcome for attempt in attempts]


def detail(error, kind):
    """The detail of that kind in a status, empty where there is none."""
    found = kind()
    for key, value in error.trailing_metadata() or ():
        if key == "grpc-status-details-bin":
            for packed in status_pb2.Status.FromString(value).details:
                packed.Unpack(found)
    return found


def answered(name, response):
    if isinstance(response, grpc.RpcError):
        return checks.that(f"{name}: an answer", False, f"{response.code()}: {response.details()}")
    return True


def finish(response):
    return generate_pb2.FinishReason.Name(response.finish_reason).removeprefix("FINISH_REASON_")


def rung(response):
    return generate_pb2.Degradation.Name(response.degradation).removeprefix("DEGRADATION_")


def usage(response):
    count = response.usage
    return (count.input_tokens, count.cached_input_tokens, count.output_tokens,
            count.reasoning_tokens)


def journal(test_id, model):
    """What aimock was asked for a model by a provider entry, oldest first."""
    request = urllib.request.Request(f"{url}/__aimock/journal?testId={test_id}",
                                     headers={"authorization": f"Bearer {KEY}"})
    with urllib.request.urlopen(request) as reply:
        entries = json.load(reply)
    return [entry for entry in entries if (entry["body"] or {}).get("model") == model]


def check_text(kind):
    response = generate(f"{kind}/text")
    if answered(f"{kind} text", response):
        checks.equal(f"{kind} text: every character", response.message.content, TEXT)
        checks.equal(f"{kind} text: the finish reason", finish(response), "STOP")
        checks.equal(f"{kind} text: usage", usage(response), (11, 0, 7, 0))
        checks.equal(f"{kind} text: one attempt", outcomes(response), ["complete"])
        checks.equal(f"{kind} text: the rung", rung(response), "NONE")
        checks.equal(f"{kind} text: the status", response.attempts[0].http_status, 200)
    for case, content, reason, outcome in (
        ("emoji", EMOJI, "STOP", "complete"),
        ("length", "Cut he", "LENGTH", "complete"),
        ("thinking", "42", "STOP", "complete"),
        ("physics", STORY, "STOP", "complete"),
        *((("stopped_by_filter", "So far", "CONTENT_FILTER", "refusal"),) if kind != "anthropic"
          else (("refused", "I will not.", "REFUSAL", "refusal"),)),
    ):
        response = generate(f"{kind}/{case}")
        if answered(f"{kind} {case}", response):
            checks.equal(f"{kind} {case}: the answer", response.message.content, content)
            checks.equal(f"{kind} {case}: the finish reason", finish(response), reason)
            checks.equal(f"{kind} {case}: the outcome", outcomes(response), [outcome])


def check_tools(kind):
    weather = {"name": "get_weather", "description": "Tells the weather.",
               "parameters_json_schema": SCHEMA}
    response = generate(f"{kind}/tools", tools=[weather])
    if not answered(f"{kind} tools", response):
        return
    calls = [part.tool_call for part in response.message.parts if part.HasField("tool_call")]
    checks.equal(f"{kind} tools: the finish reason", finish(response), "TOOL_CALLS")
    checks.equal(f"{kind} tools: both calls, arguments whole",
                 [(c.name, json.loads(c.arguments)) for c in calls],
                 [("get_weather", ARGUMENTS), ("get_weather", {"city": "Oslo"})])
    checks.equal(f"{kind} tools: their ids", [c.id for c in calls], ["call_a", "call_b"])
    checks.equal(f"{kind} tools: usage", usage(response), (11, 0, 7, 0))

    results = [{"tool_result": {"tool_call_id": c.id, "content": f"{10 + 2 * i} degrees"}}
               for i, c in enumerate(calls)]
    response = generate(f"{kind}/tools", tools=[weather], messages=[
        {"role": "user", "content": "Is it cold?"}, response.message,
        {"role": "tool", "parts": results}])
    if answered(f"{kind} tool results", response):
        checks.equal(f"{kind} tool results: the answer", response.message.content, "It is cold.")

    response = generate(f"{kind}/mixed", tools=[weather])
    if answered(f"{kind} mixed", response):
        checks.equal(f"{kind} mixed: text, then the call",
                     [p.text or json.loads(p.tool_call.arguments) for p in response.message.parts],
                     ["Let me look.", ARGUMENTS])
    response = generate(f"{kind}/no_arguments", tools=[{"name": "now"}])
    if answered(f"{kind} no arguments", response):
        checks.equal(f"{kind} no arguments: an empty object",
                     [p.tool_call.arguments for p in response.message.parts], ["{}"])


def check_json(kind):
    wanted = {"kind": "KIND_JSON_SCHEMA", "json_schema": SCHEMA, "name": "place"}
    response = generate(f"{kind}/json", response_format=wanted)
    if answered(f"{kind} json", response):
        checks.equal(f"{kind} json: the object", json.loads(response.message.content),
                     {"city": "Oslo"})
        checks.equal(f"{kind} json: the finish reason", finish(response), "STOP")
    if kind != "anthropic":
        response = generate(f"{kind}/not_json", response_format=wanted)
        checks.equal(f"{kind} json: text in its place is found out", outcomes(response),
                     ["invalid_json", "invalid_json"])


def check_request(kind):
    response = generate(
        f"{kind}/request",
        messages=[{"role": "system", "content": "Be brief."}, {"role": "user", "content": "first"},
                  {"role": "assistant", "content": "second"},
                  {"role": "system", "content": "Be kind."},
                  {"role": "user", "parts": [{"text": "third"}, {"image": {
                      "data": b"\x89PNG", "mime_type": "image/png"}}]}],
        temperature=0.5, top_p=0.25, max_output_tokens=77, stop=["END"])
    if not answered(f"{kind} request", response):
        return
    checks.equal(f"{kind} request: understood", response.message.content, "heard")
    asked = journal(kind, "request")[0]
    body = asked["body"]
    checks.equal(f"{kind} request: the settings",
                 (body["stream"], body["temperature"], body["max_tokens"]), (True, 0.5, 77))
    checks.equal(f"{kind} request: the turns",
                 [m["role"] for m in body["messages"] if m["role"] != "system"],
                 ["user", "assistant", "user"])
    headers = asked["headers"]
    checks.that(f"{kind} request: an idempotency key and no attempt number",
                headers.get("idempotency-key") and "x-holdfast-attempt" not in headers, headers)
    if kind == "openai":
        checks.equal("openai request: usage is asked for", body["stream_options"],
                     {"include_usage": True})
        checks.equal("openai request: the image", body["messages"][-1]["content"][1],
                     {"type": "image_url",
                      "image_url": {"url": "data:image/png;base64,iVBORw=="}})
    if kind == "anthropic":
        checks.equal("anthropic request: the API's version", headers.get("anthropic-version"),
                     "2023-06-01")


def check_retries(kind):
    response = generate(f"{kind}/flaky")
    if answered(f"{kind} flaky", response):
        checks.equal(f"{kind} flaky: a 500, then the answer", outcomes(response),
                     ["server_error", "complete"])
        checks.equal(f"{kind} flaky: the answer", response.message.content, TEXT)
        asked = [entry["headers"] for entry in journal(kind, "flaky")]
        checks.equal(f"{kind} flaky: the attempt's number",
                     [headers.get("x-holdfast-attempt") for headers in asked], [None, "2"])
        checks.equal(f"{kind} flaky: one idempotency key",
                     len({headers.get("idempotency-key") for headers in asked}), 1)
    response = generate(f"{kind}/wait")
    if answered(f"{kind} wait", response):
        checks.equal(f"{kind} wait: a 429, then the answer", outcomes(response),
                     ["rate_limited", "complete"])
        waited = response.attempts[1].delay_before.ToMilliseconds()
        checks.that(f"{kind} wait: as long as Retry-After says, not the longer reset",
                    1000 <= waited <= 1150, f"{waited} ms")


def check_errors(kind):
    for case, (status, error, outcome) in ERRORS[kind].items():
        name = f"{kind} {case}"
        response = generate(f"{kind}/{case}")
        if outcome == "bad_request":
            if checks.that(f"{name}: an error", isinstance(response, grpc.RpcError), response):
                checks.equal(f"{name}: the status", response.code(),
                             grpc.StatusCode.INVALID_ARGUMENT)
                checks.that(f"{name}: the provider's reason",
                            error["message"] in response.details(), response.details())
                checks.equal(f"{name}: the reason",
                             detail(response, error_details_pb2.ErrorInfo).reason,
                             "PROVIDER_REJECTED")
                checks.equal(f"{name}: the outcome", outcomes(response), [outcome])
            continue
        if not answered(name, response):
            continue
        first = response.attempts[0]
        checks.equal(f"{name}: the outcome", first.outcome, outcome)
        checks.equal(f"{name}: the status and the provider's words",
                     (first.http_status, first.error), (status, error["message"]))
        if outcome == "refusal":
            checks.equal(f"{name}: is final", (len(response.attempts), finish(response)),
                         (1, "CONTENT_FILTER"))
            continue
        tried = 2 if outcome == "server_error" else 1
        checks.equal(f"{name}: then the spare model", outcomes(response)[tried:], ["complete"])
        checks.equal(f"{name}: its answer", response.message.content, SPARE)
    for entry, reason, within in (
        # aimock puts a Retry-After on every 429, and OpenAI's quota is one.
        (f"{kind}-quota", "quota", (20, 30) if kind == "openai" else (800, 900)),
        (kind, "rate_limited", (20, 30)),
    ):
        states = call_status(admin_pb2.GetStatusRequest(provider=entry)).targets
        case = "rate_limited" if entry == kind else "quota"
        state = next(s for s in states if s.target.model == f"{kind}-{case}")
        rest = max(state.cooldown.ToMilliseconds(), state.credential_cooldown.ToMilliseconds())
        checks.that(f"{kind} {reason}: the cooldown", within[0] <= rest / 1000 <= within[1],
                    f"{rest} ms")
    response = generate(f"{kind}/wrong_key")
    if answered(f"{kind} wrong key", response):
        checks.equal(f"{kind} wrong key: the outcome", outcomes(response), ["auth", "complete"])
        checks.that(f"{kind} wrong key: it is not shown", "wrong-key" not in str(response.attempts[0].error),
                    response.attempts[0].error)
    response = generate(f"{kind}/unknown_model", worst_acceptable="DEGRADATION_NONE")
    checks.equal(f"{kind} unknown model: the outcome", outcomes(response), ["model_not_found"])


def check_faults(kind):
    for case, outcome, attempts in (
        ("dropped", "server_error", 2), ("malformed", "malformed", 2),
        ("throttled", "rate_limited", 1), ("disconnected", "connect", 2),
        ("late", "timeout", 1),
        # Gemini's first chunk has content; the others' has none, and must not count as such.
        *((("silent", "timeout", 1),) if kind != "gemini" else ()),
    ):
        response = generate(f"{kind}/{case}")
        if answered(f"{kind} {case}", response):
            found = outcomes(response)
            if case == "disconnected" and found[0] == "pooled_reset":
                found.pop(0)  # if a connection was kept, its first reset counts as nothing
            checks.equal(f"{kind} {case}: the outcome", found,
                         [outcome] * attempts + ["complete"])
            checks.equal(f"{kind} {case}: the spare model answers", response.message.content, SPARE)
            checks.equal(f"{kind} {case}: the rung", rung(response), "FALLBACK_MODEL")
    response = generate(f"{kind}/empty")
    checks.equal(f"{kind} empty: an empty 200 is malformed", outcomes(response),
                 ["malformed", "malformed"])
    for case, outcome, deadline in (("truncated", "cut", 15), ("hung_up", "cut", 15),
                                    ("stalled", "timeout", 15), ("drip", "out_of_time", 1.5)):
        response = generate(f"{kind}/{case}", timeout=deadline)
        if not answered(f"{kind} {case}", response):
            continue
        checks.equal(f"{kind} {case}: the outcome", outcomes(response), [outcome])
        text = response.message.content
        checks.that(f"{kind} {case}: the text so far is kept",
                    0 < len(text) < len(STORY) and STORY.startswith(text), text)
        checks.equal(f"{kind} {case}: marked partial, with a notice",
                     (rung(response), response.partial, response.notice != ""),
                     ("PARTIAL", True, True))


def check_relatives():
    """Servers that speak OpenAI's format, or Gemini's, in their own ways."""
    response = generate("azure")
    if answered("azure", response):
        checks.equal("azure: deployments in the path, the key in api-key",
                     response.message.content, TEXT)
    response = generate("vertex")
    if answered("vertex", response):
        checks.equal("vertex: the publisher's path, a bearer token", response.message.content, TEXT)
    response = generate("openrouter")
    if answered("openrouter", response):
        checks.equal("openrouter: comments before the stream", response.message.content, "routed")
        checks.equal("openrouter: cached and reasoning tokens", usage(response), (11, 4, 7, 3))
    response = generate("openrouter/limited")
    if answered("openrouter limited", response):
        checks.equal("openrouter: its error's numeric code", outcomes(response),
                     ["rate_limited", "complete"])


def check_burst():
    request = {kind: generate_pb2.GenerateRequest(
        route=f"{kind}/physics", messages=[{"role": "user", "content": "All at once"}])
        for kind in KINDS}
    calls = [call_generate.future(request[kind], timeout=15) for kind in KINDS for _ in range(30)]
    found = [c.exception() or c.result().message.content for c in calls]
    checks.equal("burst: 90 slow streams at once, each whole", set(found), {STORY})


for kind in KINDS:
    check_text(kind)
    check_tools(kind)
    check_json(kind)
    check_request(kind)
    check_retries(kind)
    check_errors(kind)
    check_faults(kind)
check_relatives()
check_burst()
leaked = [s.target for s in call_status(admin_pb2.GetStatusRequest()).targets
          if s.breaker.leaked or s.limiter.in_flight]
checks.equal("no permit is leaked or held", leaked, [])
channel.close()
admin_channel.close()
checks.equal("the server stops in order", holdfast.stop(), 0)
log = holdfast.process.log.read_text()
checks.that("no key and no prompt in the log", "sk-peer" not in log and "Rayleigh" not in log)
checks.finish()
