"""What a node leaves of a shard: what it covered, and what it found there."""

from collections.abc import Iterable
from dataclasses import astuple, dataclass
from typing import Annotated, Any, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, NonNegativeInt, model_validator

from spatiobatch.intervals import Instant, Interval

_HASHES = 2**256
UNSEALED_VERSION = "1.0"
"""Receipts of this version do not say which bytes their archive has, nor of which harvest they are."""


class Bounds(BaseModel):
    """The ends of an interval."""

    model_config = ConfigDict(frozen=True)

    start: Instant | None = None
    end: Instant | None = None


class Verification(BaseModel):
    """What a second look at the ids of a shard told apart; at most 1000 ids of each kind, and how many there are."""

    model_config = ConfigDict(frozen=True)

    arrived: tuple[str, ...] = ()
    deleted: tuple[str, ...] = ()
    unsettled: tuple[str, ...] = ()
    arrived_count: int = 0
    deleted_count: int = 0
    unsettled_count: int = 0


class Seal(BaseModel):
    """Which bytes a file has."""

    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True)

    size: NonNegativeInt
    sha256: str
    """Hexadecimal."""


class Receipt(BaseModel):
    """One shard's receipt; keys that a later version adds are ignored."""

    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True)

    schema_version: str = UNSEALED_VERSION
    harvest_id: str | None = None
    task: str | None = None
    """Id of the Batch task that left it."""
    archive: Seal | None = None
    """What the shard's archive was when the receipt was written."""
    name: str
    collection: str
    start: Instant | None
    """Start of what is covered, not of what was asked."""
    end: Instant | None
    """End of what is covered, which is before the shard's where its quota ended it."""
    undated: bool = False
    remainder: Bounds | None = None
    count: NonNegativeInt
    """Items archived."""
    ids_hash: Annotated[int, BeforeValidator(lambda text: int(text, 16) if isinstance(text, str) else text)]
    """Sum of the ids' SHA-256, modulo 2**256; hexadecimal as JSON."""
    min_datetime: Instant | None = None
    max_datetime: Instant | None = None
    pages: NonNegativeInt
    throttled: NonNegativeInt
    """Calls that were answered with 429 or 503."""
    asked: Instant | None = None
    """When the catalog was first asked, by its own clock; none where it did not say."""
    duplicates: int = 0
    dirty: tuple[dict[str, Any], ...] = ()
    dirty_count: int = 0
    unreadable: tuple[dict[str, Any], ...] = ()
    """`id` and `problem` of items that are none, and are not archived."""
    unreadable_count: int = 0
    foreign: tuple[dict[str, Any], ...] = ()
    """`id` and `collection` of items that name another collection, and are not archived."""
    foreign_count: int = 0
    uncounted: int = 0
    """Items that the catalog counts and did not give, when it was asked for the second time."""
    problems: tuple[str, ...] = ()
    """Why what is covered is not complete, in sentences."""
    verified: bool = False
    verification: Verification = Field(default_factory=Verification)
    calls: int = 0
    bytes: int = 0

    @model_validator(mode="after")
    def _sealed(self) -> Self:
        if self.schema_version != UNSEALED_VERSION and (self.archive is None or self.harvest_id is None):
            raise ValueError("it names no harvest or no archive")
        return self

    @property
    def covered(self) -> Interval:
        """The interval that is done with."""
        return Interval(self.start, self.end)


@dataclass(frozen=True)
class Totals:
    """What receipts say together."""

    items: int = 0
    ids_hash: int = 0
    duplicates: int = 0
    dirty: int = 0
    arrived: int = 0
    deleted: int = 0
    unsettled: int = 0
    unreadable: int = 0
    foreign: int = 0
    uncounted: int = 0
    unsealed: int = 0
    pages: int = 0
    calls: int = 0
    throttled: int = 0
    bytes: int = 0

    def __add__(self, other: "Totals") -> "Totals":
        added = Totals(*(one + another for one, another in zip(astuple(self), astuple(other), strict=True)))
        return Totals(**{**vars(added), "ids_hash": added.ids_hash % _HASHES})


def total(receipts: Iterable[Receipt]) -> Totals:
    """The sum of receipts, in whatever order; each is to be counted once."""
    return sum(map(_of, receipts), Totals())


def _of(receipt: Receipt) -> Totals:
    found = receipt.verification
    return Totals(
        items=receipt.count,
        ids_hash=receipt.ids_hash,
        duplicates=receipt.duplicates,
        dirty=max(receipt.dirty_count, len(receipt.dirty)),
        arrived=max(found.arrived_count, len(found.arrived)),
        deleted=max(found.deleted_count, len(found.deleted)),
        unsettled=max(found.unsettled_count, len(found.unsettled)),
        unreadable=receipt.unreadable_count,
        foreign=receipt.foreign_count,
        uncounted=receipt.uncounted,
        unsealed=int(receipt.archive is None),
        pages=receipt.pages,
        calls=receipt.calls,
        throttled=receipt.throttled,
        bytes=receipt.bytes,
    )


def without_overlaps(receipts: Iterable[Receipt]) -> list[Receipt]:
    """The receipts of one collection that count, by start: where two cover the same instant, the later one does not.

    They overlap when a harvest was taken over while tasks of the run before still ran. A receipt of the whole
    collection holds its undated items too.
    """
    longest_first = sorted(receipts, key=lambda receipt: receipt.covered.high, reverse=True)
    counted: list[Receipt] = []
    undated: list[Receipt] = []
    for receipt in sorted(longest_first, key=lambda receipt: receipt.covered.low):
        if receipt.undated:
            undated.append(receipt)
        elif not receipt.covered.empty and (not counted or receipt.covered.low >= counted[-1].covered.high):
            counted.append(receipt)
    whole = any(receipt.covered.everything for receipt in counted)
    return counted if whole else counted + undated[:1]
