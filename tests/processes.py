"""What a command leaves behind."""

from pathlib import Path


def left_over(checkout: Path) -> list[str]:
    """Command lines of processes that know this checkout."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if str(checkout).encode() in (process / "environ").read_bytes():
                found.append((process / "cmdline").read_bytes().replace(b"\0", b" ").decode())
        except OSError:  # ended, or not ours
            continue
    return found
