"""The loops of docs/streaming.md, taken out of the document, compiled and run against Holdfast.

snippets/ has a program for each language that lacks nothing but the loop. It prints `finished` as it
came, and again with the message that the loop has put together; or the error's number.
"""

import json
import os
import pathlib
import re
import shutil
import subprocess
import textwrap
import urllib.request

from checks import ROOT, Checks, Holdfast, Process

checks = Checks()
SNIPPETS = ROOT / "tests/peers/snippets"
PEERS = ROOT / "build/peers"
WORK = PEERS / "snippets"
DOCUMENT = (ROOT / "docs/streaming.md").read_text()


def run(*command, cwd=None, env=None):
    done = subprocess.run([str(c) for c in command], cwd=cwd, env={**os.environ, **(env or {})},
                          capture_output=True, text=True)
    return done.returncode, done.stdout + done.stderr


def write_program(language, name, directory, replace=()):
    """The program `name` with the document's only snippet in that language put in."""
    (snippet,) = re.findall(rf"^```{language}\n(.*?)^```$", DOCUMENT, re.M | re.S)
    for old, new in replace:
        assert snippet.count(old) == 1, (language, old)
        snippet = snippet.replace(old, new)
    program = (SNIPPETS / name).read_text()
    mark = re.search(r"^([ \t]*)(//|#) SNIPPET\n", program, re.M)
    program = program.replace(mark.group(0), textwrap.indent(snippet, mark.group(1)))
    directory.mkdir(parents=True, exist_ok=True)
    (directory / name).write_text(program)


def protoc(*arguments):
    return run("protoc", f"-I{ROOT}/proto", "-I/usr/include", *arguments,
               "holdfast/v1/generate.proto")


def build_python():
    directory = WORK / "python"
    write_program("python", "main.py", directory)
    code, said = run(ROOT / "examples/generate", "python", directory)
    command = ["python3", "-B", directory / "main.py"]
    return code, said, command, {"PYTHONPATH": f"{directory}:{PEERS}/python"}


def build_go():
    directory = WORK / "go"
    # The program wants to show what the loop has read, where the document's returns.
    write_program("go", "main.go", directory,
                  [("return nil //", "return show(finished, text, calls) //")])
    env = {"GOTOOLCHAIN": "local", "GOFLAGS": "-modcacherw -buildvcs=false", "CGO_ENABLED": "0"}
    for name in ("go.mod", "go.sum"):
        shutil.copy(ROOT / "examples/go" / name, directory)
    code, said = run(ROOT / "examples/generate", "go", directory, env=env)
    if code == 0:
        code, said = run("go", "vet", ".", cwd=directory, env=env)
    if code == 0:
        code, said = run("go", "build", "-o", "client", ".", cwd=directory, env=env)
    return code, said, [directory / "client"], {}


def build_java():
    directory = WORK / "java"
    write_program("java", "Main.java", directory)
    plugin = next((PEERS / "java").glob("protoc-gen-grpc-java-*.exe"))
    plugin.chmod(0o755)
    code, said = protoc(f"--java_out={directory}", f"--grpc-java_out={directory}",
                        f"--plugin=protoc-gen-grpc-java={plugin}")
    classes = directory / "classes"
    path = (PEERS / "java/classpath").read_text().strip()
    if code == 0:
        # Warnings are about generated code.
        code, said = run("javac", "-nowarn", "--release", "17", "-cp", path, "-d", classes,
                         *directory.glob("*.java"), *directory.glob("holdfast/v1/*.java"))
    return code, said, ["java", "-cp", f"{classes}:{path}", "Main"], {}


def build_typescript():
    directory = WORK / "ts"
    write_program("ts", "main.ts", directory)
    modules = PEERS / "npm/node_modules"
    if not (directory / "node_modules").exists():
        (directory / "node_modules").symlink_to(modules)
    code, said = protoc(f"--ts_proto_out={directory}",
                        "--ts_proto_opt=outputServices=grpc-js,esModuleInterop=true",
                        f"--plugin=protoc-gen-ts_proto={modules}/.bin/protoc-gen-ts_proto")
    if code == 0:
        code, said = run(modules / ".bin/tsc", "--strict", "--target", "es2022", "--module",
                         "commonjs", "--moduleResolution", "node10", "--esModuleInterop",
                         "--skipLibCheck", "--outDir", "out", "main.ts", cwd=directory)
    return code, said, ["node", directory / "out/main.js"], {}


simulator = Process("simprovider-streaming",
                    [ROOT / "build/bin/simprovider", "--listen", "127.0.0.1:0"])
simulated = "http://" + simulator.wait_for(r"^listening on (\S+)")
FIRST = {"provider": "openai", "model": "first", "price": {"input": 2, "output": 10}}
SECOND = {"provider": "openai", "model": "second", "price": {"input": 2, "output": 10}}
RETRY = {"max_retries": 0}
holdfast = Holdfast("holdfast-streaming", {
    "embedder": {"kind": "hash"},
    "providers": [{"name": "openai", "kind": "openai", "base_url": simulated + "/v1",
                   "breaker": {"consecutive_failures": 100000, "failure_rate": 0,
                               "black_hole": 0}}],
    "routes": [
        {"name": "restarts", "chain": [FIRST, SECOND], "retry": RETRY, "cache": {"enabled": False}},
        {"name": "continues", "chain": [FIRST, {**SECOND, "can_continue": True}], "retry": RETRY,
         "cache": {"enabled": False}},
        {"name": "single", "chain": [FIRST], "retry": RETRY, "cache": {"enabled": False}},
    ],
})


def set_fault(fault):
    request = urllib.request.Request(f"{simulated}/sim/faults/first", json.dumps(fault).encode(),
                                     method="PUT")
    urllib.request.urlopen(request).close()


TOOL = {"name": "look", "parametersJsonSchema": json.dumps(
    {"type": "object", "properties": {"place": {"type": "string"}}, "required": ["place"]})}
CUT = {"kind": "cut", "after": 5}
OK = {"kind": "ok"}
# Name, route, question, fault of the first target, the attempts' outcomes; none: an error.
CASES = [
    ("a whole answer", "restarts", "Why is the sky blue?", OK, ["complete"]),
    ("reset", "restarts", "Why is the sky blue?", CUT, ["cut", "complete"]),
    ("continued", "continues", "Why is the sky blue?", CUT, ["cut", "complete"]),
    ("two tool calls", "restarts", "Use the tool in parallel.", OK, ["complete"]),
    ("reset within a tool call", "restarts", "Use the tool in parallel.",
     {"kind": "cut", "at": "mid_tool_call"}, ["cut", "complete"]),
    ("an error after some text", "single", "Why is the sky blue?", CUT, None),
]


def request_of(route, question):
    request = {"route": route, "messages": [{"role": "user", "content": question}],
               "stream": {"assembledMessage": True}}
    if "tool" in question:
        request["tools"] = [TOOL]
    if route == "single":
        request["worstAcceptable"] = "DEGRADATION_FALLBACK_MODEL"
    return json.dumps(request)


def check_loop(language, command, env):
    for name, route, question, fault, outcomes in CASES:
        set_fault(fault)
        code, said = run(*command, holdfast.address, request_of(route, question), env=env)
        what = f"{language}: {name}"
        if outcomes is None:
            checks.equal(what, said.strip(), "error 14")
            continue
        lines = [line for line in said.splitlines() if line.startswith("{")]
        if not checks.that(what, code == 0 and len(lines) == 2, said):
            continue
        finished, assembled = (json.loads(line) for line in lines)
        checks.equal(f"{what}: the attempts", [a["outcome"] for a in finished["attempts"]], outcomes)
        checks.equal(f"{what}: the message", assembled["message"], finished["message"])
        if "tool" in question:
            calls = [part["toolCall"] for part in assembled["message"]["parts"]]
            checks.equal(f"{what}: the calls", [call["name"] for call in calls], ["look", "look"])
        else:
            checks.that(f"{what}: the text", question in assembled["message"]["content"],
                        assembled["message"])


for language, build in (("Go", build_go), ("Java", build_java), ("Python", build_python),
                        ("TypeScript", build_typescript)):
    code, said, command, env = build()
    if checks.that(f"{language}: the document's loop compiles", code == 0, said):
        check_loop(language, command, env)
holdfast.stop()
checks.finish()
