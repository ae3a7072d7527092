"""The generated demo catalog: three collections of different kinds, the same at every start but for its own address."""

import hashlib
import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

import msgspec

from local_azure.store import Document

_FIRST = datetime(2021, 1, 1, tzinfo=UTC)
_LAST = datetime(2026, 1, 1, tzinfo=UTC)
_ASSETS = "https://example.com/assets"


class _Kind(NamedTuple):
    id: str
    title: str
    description: str
    platform: str
    gsd: float
    bbox: tuple[float, float, float, float]
    footprint_degrees: float
    share: int
    """Of ten items, how many are of this kind."""


_SCENES = _Kind(
    "optical-scenes", "Optical scenes", "Multispectral scenes of single moments.", "demo-sat-1", 10,
    (-180, -60, 180, 75), 1.0, 6,
)  # fmt: skip
_STRIPS = _Kind(
    "aerial-strips", "Aerial strips", "Flight strips with a start and an end beside their datetime.", "aircraft", 0.3,
    (-10.5, 49.5, 2.0, 61.0), 0.05, 3,
)  # fmt: skip
_COMPOSITES = _Kind(
    "monthly-composites", "Monthly composites", "Mosaics of a month each, without a datetime.", "demo-sat-1", 100,
    (-20, -35, 55, 38), 5.0, 1,
)  # fmt: skip
_KINDS = (_SCENES, _STRIPS, _COMPOSITES)
_DECK = [kind for kind in _KINDS for _ in range(kind.share)]


def collections() -> Iterator[bytes]:
    """The collections as NDJSON lines."""
    for kind in _KINDS:
        yield msgspec.json.encode(
            {
                "type": "Collection",
                "stac_version": "1.1.0",
                "id": kind.id,
                "title": kind.title,
                "description": kind.description,
                "license": "CC-BY-4.0",
                "keywords": ["demo"],
                "extent": {
                    "spatial": {"bbox": [kind.bbox]},
                    "temporal": {"interval": [[_text(_FIRST), _text(_LAST)]]},
                },
                "summaries": {"platform": [kind.platform], "gsd": [kind.gsd]},
                "item_assets": {"image": {"type": "image/tiff; application=geotiff", "roles": ["data"]}},
                "links": [{"rel": "license", "href": "https://creativecommons.org/licenses/by/4.0/"}],
            }
        )


def items(count: int, root: str) -> Iterator[tuple[str, bytes]]:
    """Collection ids and items as NDJSON lines, with links below a STAC API's address."""
    chance = random.Random(20260415)  # noqa: S311  # to be the same every time, not to be secret
    for number in range(count):
        kind = _DECK[number % len(_DECK)]
        yield kind.id, msgspec.json.encode(_item(kind, number, chance, root))


def _item(kind: _Kind, number: int, chance: random.Random, root: str) -> Document:
    item_id = f"{kind.id}-{number:07d}"
    west, south, east, north = kind.bbox
    left = round(chance.uniform(west, east - kind.footprint_degrees), 5)
    bottom = round(chance.uniform(south, north - kind.footprint_degrees), 5)
    right, top = round(left + kind.footprint_degrees, 5), round(bottom + kind.footprint_degrees, 5)
    ring = [[left, bottom], [right, bottom], [right, top], [left, top], [left, bottom]]
    acquired = _FIRST + timedelta(microseconds=chance.randrange(int((_LAST - _FIRST).total_seconds() * 1e6)))
    updated = acquired + timedelta(seconds=chance.randrange(3_600, 3_000_000))
    return {
        "type": "Feature",
        "stac_version": "1.1.0",
        "stac_extensions": ["https://stac-extensions.github.io/eo/v1.1.0/schema.json"],
        "id": item_id,
        "collection": kind.id,
        "geometry": {"type": "Polygon", "coordinates": [ring]},
        "bbox": [left, bottom, right, top],
        "properties": {
            **_when(kind, acquired),
            "platform": kind.platform,
            "gsd": kind.gsd,
            "eo:cloud_cover": round(chance.uniform(0, 100), 2),
            "created": _text(updated),
            "updated": _text(updated),
            "_msft:ts": _text(updated + timedelta(seconds=2)),
            "_msft:etag": hashlib.sha256(item_id.encode()).hexdigest()[:16],
        },
        "links": _links(item_id, f"{root}/collections/{kind.id}", root),
        "assets": {"image": {"href": f"{_ASSETS}/{item_id}.tif", "type": "image/tiff; application=geotiff"}},
    }


def _links(item_id: str, collection: str, root: str) -> list[Document]:
    """As STAC's specification of an item has them."""
    return [
        {"rel": "collection", "type": "application/json", "href": collection},
        {"rel": "parent", "type": "application/json", "href": collection},
        {"rel": "root", "type": "application/json", "href": f"{root}/"},
        {"rel": "self", "type": "application/geo+json", "href": f"{collection}/items/{item_id}"},
    ]


def _when(kind: _Kind, acquired: datetime) -> Document:
    if kind is _SCENES:
        return {"datetime": _text(acquired)}
    if kind is _STRIPS:
        start = acquired.replace(microsecond=0)
        return {
            "datetime": _text(start),
            "start_datetime": _text(start),
            "end_datetime": _text(start + timedelta(hours=2)),
        }
    first = acquired.replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    following = (first + timedelta(days=32)).replace(day=1)
    last = following - timedelta(seconds=1)
    return {"datetime": None, "start_datetime": _text(first), "end_datetime": _text(last)}


def _text(moment: datetime) -> str:
    return moment.isoformat().replace("+00:00", "Z")
