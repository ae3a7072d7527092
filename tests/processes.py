"""What a command leaves behind."""

from pathlib import Path


def processes_with(text: str) -> dict[int, str]:
    """Command lines, by process id, of processes that have this in their environment."""
    found = {}
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if text.encode() in (process / "environ").read_bytes():
                found[int(process.name)] = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode()
        except OSError:  # ended, or not ours
            continue
    return found


def left_over(checkout: Path) -> list[str]:
    """Command lines of processes that know this checkout."""
    return list(processes_with(str(checkout)).values())
