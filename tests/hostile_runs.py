"""Leaves in Prefect what runs leave that meet hostile text: artifacts, logs, names of runs, a failure."""

from datetime import UTC, datetime

from catalogs import collection
from hostile_text import HOSTILE
from prefect import flow
from prefect.logging import get_run_logger

from flows.harvest import _run_name
from spatiobatch.errors import HarvestError
from spatiobatch.manifest import CollectionTotals, Cost, Manifest
from spatiobatch.query import Query
from tasks.failure import explained
from tasks.summary import summarise

RUNS = [["rich", "img", "nul"], ["link of a terminal", "picture", "half closed"], ["colour", "right to left"]]
"""What the failed runs are named by, each by up to three texts."""
SHORT = {name: text for name, text in HOSTILE.items() if name not in ("long", "half a pair")}


@flow(name="summary")
def summary() -> None:
    """The page and the table of a harvest in which every text is a title, and every text an id."""
    now = datetime(2026, 11, 29, tzinfo=UTC)
    found = [collection(1, id=name, title=text, license="") for name, text in HOSTILE.items()]
    found += [collection(1, id=text, title=name, license="") for name, text in HOSTILE.items()]
    manifest = Manifest(
        harvest_id="20261129T000000Z-0123456789ab",
        complete=True,
        verified=True,
        query=Query(collections=tuple(SHORT.values())),
        collections={each["id"]: CollectionTotals() for each in found},
        started=now,
        finished=now,
        cost=Cost(node_seconds=1),
    )
    summarise(manifest, found, "https://blobs/manifest.json")


@flow(name="failing", flow_run_name=_run_name)
@explained
def failing(query: Query) -> None:
    """Warn of every text, and fail with all of them."""
    for text in HOSTILE.values():
        get_run_logger().warning("a warning of %s", text)
    everything = [*query.collections, *SHORT.values()]
    raise HarvestError(f"What is there: {' '.join(everything)}.", "\n".join(everything))


if __name__ == "__main__":
    summary()
    for names in RUNS:
        failing(Query(collections=tuple(HOSTILE.get(name, "[/x]") for name in names)), return_state=True)
