"""Prefect artifacts: summaries for people, never the data itself.

Prefect enforces no size; the UI stalls on large pages, so tables stop at 1,000 rows and pages at 100 KB.
"""

from typing import Any

from prefect import task
from prefect.artifacts import create_markdown_artifact, create_table_artifact

from spatiobatch.manifest import Manifest, readable_extent

_MOST_ROWS = 500
_MOST_BYTES = 90_000
_LONGEST_CELL = 120


def collection_rows(collections: list[dict[str, Any]]) -> list[dict[str, str]]:
    """One row for each collection: id, title, extent, licence."""
    return [
        {
            "id": str(collection["id"]),
            "title": str(collection.get("title") or ""),
            "extent": readable_extent(collection),
            "licence": str(collection["license"]),
        }
        for collection in collections
    ]


@task(name="summarise")
def summarise(manifest: Manifest, collections: list[dict[str, Any]], archive: str) -> str:
    """Create the markdown and the table artifact of a harvest; returns the markdown's key.

    The keys hold the query's hash, so that the harvests of one query are versions of the same artifacts.
    """
    rows = _shortened(collection_rows(collections))
    key = f"harvest-{manifest.query.hash}"
    create_table_artifact(rows, key=f"{key}-collections", description=f"Collections of harvest {manifest.harvest_id}")
    create_markdown_artifact(_page(manifest, rows, len(collections), archive), key=key, description="Harvest summary")
    return key


def _shortened(rows: list[dict[str, str]]) -> list[dict[str, str]]:
    cut = [{name: cell[:_LONGEST_CELL] for name, cell in row.items()} for row in rows[:_MOST_ROWS]]
    while len(str(cut).encode()) > _MOST_BYTES:
        cut = cut[: len(cut) // 2]
    return cut


def _page(manifest: Manifest, rows: list[dict[str, str]], total: int, archive: str) -> str:
    seconds = (manifest.finished - manifest.started).total_seconds()
    lines = [
        f"# {total} collections" + (" (incomplete)" if not manifest.complete else ""),
        "",
        f"Harvest `{manifest.harvest_id}`, {seconds:.0f} s, {manifest.cost.node_seconds:.0f} node seconds.",
        "",
        f"Archive: `{archive}`",
        "",
        "| id | title | extent | licence |",
        "| --- | --- | --- | --- |",
        *("| " + " | ".join(_cell(text) for text in row.values()) + " |" for row in rows),
    ]
    if total > len(rows):
        lines += ["", f"{total - len(rows)} more are in the archive."]
    return "\n".join(lines)


def _cell(text: str) -> str:
    return text.replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;").replace("\n", " ")
