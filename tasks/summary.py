"""Prefect artifacts: summaries for people, never the data itself.

Prefect enforces no size, but its UI stalls on large artifacts: they stop below 100 KB.
"""

import json
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any, TypeVar

from prefect import task
from prefect.artifacts import create_markdown_artifact, create_table_artifact

from spatiobatch.manifest import CollectionTotals, Cost, Layout, Manifest, readable_extent
from spatiobatch.query import Content
from spatiobatch.text import in_markdown, plain, without_markup

_MOST_ROWS = 500
_MOST_BYTES = 90_000
_LONGEST_CELL = 120

R = TypeVar("R")
Row = dict[str, str]


def collection_rows(collections: list[dict[str, Any]], manifest: Manifest) -> list[Row]:
    """One row for each collection, with nothing in it that a terminal would obey.

    What a harvest of collections found is id, title, extent, licence; of items, how many there are.
    """
    rows = [
        {
            "id": plain(collection["id"], _LONGEST_CELL),
            "title": plain(collection.get("title") or "", _LONGEST_CELL),
            "extent": plain(readable_extent(collection), _LONGEST_CELL),
            "licence": plain(collection.get("license") or "", _LONGEST_CELL),
        }
        for collection in collections
    ]
    if manifest.query.content is Content.collections:
        return rows
    found = [manifest.collections[collection["id"]] for collection in collections]
    return [
        {"id": row["id"], **_counts(totals), "extent": row["extent"]} for row, totals in zip(rows, found, strict=True)
    ]


def _counts(found: CollectionTotals) -> Row:
    """Its totals in words; what is zero everywhere says so too."""
    return {name: f"{count:,}" for name, count in found.model_dump(exclude={"changed_by"}).items()}


@task(name="summarise")
def summarise(manifest: Manifest, collections: list[dict[str, Any]], archive: str, picture: str | None = None) -> str:
    """Create the markdown and the table artifact of a harvest; returns the markdown's key.

    The keys hold the query's hash, so that the harvests of one query are versions of the same artifacts.
    """
    rows = collection_rows(collections, manifest)
    key = f"harvest-{manifest.query.hash}"
    table = [{name: without_markup(cell) for name, cell in row.items()} for row in rows]
    shown = table[: fitting(table, json.dumps)]
    create_table_artifact(shown, key=f"{key}-collections", description=f"Collections of harvest {manifest.harvest_id}")
    page = _page(manifest, rows, archive, picture)
    create_markdown_artifact(page, key=key, description=f"Summary of harvest {manifest.harvest_id}")
    return key


def fitting(rows: Sequence[R], written: Callable[[R], str]) -> int:
    """How many of the rows an artifact can hold."""
    size = 0
    for number, row in enumerate(rows[:_MOST_ROWS]):
        size += len(written(row).encode())
        if size > _MOST_BYTES:
            return number
    return min(len(rows), _MOST_ROWS)


def _page(manifest: Manifest, rows: list[Row], archive: str, picture: str | None) -> str:
    """Warnings, then what was found in a few lines, then the collections."""
    shown = fitting(rows, _line)
    lines = [
        f"# {manifest.headline}" + ("" if manifest.complete else " (incomplete)"),
        "",
        *(f"⚠ **{warning}**\n" for warning in _warnings(manifest)),
        "| at a glance | |",
        "| --- | --- |",
        *(f"| {name} | {text} |" for name, text in _at_a_glance(manifest, archive, picture).items() if text),
        "",
        "## Collections",
        "",
        *(_heading(rows[0]) if rows else ["None."]),
        *map(_line, rows[:shown]),
    ]
    if shown < len(rows):
        lines += ["", f"{len(rows) - shown} more are in the archive."]
    return "\n".join(lines)


def _at_a_glance(manifest: Manifest, archive: str, picture: str | None) -> Row:
    """What a harvest came to, as Markdown; empty where there is nothing to say."""
    items = manifest.query.content is Content.items
    proof = "a second look at all ids agrees" if items else "every page was followed to the last"
    took = timedelta(seconds=round((manifest.finished - manifest.started).total_seconds()))
    return {
        "changed": manifest.difference or ("nothing to compare with yet" if items else ""),
        "proof": proof if manifest.complete and manifest.verified else "",
        "took": f"{took} (h:mm:ss), begun on {manifest.started:%Y-%m-%d at %H:%M} UTC",
        "cost": _cost(manifest.cost),
        "query": in_markdown(manifest.query.title),
        "harvest": f"`{manifest.harvest_id}` ({manifest.kind})",
        "archive": f"[{Layout(manifest.harvest_id).manifest}]({archive})",
        "picture": f"`{picture}`" if picture else "",
    }


def _warnings(manifest: Manifest) -> list[str]:
    """What keeps a harvest of items from being relied on, or its reader from being content."""
    found = manifest.collections.values()
    counts = {
        "collections could not be read and are left out; they are named in the manifest": len(
            manifest.unreadable_collections
        ),
        "ids could not be settled; their names are in the manifest": sum(totals.unsettled for totals in found),
        "items cannot be read and are not archived; they are named in the manifest": sum(t.unreadable for t in found),
        "items name another collection and are not archived; the manifest names them": sum(t.foreign for t in found),
        "items are counted by the catalog and were not given": sum(totals.uncounted for totals in found),
        "items are dirty; they are archived as they came, and named in the manifest": sum(t.dirty for t in found),
        "shards are of a version without seals; their items were counted, not compared": sum(t.unsealed for t in found),
        "items are not in the GeoParquet files; the archive has them": sum(t.not_in_parquet for t in found),
    }
    unverified = [] if manifest.verified else ["Completeness was not verified."]
    return unverified + [f"{count:,} {problem}." for problem, count in counts.items() if count]


def _cost(cost: Cost) -> str:
    calls = "" if cost.calls is None else f", {cost.calls:,} STAC calls, {cost.throttled or 0:,} of them throttled"
    return f"{cost.node_seconds:.0f} node seconds{calls}"


def _heading(row: Row) -> list[str]:
    return ["| " + " | ".join(row) + " |", "| " + " | ".join("---" for _ in row) + " |"]


def _line(row: Row) -> str:
    return "| " + " | ".join(map(in_markdown, row.values())) + " |"
