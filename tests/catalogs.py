"""Catalog folders for tests, as `--catalog` takes them, and what a harvest archived of one."""

import json
from pathlib import Path
from typing import Any

import zstandard

DATA = Path(__file__).parent.parent.parent / "shared" / "data" / "stac"
"""Real STAC data, where it is at hand."""


def collection(number: int, **members: Any) -> dict[str, Any]:
    """A STAC collection; the higher the number, the odder its text."""
    return {
        "type": "Collection",
        "stac_version": "1.0.0",
        "id": f"collection-{number:04d}",
        "title": f"Höhen | [{number}](https://example.org) <b>\u2028",
        "description": "Heights above the ground.",
        "license": "CC-BY-4.0",
        "extent": {
            "spatial": {"bbox": [[-10.5, 35, 5.25, 44]]},
            "temporal": {"interval": [["2020-01-01T00:00:00Z", None]]},
        },
        "links": [],
        "example:count": number * 1.5,
        **members,
    }


def catalog_folder(folder: Path, count: int) -> Path:
    """A catalog of so many collections, without items."""
    folder.mkdir()
    lines = [json.dumps(collection(number), ensure_ascii=False) for number in range(count)]
    (folder / "collections.ndjson").write_text("\n".join(lines) + "\n", encoding="utf-8")
    for number in range(count):
        (folder / f"collection-{number:04d}.ndjson").touch()
    return folder


def without_links(collections: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Collections but for the links, which the server makes."""
    return [{name: value for name, value in each.items() if name != "links"} for each in collections]


def archived(output: Path) -> dict[tuple[str, str], bytes]:
    """Lines of the archive by collection and id; each may be there once."""
    lines: dict[tuple[str, str], bytes] = {}
    for file in output.glob("harvests/*/items/*/*.ndjson.zst"):
        for line in zstandard.ZstdDecompressor().stream_reader(file.read_bytes()).read().splitlines():
            item = json.loads(line)
            key = item["collection"], item["id"]
            assert key not in lines
            lines[key] = line
    return lines
