"""Processes that end with this one, however it ends."""

import os
import signal
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO

_END_SECONDS = 30
_KEEPER = ("/bin/sh", "-c", 'read -r _; kill "$0" 2>/dev/null')
"""Waits until its input closes, as it does when this process is gone, then ends the process it is told."""


@contextmanager
def child(
    command: Sequence[str],
    folder: Path,
    *,
    output: IO[bytes] | int | None = None,
    errors: IO[bytes] | int | None = None,
) -> Iterator[subprocess.Popen[bytes]]:
    """A process for a while.

    In a session of its own: Ctrl-C, a closing terminal and `timeout` signal every process of a group, but what is
    served must outlive whoever still needs it in order to end well.
    """
    with (
        subprocess.Popen(command, cwd=folder, stdout=output, stderr=errors, start_new_session=True) as process,  # noqa: S603
        subprocess.Popen([*_KEEPER, str(process.pid)], stdin=subprocess.PIPE, start_new_session=True) as keeper,  # noqa: S603
    ):
        try:
            yield process
        finally:
            keeper.kill()
            _end(process)


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(_END_SECONDS)  # leaving Popen's own context does not wait after Ctrl-C
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
