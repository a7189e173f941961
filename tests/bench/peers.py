"""Gateways from public registries, for make bench-peers: pinned, and installed under build/bench only.

They are what a user would pick instead, each in its default form with one provider: none of them is
asked to retry, break circuits, limit, cache or log to a file, all of which Holdfast does meanwhile.
LiteLLM 1.107.0 is listed as compromised: never install it.
"""

import http.client
import json
import os
import pathlib
import shutil
import subprocess
import sys
import time

HERE = pathlib.Path(__file__).resolve().parent
NOVEUM = "2.0.1"
PORTKEY = "1.15.2"
LITELLM = "1.106.2"
START_SECONDS = 180


def sure(command, **options):
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, **options)
    if done.returncode != 0:
        raise RuntimeError(f"{command[0]}: {(done.stdout + done.stderr)[-2000:]}")


def noveum(work, provider_port, port):
    """A crate; Rust."""
    home = work / f"noveum-{NOVEUM}"
    binary = home / "bin/noveum-ai-gateway"
    if not binary.exists():
        if shutil.which("cargo") is None:
            raise RuntimeError("cargo is not there to build it")
        environment = {**os.environ, "CARGO_HOME": str(work / "cargo"),
                       "CARGO_TARGET_DIR": str(work / "cargo/target")}
        sure(["cargo", "install", "--quiet", "--locked", "--root", home,
              f"noveum-ai-gateway@{NOVEUM}"], env=environment)
        shutil.rmtree(work / "cargo/target")
    return {
        "command": [binary],
        "environment": {"HOST": "127.0.0.1", "PORT": str(port), "RUST_LOG": "warn",
                        "OPENAI_BASE_URL": f"http://127.0.0.1:{provider_port}"},
        "headers": ["x-provider: openai"],
    }


def portkey(work, provider_port, port):
    """An npm package; hono and @hono/node-server are pinned by package.json, or its streams fail."""
    home = work / f"portkey-{PORTKEY}"
    server = home / "node_modules/@portkey-ai/gateway/build/start-server.js"
    if not server.exists():
        if shutil.which("npm") is None:
            raise RuntimeError("npm is not there to install it")
        home.mkdir(parents=True, exist_ok=True)
        for name in ("package.json", "package-lock.json"):
            shutil.copy(HERE / "portkey" / name, home)
        sure(["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--no-update-notifier"],
             cwd=home)
    return {
        "command": ["node", server, "--headless", f"--port={port}"],
        "environment": {"NODE_ENV": "production"},
        "headers": ["x-portkey-provider: openai",
                    f"x-portkey-custom-host: http://127.0.0.1:{provider_port}/v1"],
    }


def litellm(work, provider_port, port):
    """From PyPI; wheels for Python 3.11 on x86-64."""
    home = work / f"litellm-{LITELLM}"
    mark = home / ".installed"
    if not mark.exists():
        sure([sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check",
              "--root-user-action=ignore", "--no-deps", "--require-hashes", "--only-binary=:all:",
              "--upgrade", "--target", home, "-r", HERE / "litellm.txt"])
        mark.touch()
    config = work / "litellm.yaml"
    config.write_text(json.dumps({"model_list": [{
        "model_name": "mock",
        "litellm_params": {"model": "openai/mock", "api_key": "key",
                           "api_base": f"http://127.0.0.1:{provider_port}/v1"},
    }]}))
    return {
        "command": [sys.executable, "-c", "from litellm import run_server; run_server()", "--config",
                    config, "--host", "127.0.0.1", "--port", port, "--num_workers", "1"],
        "environment": {"PYTHONPATH": str(home), "LITELLM_LOG": "ERROR",
                        "LITELLM_LOCAL_MODEL_COST_MAP": "True",
                        "LITELLM_DANGEROUSLY_PERMIT_WEAK_OR_UNSET_MASTER_KEY": "true"},
        "headers": [],
    }


def wait_until_it_answers(program, port, headers):
    body = json.dumps({"model": "mock", "stream": True,
                       "messages": [{"role": "user", "content": "Are you there?"}]})
    given = {"Content-Type": "application/json", "Authorization": "Bearer key",
             **dict(header.split(": ", 1) for header in headers)}
    end = time.monotonic() + START_SECONDS
    last = "nothing"
    while time.monotonic() < end and program.child.poll() is None:
        try:
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
            connection.request("POST", "/v1/chat/completions", body, given)
            answer = connection.getresponse()
            last = answer.read().decode(errors="replace")
            if answer.status == 200:
                return
        except OSError as error:
            last = str(error)
        time.sleep(0.2)
    raise RuntimeError(f"it does not answer: {last[-1000:]}")


def start(work, program_of, provider_port, free_port):
    """Every peer that can be had here, running; says which cannot, and why."""
    running = []
    for name, prepare in ((f"noveum-ai-gateway {NOVEUM} (Rust)", noveum),
                          (f"Portkey {PORTKEY} (Node)", portkey),
                          (f"LiteLLM {LITELLM} (Python)", litellm)):
        try:
            print(f"installing, unless it is there: {name}", file=sys.stderr)
            port = free_port()
            how = prepare(work, provider_port, port)
            program = program_of(prepare.__name__, how["command"], how["environment"])
            wait_until_it_answers(program, port, how["headers"])
        except RuntimeError as error:
            print(f"NOT THERE: {name}: {error}\n")
            continue
        program.title, program.at = name, port
        program.load_options = [word for header in how["headers"] for word in ("--header", header)]
        running.append(program)
    return running
