"""What a harvest is compared with, and what an increment asks for: a query's last full harvest and its increments."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, timedelta

from azure.storage.blob import ContainerClient
from prefect.logging import get_run_logger
from pydantic import JsonValue, ValidationError

from spatiobatch.manifest import Kind, Latest, Layout, Manifest
from tasks.archive import read_latest
from tasks.clients import AzureClients, azure_task, found
from tasks.environment import Environment, results
from tasks.unfinished import Unfinished

_MARGIN = timedelta(minutes=15)
"""Before the last harvest began: for transactions that were open then, and clocks that differ."""


@dataclass(frozen=True)
class Base:
    """Harvests of one query, oldest first; none for the first harvest of a query."""

    manifests: tuple[Manifest, ...] = ()
    increment: bool = False
    """Whether only what changed since them is harvested."""

    @property
    def harvests(self) -> list[str]:
        """Their ids."""
        return [manifest.harvest_id for manifest in self.manifests]

    @property
    def last(self) -> str | None:
        """The id of the last one."""
        return self.harvests[-1] if self.manifests else None

    @property
    def kind(self) -> Kind:
        """What a harvest with this base is."""
        return Kind.increment if self.increment else Kind.full

    @property
    def expected(self) -> list[str]:
        """Collections of which items may be gone; an increment cannot tell."""
        return [] if self.increment else sorted(self._changed_by())

    def conditions(self) -> dict[str, JsonValue]:
        """By collection, in CQL2, what its changed items have in common; a collection that is new has no condition.

        The moment is text without a zone: pgstac compares a property that it does not know to be a time as text, so
        that this form alone is before all others of the same second.
        """
        if not self.increment:
            return {}
        last = self.manifests[-1]
        since = ((last.as_of or last.started).astimezone(UTC) - _MARGIN).strftime("%Y-%m-%dT%H:%M:%S")
        asked: dict[str, JsonValue] = {}
        for collection, names in self._changed_by().items():
            (name,) = names
            asked[collection] = {"op": ">=", "args": [{"property": str(name)}, since]}
        return asked

    def untracked(self) -> list[str]:
        """Collections that cannot be asked for changes, since not every item says when it changed."""
        return sorted(name for name, stamps in self._changed_by().items() if len(stamps) != 1 or None in stamps)

    def _changed_by(self) -> dict[str, set[str | None]]:
        """Of each collection with items, the properties by which the harvests could be asked for changes."""
        stamps: dict[str, set[str | None]] = {}
        for manifest in self.manifests:
            for name, totals in manifest.collections.items():
                if totals.items:
                    stamps.setdefault(name, set()).add(totals.changed_by)
        return stamps


@azure_task("read base")
def read_base(azure: AzureClients, environment: Environment, harvest: Unfinished) -> Base:
    """The harvests that this one follows. One that ends after so many items follows none: it can be compared with none.

    Where only changes are asked for and that is not possible, a warning says why, and everything is harvested.
    """
    if harvest.max_items is not None:
        return Base()
    container = results(azure, environment)
    latest = read_latest(container).get(harvest.query.hash, Latest())
    base = Base(_manifests(container, latest.before(harvest.harvest_id)))
    if harvest.since is None:
        return base
    problem = _problem(base)
    if problem:
        get_run_logger().warning("%s: everything is harvested", problem)
    return Base(base.manifests, increment=not problem)


def _problem(base: Base) -> str | None:
    """Why one cannot ask for changes only."""
    if not base.manifests:
        return "there is no earlier harvest of this query"
    if untracked := base.untracked():
        return f"not every item of {', '.join(untracked)} says when it changed (by _msft:ts or updated)"
    return None


def _manifests(container: ContainerClient, names: Iterable[str]) -> tuple[Manifest, ...]:
    """The manifests of these harvests; none of them where one is missing, since the rest would not be the whole."""
    manifests = []
    for name in names:
        there = found(container.download_blob, Layout(name).manifest)
        try:
            manifests.append(Manifest.model_validate_json(there.readall() if there else ""))
        except ValidationError:
            get_run_logger().warning("harvest %s is not there any more: there is nothing to compare with", name)
            return ()
    return tuple(manifests)
