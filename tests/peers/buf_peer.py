"""buf: the API's protos are well-formed and keep to its STANDARD rules."""

import pathlib
import shutil
import subprocess
import tempfile

from checks import ROOT, Checks

checks = Checks()


def buf(*arguments):
    done = subprocess.run(["buf", *arguments], capture_output=True, text=True)
    return done.returncode, done.stdout + done.stderr


code, said = buf("lint", str(ROOT / "proto"))
checks.that("buf lint: the STANDARD rules hold", code == 0, said)
code, said = buf("build", str(ROOT / "proto"), "-o", "/dev/null")
checks.that("buf build: the protos compile", code == 0, said)

# A check that cannot fail is none.
with tempfile.TemporaryDirectory() as directory:
    copy = pathlib.Path(directory) / "proto"
    shutil.copytree(ROOT / "proto", copy)
    with open(copy / "holdfast/v1/generate.proto", "a") as proto:
        proto.write("message badly_named { string BadField = 1; }\n")
    code, said = buf("lint", str(copy))
    checks.that("buf lint: a badly named message is found", code != 0 and "badly_named" in said, said)

checks.finish()
