"""Ends process groups whose owner is gone; a program of its own, so that it outlives a `kill -9`.

Reads `+<group>` and `-<group>` lines from its standard input. When that closes, however the owner
ended, every group that was added and not removed is killed. A group reaches further than
`PR_SET_PDEATHSIG`, which covers only the direct child.
"""

import contextlib
import os
import signal
import sys


def main() -> None:
    """Watch until the owner is gone, then kill what it left."""
    groups: set[int] = set()
    for line in sys.stdin:
        group = int(line[1:])
        if line.startswith("+"):
            groups.add(group)
        else:
            groups.discard(group)
    for group in groups:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(group, signal.SIGKILL)


if __name__ == "__main__":
    main()
