"""Memory of processes, read from /proc while they run."""

import os
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

_PAUSE_SECONDS = 0.1


@contextmanager
def peaks(kinds: Mapping[str, str]) -> Iterator[dict[str, float]]:
    """Megabytes that a process below this one had in memory at most, by kind; complete when the `with` is over.

    Files that a process has mapped into memory do not count: they are the system's cache.

    Args:
        kinds: by kind, a part of the command line that its processes have.
    """
    found = dict.fromkeys(kinds, 0.0)
    ended = threading.Event()

    def watch() -> None:
        while not ended.wait(_PAUSE_SECONDS):
            for process in _descendants(os.getpid()):
                command, megabytes = _seen(process)
                for kind in (kind for kind, part in kinds.items() if part in command):
                    found[kind] = max(found[kind], megabytes)

    watching = threading.Thread(target=watch)
    watching.start()
    try:
        yield found
    finally:
        ended.set()
        watching.join()


def megabytes_now(part: str) -> float:
    """Megabytes that the processes below this one have now, whose command line has this part."""
    seen = map(_seen, _descendants(os.getpid()))
    return sum(megabytes for command, megabytes in seen if part in command)


def _descendants(process: int) -> Iterator[int]:
    for task in Path(f"/proc/{process}/task").glob("*/children"):
        for child in map(int, _text(task).split()):
            yield child
            yield from _descendants(child)


def _seen(process: int) -> tuple[str, float]:
    """Command line and megabytes of a process; nothing where it has ended."""
    root = Path(f"/proc/{process}")
    lines = dict(line.split(":", 1) for line in _text(root / "status").splitlines())
    kilobytes = sum(int(lines.get(name, "0 kB").split()[0]) for name in ("RssAnon", "RssShmem"))
    return _text(root / "cmdline").replace("\0", " "), kilobytes / 1024


def _text(file: Path) -> str:
    try:
        return file.read_text(errors="replace")
    except OSError:  # the process has ended
        return ""
