"""ISO 8601 durations as Batch reads and writes them: a year counts 365 days, a month 30."""

import re
from datetime import timedelta

UNLIMITED = "P10675199DT2H48M5.4775807S"
"""What the service answers where no limit was set: the largest .NET TimeSpan."""

_PATTERN = re.compile(
    r"P(?:(?P<years>\d+)Y)?(?:(?P<months>\d+)M)?(?:(?P<weeks>\d+)W)?(?:(?P<days>\d+)D)?"
    r"(?:T(?:(?P<hours>\d+)H)?(?:(?P<minutes>\d+)M)?(?:(?P<seconds>\d+(?:\.\d+)?)S)?)?"
)


def parse_duration(text: str) -> timedelta:
    """The length that an ISO 8601 duration names.

    Raises:
        ValueError: it is not one.
    """
    match = _PATTERN.fullmatch(text)
    parts = {name: float(value) for name, value in match.groupdict().items() if value} if match else {}
    if not parts:
        raise ValueError(f"{text!r} is no ISO 8601 duration")
    days = parts.pop("years", 0) * 365 + parts.pop("months", 0) * 30 + parts.pop("days", 0)
    return timedelta(days=days, **parts)


def normal_duration(text: str) -> str:
    """The duration in the form that the service answers with: days, hours, minutes, seconds."""
    if text == UNLIMITED:
        return text
    length = parse_duration(text)
    hours, rest = divmod(length.seconds, 3600)
    minutes, seconds = divmod(rest, 60)
    fraction = f".{length.microseconds:06}".rstrip("0") if length.microseconds else ""
    time = "".join(
        f"{value}{unit}"
        for value, unit in ((hours, "H"), (minutes, "M"), (f"{seconds}{fraction}", "S"))
        if value not in (0, "0")
    )
    date = f"{length.days}D" if length.days else ""
    return f"P{date}{'T' + time if time else ''}" if date or time else "PT0S"
