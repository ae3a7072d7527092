"""Moments as the catalog keeps them: whole microseconds since 1970, in UTC, rounded as PostgreSQL rounds."""

import re
from datetime import UTC, datetime, timedelta

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_BEYOND = re.compile(r"(\.\d{6})(\d+)")
"""What a text has behind its microseconds, which Python leaves out."""

EARLIEST = -(2**63)
LATEST = 2**63 - 1


def instant(text: object) -> int | None:
    """The moment that a date or an RFC 3339 date-time names; None for anything else."""
    if not isinstance(text, str):
        return None
    try:
        moment = datetime.fromisoformat(text.upper())
        beyond = _BEYOND.search(text)
        rounded_up = beyond is not None and beyond[2] >= "5"
        return (moment.replace(tzinfo=moment.tzinfo or UTC) - _EPOCH) // _MICROSECOND + rounded_up
    except (ValueError, OverflowError):
        return None


def interval(bounds: list[str]) -> tuple[int, int] | None:
    """A closed interval; `..` and the empty text leave a side open. None where it is not one."""
    if not 1 <= len(bounds) <= 2:
        return None
    first = EARLIEST if bounds[0] in ("", "..") else instant(bounds[0])
    last = LATEST if bounds[-1] in ("", "..") else instant(bounds[-1])
    return None if first is None or last is None else (first, last)
