"""Creates the artifacts of a harvest of collections that are named and titled by hostile text; run by itself."""

from datetime import UTC, datetime

from catalogs import collection
from hostile_text import HOSTILE
from prefect import flow

from spatiobatch.manifest import CollectionTotals, Cost, Manifest
from spatiobatch.query import query_from
from tasks.summary import summarise


@flow(name="hostile")
def hostile() -> str:
    """The summary of a harvest; its key."""
    now = datetime(2026, 11, 29, tzinfo=UTC)
    found = [collection(1, id=name, title=text, license=text) for name, text in HOSTILE.items()]
    found += [collection(1, id=text, title=name) for name, text in HOSTILE.items()]
    manifest = Manifest(
        harvest_id="20261129T000000Z-0123456789ab",
        complete=True,
        verified=True,
        query=query_from(collections=tuple(text for text in HOSTILE.values() if "\ud800" not in text)),
        collections={each["id"]: CollectionTotals() for each in found},
        started=now,
        finished=now,
        cost=Cost(node_seconds=1),
    )
    return summarise(manifest, found, "https://blobs/manifest.json")


if __name__ == "__main__":
    hostile()
