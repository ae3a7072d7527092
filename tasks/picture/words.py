"""What the picture says in words: what was harvested, and what neither the map nor the timeline can show."""

from collections.abc import Mapping
from dataclasses import dataclass

from spatiobatch.manifest import Manifest
from tasks.compaction import UNDATED, Compaction

_NAMED = 3


@dataclass(frozen=True)
class Words:
    """The picture's texts."""

    title: str
    subtitle: str
    notes: str


def words_of(manifest: Manifest, compactions: Mapping[str, Compaction]) -> Words:
    """Say what the manifest and the nodes' reports do."""
    title = manifest.headline + ("" if manifest.complete else " (incomplete)")
    return Words(title, _subtitle(manifest), _notes(compactions))


def _subtitle(manifest: Manifest) -> str:
    """Which collections, how the query narrowed them, and when."""
    query, names = manifest.query, list(manifest.collections)
    more = f" and {len(names) - _NAMED:,} more" if len(names) > _NAMED else ""
    box = ",".join(f"{number:g}" for number in query.bbox) if query.bbox else None
    narrowed = [part for part in (query.datetime, box, query.filter) if part]
    when = f"harvested {manifest.started:%Y-%m-%d}"
    return "  ·  ".join([when, ", ".join(names[:_NAMED]) + more, *narrowed])


def _notes(compactions: Mapping[str, Compaction]) -> str:
    files = [(month, file.items) for report in compactions.values() for month, file in report.files.items()]
    undated = sum(items for month, items in files if month == UNDATED)
    nowhere = sum(items for _, items in files) - sum(report.footprints.items for report in compactions.values())
    notes = []
    if nowhere:
        notes.append(f"Not on the map: {nowhere:,} without a usable footprint.")
    if undated:
        notes.append(f"Not in the timeline: {undated:,} without a date.")
    return "  ".join(notes)
