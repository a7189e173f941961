"""grpcurl: the API as a person at a shell meets it, by reflection, against the simulated provider."""

import json
import subprocess
import urllib.request

from checks import ROOT, Checks, Holdfast, Process

checks = Checks()
SERVICE = "holdfast.v1.GenerateService"
ADMIN = "holdfast.v1.AdminService"
QUESTION = {"messages": [{"role": "user", "content": "Why is the sky blue?"}]}

simulator = Process("simprovider", [ROOT / "build/bin/simprovider", "--listen", "127.0.0.1:0"])
simulated = "http://" + simulator.wait_for(r"^listening on (\S+)")
holdfast = Holdfast(
    "holdfast-grpcurl",
    {
        "providers": [
            {
                "name": "anthropic",
                "kind": "anthropic",
                "base_url": simulated,
                "api_key": "${PEER_KEY}",
            },
            {"name": "openai", "kind": "openai", "base_url": simulated + "/v1"},
        ],
        "routes": [
            {
                "name": "default",
                "chain": [
                    {"provider": "anthropic", "model": "claude", "price": {"input": 3, "output": 15}},
                    {"provider": "openai", "model": "gpt", "price": {"input": 2, "output": 10}},
                ],
                "retry": {"base": "1ms", "cap": "1ms"},
            }
        ],
    },
    env={"PEER_KEY": "sk-peer-do-not-show"},
)


def grpcurl(address, *what, data=None, options=()):
    """Exit code and all that it said."""
    if data is not None:
        options = [*options, "-d", json.dumps(data)]
    done = subprocess.run(
        ["grpcurl", "-plaintext", *options, address, *what], capture_output=True, text=True
    )
    return done.returncode, done.stdout + done.stderr


def call(address, method, data):
    """The reply, or an empty dictionary where there is none."""
    code, said = grpcurl(address, method, data=data)
    checks.that(f"{method.split('.')[-1]} answers", code == 0, said)
    return json.loads(said) if code == 0 else {}


def set_fault(model, fault):
    request = urllib.request.Request(
        f"{simulated}/sim/faults/{model}", json.dumps(fault).encode(), method="PUT"
    )
    urllib.request.urlopen(request).close()


def clear_faults():
    request = urllib.request.Request(f"{simulated}/sim/faults", method="DELETE")
    urllib.request.urlopen(request).close()


def check_reflection():
    code, said = grpcurl(holdfast.address, "list")
    wanted = {SERVICE, "grpc.health.v1.Health", "grpc.reflection.v1alpha.ServerReflection"}
    checks.that("list: the services of the caller's address", wanted <= set(said.split()), said)
    checks.that("list: AdminService is not among them", ADMIN not in said, said)
    code, said = grpcurl(holdfast.admin, "list")
    checks.that("list: AdminService on its own address", ADMIN in said.split(), said)
    code, said = grpcurl(holdfast.address, "describe", SERVICE)
    checks.that(
        "describe: the service and its method",
        code == 0 and "rpc Generate ( .holdfast.v1.GenerateRequest )" in said,
        said,
    )
    for message in ("GenerateRequest", "GenerateResponse", "FailedAttempts"):
        code, said = grpcurl(holdfast.address, "describe", f"holdfast.v1.{message}")
        checks.that(f"describe: {message}", code == 0 and f"message {message}" in said, said)
    code, said = grpcurl(holdfast.address, "describe", "holdfast.v1.GenerateRequest",
                         options=["-msg-template"])
    checks.that("describe: a template of the request", '"messages": [' in said, said)
    for address in (holdfast.address, holdfast.admin):
        code, said = grpcurl(address, "describe", "grpc.health.v1.Health")
        checks.that(
            "describe: the health service",
            code == 0 and "rpc Check ( .grpc.health.v1.HealthCheckRequest )" in said,
            said,
        )
    code, said = grpcurl(holdfast.admin, "describe", ADMIN)
    checks.that("describe: AdminService", code == 0 and "rpc ExplainPlan" in said, said)


def health(address, method, service):
    return grpcurl(address, f"grpc.health.v1.Health/{method}", data={"service": service},
                   options=["-max-time", "2"])


def check_health():
    for address, service in ((holdfast.address, ""), (holdfast.address, SERVICE),
                             (holdfast.admin, ADMIN)):
        code, said = health(address, "Check", service)
        checks.that(f"health: Check of '{service}' says SERVING",
                    code == 0 and '"status": "SERVING"' in said, said)
    code, said = grpcurl(holdfast.address, "grpc.health.v1.Health/Check")
    checks.that("health: Check without data", '"status": "SERVING"' in said, said)
    code, said = health(holdfast.address, "Check", "no.such")
    checks.that("health: an unknown service is NOT_FOUND", "Code: NotFound" in said, said)
    code, said = health(holdfast.address, "Watch", SERVICE)
    checks.that("health: Watch says SERVING and stays open",
                '"status": "SERVING"' in said and "Code: DeadlineExceeded" in said, said)


def check_generate():
    # As the README has it, to the letter.
    done = subprocess.run(
        """grpcurl -plaintext -d '{"messages":[{"role":"user","content":"Why is the sky blue?"}]}' """
        f"{holdfast.address} {SERVICE}/Generate",
        shell=True,
        capture_output=True,
        text=True,
    )
    if not checks.that("Generate: the README's call works", done.returncode == 0, done.stderr):
        return
    reply = json.loads(done.stdout)
    checks.equal("Generate: the role", reply["message"]["role"], "assistant")
    checks.that("Generate: some text", len(reply["message"]["content"]) > 0, reply)
    checks.equal("Generate: the rung", reply["degradation"], "DEGRADATION_NONE")
    checks.equal("Generate: the finish reason", reply["finish_reason"], "FINISH_REASON_STOP")
    checks.equal("Generate: who served it", reply["served_by"],
                 {"provider": "anthropic", "model": "claude"})
    checks.that("Generate: usage and cost",
                int(reply["usage"]["output_tokens"]) > 0 and reply["cost_usd"] > 0, reply)
    checks.that("Generate: a request id and a time budget",
                reply["request_id"] != "" and reply["time_budget"]["total"] == "30s", reply)
    checks.equal("Generate: one attempt", [a["outcome"] for a in reply["attempts"]], ["complete"])

    snake_case = {"messages": [{"role": "user", "parts": [{"text": "Hi"}]}], "max_output_tokens": 5,
                  "temperature": 0, "request_id": "from-grpcurl"}
    reply = call(holdfast.address, f"{SERVICE}/Generate", snake_case)
    checks.equal("Generate: names in snake_case work too", reply.get("request_id"), "from-grpcurl")
    checks.equal("Generate: max_output_tokens holds", reply.get("finish_reason"),
                 "FINISH_REASON_LENGTH")


def wait_for_stores():
    # Answers are stored off the request's path.
    for _ in range(500):
        code, said = grpcurl(holdfast.admin, f"{ADMIN}/GetCacheStats", data={})
        stats = json.loads(said) if code == 0 else {}
        if int(stats.get("stores", 0)) >= 1 and int(stats.get("queued", 0)) == 0:
            return
    checks.that("the first answer is stored", False, said)


def check_ladder():
    wait_for_stores()
    set_fault("claude", {"kind": "status", "status": 500})
    reply = call(holdfast.address, f"{SERVICE}/Generate", QUESTION)
    checks.equal("ladder: the fallback model answers", reply.get("degradation"),
                 "DEGRADATION_FALLBACK_MODEL")
    set_fault("gpt", {"kind": "status", "status": 500})
    reply = call(holdfast.address, f"{SERVICE}/Generate", QUESTION)
    checks.that("ladder: the stored answer, marked stale", reply.get("stale") is True, reply)
    other = {"messages": [{"role": "user", "content": "Name three knots for climbing."}]}
    reply = call(holdfast.address, f"{SERVICE}/Generate", other)
    checks.that("ladder: the notice, marked partial",
                reply.get("partial") is True and reply.get("notice") == reply["message"]["content"],
                reply)
    strict = dict(other, worst_acceptable="DEGRADATION_FALLBACK_MODEL")
    code, said = grpcurl(holdfast.address, f"{SERVICE}/Generate", data=strict)
    for part in ("Code: Unavailable", "google.rpc.ErrorInfo", "ALL_TARGETS_FAILED",
                 "google.rpc.RetryInfo", "holdfast.v1.FailedAttempts"):
        checks.that(f"error: {part}", code != 0 and part in said, said)
    clear_faults()
    for provider, model in (("anthropic", "claude"), ("openai", "gpt")):
        call(holdfast.admin, f"{ADMIN}/SetBreaker",
             {"target": {"provider": provider, "model": model}, "action": "ACTION_RESET"})


def check_errors():
    bad = {"messages": [{"role": "wizard", "content": "Hi"}], "temperature": 3}
    code, said = grpcurl(holdfast.address, f"{SERVICE}/Generate", data=bad)
    for part in ("Code: InvalidArgument", "google.rpc.ErrorInfo", "INVALID_REQUEST",
                 '"domain": "holdfast"', "google.rpc.BadRequest", "messages[0].role", "temperature"):
        checks.that(f"bad request: {part}", code != 0 and part in said, said)
    code, said = grpcurl(holdfast.address, f"{SERVICE}/Generate", data={})
    checks.that("no messages: INVALID_ARGUMENT with the field",
                "Code: InvalidArgument" in said and '"field": "messages"' in said, said)
    set_fault("claude", {"kind": "status", "status": 400, "message": "no such knob: frobnicate"})
    code, said = grpcurl(holdfast.address, f"{SERVICE}/Generate", data=QUESTION)
    checks.that("a provider's 400 is INVALID_ARGUMENT with its reason",
                "Code: InvalidArgument" in said and "PROVIDER_REJECTED" in said
                and "no such knob: frobnicate" in said, said)
    clear_faults()


def check_admin():
    target = {"provider": "anthropic", "model": "claude"}
    status = call(holdfast.admin, f"{ADMIN}/GetStatus", {})
    checks.equal("admin: every target has a state", [t["target"] for t in status.get("targets", [])],
                 [target, {"provider": "openai", "model": "gpt"}])
    checks.that("admin: breakers are closed",
                all(t["breaker"]["state"] == "BREAKER_STATE_CLOSED" for t in status["targets"]),
                status)
    reply = call(holdfast.admin, f"{ADMIN}/SetBreaker", {"target": target,
                                                         "action": "ACTION_FORCE_OPEN"})
    checks.equal("admin: forced open", reply.get("breaker", {}).get("state"),
                 "BREAKER_STATE_FORCED_OPEN")
    reply = call(holdfast.address, f"{SERVICE}/Generate", QUESTION)
    checks.equal("admin: the target is then skipped",
                 [(a.get("skipped", False), a["outcome"]) for a in reply.get("attempts", [])],
                 [(True, "breaker_open"), (False, "complete")])
    reply = call(holdfast.admin, f"{ADMIN}/SetBreaker", {"target": target,
                                                         "action": "ACTION_RESET"})
    checks.equal("admin: reset", reply.get("breaker", {}).get("state"), "BREAKER_STATE_CLOSED")
    code, said = grpcurl(holdfast.admin, f"{ADMIN}/SetBreaker", data={
        "target": {"provider": "anthropic", "model": "nobody"}, "action": "ACTION_RESET"})
    checks.that("admin: an unknown target is NOT_FOUND with its reason",
                "Code: NotFound" in said and "UNKNOWN_TARGET" in said, said)

    stats = call(holdfast.admin, f"{ADMIN}/GetCacheStats", {})
    checks.that("admin: the cache counts", int(stats.get("hits", 0)) >= 1, stats)
    code, said = grpcurl(holdfast.admin, f"{ADMIN}/PurgeCache", data={})
    checks.that("admin: a purge without a condition is refused", "Code: InvalidArgument" in said, said)
    purged = call(holdfast.admin, f"{ADMIN}/PurgeCache", {"everything": True})
    checks.that("admin: the purge counts", int(purged.get("deleted", 0)) >= 1, purged)

    config = call(holdfast.admin, f"{ADMIN}/GetConfig", {}).get("yaml", "")
    checks.that("admin: the configuration, its secret masked",
                "***" in config and "sk-peer-do-not-show" not in config, config)
    plan = call(holdfast.admin, f"{ADMIN}/ExplainPlan", {"deadline": "10s"})
    checks.equal("admin: the plan has the deadline", plan.get("total"), "10s")
    checks.equal("admin: what an outage would give",
                 [s["stage"] for s in plan.get("if_all_hang", [])][:2], ["attempt", "attempt"])


check_reflection()
check_health()
check_generate()
check_ladder()
check_errors()
check_admin()
checks.equal("the server stops in order", holdfast.stop(), 0)
checks.that("no secret in the log", "sk-peer" not in holdfast.process.log.read_text())
checks.finish()
