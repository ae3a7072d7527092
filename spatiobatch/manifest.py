"""What a harvest answers with, and where each part of it is kept."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from itertools import takewhile
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from spatiobatch.names import path_segment
from spatiobatch.query import Content, Query

SCHEMA_VERSION = "1.0"


class Kind(StrEnum):
    """Whether a harvest holds everything or only what changed."""

    full = "full"
    increment = "increment"


class CollectionTotals(BaseModel):
    """What was found in one collection; counts of items."""

    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True)

    items: int = 0
    duplicates: int = 0
    dirty: int = 0
    arrived: int = 0
    deleted: int = 0
    unsettled: int = 0
    unreadable: int = 0
    """Items that are none, and are not archived."""
    foreign: int = 0
    """Items that name another collection, and are not archived."""
    uncounted: int = 0
    """Items that the catalog counts and did not give."""
    unsealed: int = 0
    """Shards of an earlier version, whose archives were counted and their ids hashed, but not compared by bytes."""
    changed_by: str | None = None
    """The property by which changed items can be asked for, where every item has it: `_msft:ts` or `updated`."""


class Named(BaseModel):
    """Items of a collection that somebody should look at; at most 1000 of each kind."""

    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True)

    dirty: tuple[dict[str, Any], ...] = ()
    """`id` and `problem` of items that are archived as they came."""
    not_in_parquet: tuple[dict[str, Any], ...] = ()
    """`id` and `problem` of items that the archive alone has."""
    unsettled: tuple[str, ...] = ()
    """Ids on which the two looks differ, and nothing explains it."""
    unreadable: tuple[dict[str, Any], ...] = ()
    """`id` and `problem` of items that are none, and are not archived."""
    foreign: tuple[dict[str, Any], ...] = ()
    """`id` and `collection` of items that name another collection, and are not archived."""
    problems: tuple[str, ...] = ()
    """Why the collection is not complete, in sentences."""


class Changes(BaseModel):
    """What differs from the harvest that `base` names; counts of items."""

    model_config = ConfigDict(frozen=True)

    added: int = 0
    changed: int = 0
    removed: int = 0

    def __add__(self, other: "Changes") -> "Changes":
        return Changes(
            added=self.added + other.added, changed=self.changed + other.changed, removed=self.removed + other.removed
        )


class Cost(BaseModel):
    """What the harvest took."""

    model_config = ConfigDict(frozen=True)

    node_seconds: float
    calls: int | None = None
    """STAC calls; None where the nodes did not count them."""
    throttled: int | None = None
    """Calls that were answered with 429 or 503; None likewise."""


class Manifest(BaseModel):
    """The receipt of a whole harvest."""

    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True)

    schema_version: str = SCHEMA_VERSION
    harvest_id: str
    kind: Kind = Kind.full
    base: str | None = None
    complete: bool
    verified: bool
    """Whether completeness was checked: of collections, that every page was followed to the last."""
    query: Query
    max_items: int | None = None
    """After so many items the harvest was told to end."""
    collections: dict[str, CollectionTotals]
    named: dict[str, Named] = Field(default_factory=dict)
    """By collection, where there is something to name."""
    shards: int = 0
    started: datetime
    as_of: datetime | None = None
    """The moment by the catalog's clock up to which all changes are in the harvest; the next increment begins there."""
    finished: datetime
    versions: dict[str, str] = Field(default_factory=dict)
    changes: Changes | None = None
    cost: Cost

    @property
    def headline(self) -> str:
        """What was found, in a few words."""
        collections = f"{len(self.collections):,} collection{'' if len(self.collections) == 1 else 's'}"
        if self.query.content is Content.collections:
            return collections
        items = sum(found.items for found in self.collections.values())
        return f"{items:,} items in {collections}"

    @property
    def difference(self) -> str | None:
        """What changed since the harvest before, in a sentence; None for a query's first harvest."""
        if self.base is None or self.changes is None:
            return None
        removed = "" if self.kind is Kind.increment else f", {self.changes.removed:,} removed"
        return f"Since {self.base}: {self.changes.added:,} added, {self.changes.changed:,} changed{removed}"


class Latest(BaseModel):
    """Of one query, the last full harvest and the increments of it, in the order in which they were published.

    Never by the time in their ids: a clock may go back, and a scheduled run may begin late.
    """

    model_config = ConfigDict(frozen=True)

    full: str | None = None
    increments: tuple[str, ...] = ()

    @property
    def harvests(self) -> tuple[str, ...]:
        """All of them, oldest first."""
        return (*((self.full,) if self.full else ()), *self.increments)

    def before(self, harvest_id: str) -> tuple[str, ...]:
        """Those that a harvest follows, which is among them if it was published already."""
        return tuple(takewhile(lambda name: name != harvest_id, self.harvests))

    def followed_by(self, manifest: Manifest) -> "Latest":
        """This with one more harvest; an increment of anything but the last of them does not get in."""
        if manifest.kind is Kind.full:
            return Latest(full=manifest.harvest_id)
        if self.before(manifest.harvest_id)[-1:] != (manifest.base,):
            return self
        return Latest(full=self.full, increments=(*self.before(manifest.harvest_id)[1:], manifest.harvest_id))


class Layout:
    """Where the parts of a harvest are, in the results container and below an output folder alike."""

    def __init__(self, harvest_id: str) -> None:
        self.root = f"harvests/{harvest_id}"
        self.manifest = f"{self.root}/manifest.json"
        self.collections = f"{self.root}/collections.json"
        self.picture = f"{self.root}/picture.svg"

    def logs(self, task: str) -> str:
        """Folder of a task's stdout.txt and stderr.txt."""
        return f"{self.root}/logs/{path_segment(task)}"


def readable_extent(collection: dict[str, Any]) -> str:
    """A STAC collection's extent on one line: its interval, and its box in degrees; what is missing is left out."""
    start, end = _first(collection, "temporal", "interval") or (None, None)
    box = [number for number in _first(collection, "spatial", "bbox") or [] if isinstance(number, int | float)]
    ends = "/".join(str(moment)[:10] if moment else ".." for moment in (start, end))
    return ends + (f" [{', '.join(f'{number:g}' for number in box)}]" if box else "")


def _first(collection: dict[str, Any], kind: str, name: str) -> list[Any] | None:
    """The extent that covers all others; None where a catalog gives none, or one that is none."""
    try:
        found = collection["extent"][kind][name][0]
    except (LookupError, TypeError):
        return None
    return found if isinstance(found, list) and (kind == "spatial" or len(found) == 2) else None


@dataclass(frozen=True)
class Harvest:
    """What a harvest flow returns: the manifest, and where to look."""

    manifest: Manifest
    collections: list[dict[str, Any]]
    archive: str
    """Address of the manifest in the results container."""
    artifact: str
    """Key of the Prefect artifact."""
    output: Path | None
    """The manifest in the output folder, where one was named."""
