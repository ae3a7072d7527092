"""A copy of an archive in a folder of the user's: each file whole, or not at all."""

import os
import tempfile
from collections.abc import Mapping
from pathlib import Path

from spatiobatch.errors import OutputError


def check_output(folder: Path) -> None:
    """Find out before anything is started whether the folder can be written; leaves no trace.

    Raises:
        OutputError: it cannot.
    """
    try:
        there = next(path for path in (folder, *folder.absolute().parents) if path.exists())
        with tempfile.TemporaryFile(dir=there):
            pass
    except OSError as error:
        raise _unwritable(folder, error) from error


def write_output(folder: Path, files: Mapping[str, bytes]) -> Path:
    """Write files by their path below the folder; returns the path of the last one.

    Raises:
        OutputError: the folder cannot be written.
    """
    target = folder
    try:
        for path, content in files.items():
            target = folder / path
            target.parent.mkdir(parents=True, exist_ok=True)
            partial = target.with_name(f"{target.name}.part")
            partial.write_bytes(content)
            partial.replace(target)
    except OSError as error:
        raise _unwritable(folder, error) from error
    return target


def _unwritable(folder: Path, error: OSError) -> OutputError:
    return OutputError(folder, os.strerror(error.errno) if error.errno else str(error))
