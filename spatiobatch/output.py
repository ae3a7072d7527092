"""Folders on this machine that are written to: the output, and what is kept between runs."""

import errno
import os
import tempfile
from collections.abc import Iterable
from pathlib import Path

from spatiobatch.errors import FolderError, OutputError

_ROOM_BYTES = 1024**2
"""Less is as good as nothing: Prefect's database takes as much when it is empty."""
_FULL = {errno.ENOSPC, errno.EDQUOT}


def check_output(folder: Path) -> None:
    """Find out before anything is started whether the output folder can be written; leaves no trace.

    Raises:
        OutputError: it cannot.
    """
    try:
        _try_to_write(folder)
    except OSError as error:
        raise OutputError(folder, reason_of(error), full=is_full(error)) from error


def check_folder(folder: Path) -> None:
    """The same for a folder that things are kept in between runs.

    Raises:
        FolderError: it cannot.
    """
    try:
        _try_to_write(folder)
    except OSError as error:
        raise FolderError(folder, reason_of(error), full=is_full(error)) from error


def full_one(folders: Iterable[Path]) -> Path | None:
    """The first folder that is on a full disk."""
    for folder in folders:
        try:
            _try_to_write(folder)
        except OSError as error:
            if is_full(error):
                return folder
    return None


def reason_of(error: OSError) -> str:
    """What the system says, without the path that it says it of."""
    return os.strerror(error.errno) if error.errno else str(error)


def is_full(error: OSError) -> bool:
    """Whether the disk, or what its quota leaves to this user, is full."""
    return error.errno in _FULL


def _try_to_write(folder: Path) -> None:
    """Write to the folder or, where it is still to be made, to the closest one above; a full disk takes empty files."""
    there = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    with tempfile.TemporaryFile(dir=there, buffering=0) as file:
        left = memoryview(os.urandom(_ROOM_BYTES))  # what can be compressed would take no room
        while left:
            left = left[file.write(left) :]
