"""A node script that is imported once and run many times, each time in a process of its own."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from node_scripts import SCRIPTS

_DRIVER = """
import json, os, runpy, sys, time, traceback
time.sleep = lambda seconds: None
script = runpy.run_path(sys.argv[1])
script["DefaultAzureCredential"]().close()  # what it imports is imported once
for line in sys.stdin:
    child = os.fork()
    if not child:
        os.environ.update(json.loads(line))
        os.dup2(os.open("stderr.txt", os.O_WRONLY | os.O_CREAT | os.O_TRUNC), 2)
        try:
            code = script["main"]()
        except BaseException:
            traceback.print_exc()
            code = 1
        os._exit(code)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


@dataclass(frozen=True)
class Forked:
    """A script that waits for an environment to run in."""

    process: subprocess.Popen[str]
    folder: Path

    def run(self, environment: dict[str, str]) -> tuple[int, str]:
        """Exit code and standard error of one run, after a check that it ends with a sentence."""
        assert self.process.stdin
        assert self.process.stdout
        self.process.stdin.write(json.dumps(environment) + "\n")
        self.process.stdin.flush()
        code, said = int(self.process.stdout.readline()), (self.folder / "stderr.txt").read_text()
        assert "Traceback" not in said, said
        return code, said


@contextmanager
def forked(script: str, folder: Path) -> Iterator[Forked]:
    """A node script, imported."""
    command = [sys.executable, "-I", "-c", _DRIVER, str(SCRIPTS / script)]
    with subprocess.Popen(
        command, cwd=folder, env={}, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        try:
            yield Forked(process, folder)
        finally:
            assert process.stdin
            process.stdin.close()
            try:
                process.wait(timeout=10)
            except subprocess.TimeoutExpired:  # a run that hangs
                os.killpg(process.pid, signal.SIGKILL)
