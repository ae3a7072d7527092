"""The one shape of idempotence: what an `ensure_*` step did."""

from dataclasses import dataclass
from enum import StrEnum


class Outcome(StrEnum):
    """What became of a resource."""

    created = "created"
    updated = "updated"
    unchanged = "unchanged"


@dataclass(frozen=True)
class Change:
    """One resource and what became of it."""

    kind: str
    name: str
    outcome: Outcome
    detail: str = ""
    """What was updated, or why it was left as it is."""

    @property
    def changed(self) -> bool:
        """Whether anything was written."""
        return self.outcome is not Outcome.unchanged

    def __str__(self) -> str:
        """One line for people."""
        return f"{self.outcome:<9}  {self.kind:<18} {self.name}" + (f"  ({self.detail})" if self.detail else "")


def created(kind: str, name: str, detail: str = "") -> Change:
    """It was not there."""
    return Change(kind, name, Outcome.created, detail)


def updated(kind: str, name: str, detail: str) -> Change:
    """It was there and differed in `detail`."""
    return Change(kind, name, Outcome.updated, detail)


def unchanged(kind: str, name: str, detail: str = "") -> Change:
    """It was there as wanted, or belongs to somebody else and is used as it is."""
    return Change(kind, name, Outcome.unchanged, detail)
