"""What the checks against peers share: counting, processes, Holdfast itself.

Each peer's file makes one Checks, calls its methods and ends with finish(). Nothing here sleeps to
wait for something: processes say when they are ready.
"""

import atexit
import json
import os
import pathlib
import queue
import re
import signal
import subprocess
import sys
import tempfile
import threading

ROOT = pathlib.Path(__file__).resolve().parents[2]
LOGS = ROOT / "build/peers/log"
START_SECONDS = 30


class Checks:
    """Counts what held and what did not, a line each."""

    def __init__(self):
        self.passed = 0
        self.failed = 0

    def that(self, name, holds, found=None):
        if holds:
            self.passed += 1
            print(f"ok   {name}", flush=True)
        else:
            self.failed += 1
            print(f"FAIL {name}", flush=True)
            if found is not None:
                print("     found: " + str(found).strip()[:4000].replace("\n", "\n     "))
        return holds

    def equal(self, name, found, wanted):
        return self.that(name, found == wanted, f"{found!r}, wanted {wanted!r}")

    def finish(self):
        print(f"{self.passed} passed, {self.failed} failed", flush=True)
        sys.exit(0 if self.failed == 0 else 1)


class Process:
    """A child that is ended with this process at the latest. Its standard error goes to a log."""

    def __init__(self, name, arguments, env=None):
        LOGS.mkdir(parents=True, exist_ok=True)
        self.name = name
        self.log = LOGS / f"{name}.stderr"
        with open(self.log, "wb") as log:
            self.child = subprocess.Popen(
                [str(a) for a in arguments],
                stdout=subprocess.PIPE,
                stderr=log,
                stdin=subprocess.DEVNULL,
                text=True,
                env={**os.environ, **(env or {})},
            )
        self.lines = queue.Queue()
        threading.Thread(target=self._read, daemon=True).start()
        atexit.register(self.stop)

    def _read(self):
        for line in self.child.stdout:
            self.lines.put(line)
        self.lines.put(None)

    def wait_for(self, pattern):
        """The first group of `pattern` in a line of its standard output."""
        while True:
            try:
                line = self.lines.get(timeout=START_SECONDS)
            except queue.Empty:
                line = None
            if line is None:
                sys.exit(f"FAIL {self.name} did not start:\n{self.log.read_text()}")
            match = re.search(pattern, line)
            if match:
                return match.group(1)

    def stop(self):
        """Ends it in order; returns its exit code."""
        if self.child.poll() is None:
            self.child.send_signal(signal.SIGTERM)
            try:
                self.child.wait(timeout=START_SECONDS)
            except subprocess.TimeoutExpired:
                self.child.kill()
        return self.child.wait()


class Holdfast:
    """build/bin/holdfast on free ports with a configuration given as a dictionary."""

    def __init__(self, name, config, env=None):
        self.directory = tempfile.TemporaryDirectory(prefix="holdfast-")
        path = pathlib.Path(self.directory.name)
        # JSON is YAML.
        (path / "config.yaml").write_text(json.dumps(config, indent=1))
        self.process = Process(
            name,
            [
                ROOT / "build/bin/holdfast",
                "--config", path / "config.yaml",
                "--data-dir", path / "data",
                "--listen", "127.0.0.1:0",
                "--admin-listen", "127.0.0.1:0",
            ],
            env,
        )
        self.admin = self.process.wait_for(r"^admin on (\S+)")
        self.address = self.process.wait_for(r"^listening on (\S+)")

    def stop(self):
        return self.process.stop()
