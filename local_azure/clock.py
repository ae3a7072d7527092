"""The time that the stand-in itself keeps."""

import asyncio
from datetime import UTC, datetime


class Clock:
    """Wall-clock time, and waiting that can be told to take none.

    With `instant`, whatever the service would wait for on its own account (a long-running
    operation, a role assignment to spread, an autoscale interval, a node to boot) is over at
    once. What expires (wall clocks, retention times, tokens, SAS, leases) always does so by the real time,
    which clients share.
    """

    def __init__(self, *, instant: bool = False) -> None:
        self.instant = instant

    def now(self) -> datetime:
        """The present, in UTC."""
        return datetime.now(UTC)

    async def sleep(self, seconds: float) -> None:
        """Wait as Azure would."""
        await asyncio.sleep(0 if self.instant else seconds)

    def elapsed(self, since: datetime, seconds: float) -> bool:
        """Whether `seconds` have passed since a moment; always so when instant."""
        return self.instant or (self.now() - since).total_seconds() >= seconds


def http_date(moment: datetime) -> str:
    """RFC 9110 date, as in `Last-Modified`."""
    return moment.strftime("%a, %d %b %Y %H:%M:%S GMT")


def ticks(moment: datetime) -> str:
    """ISO 8601 as .NET writes it: a fraction without the zeros at its end, as recorded of Batch and ARM."""
    return moment.strftime("%Y-%m-%dT%H:%M:%S.%f").rstrip("0").rstrip(".") + "Z"


def parse_time(text: str) -> datetime:
    """The moment that `ticks` (or any RFC 3339 text) names; UTC where no zone is given."""
    moment = datetime.fromisoformat(text.replace("Z", "+00:00"))
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
