"""The generated demo catalog: three collections of different kinds, the same at every start.

Items have the members of recorded ones in the recorded order. What the catalog says of its own writing, `_msft:ts` and
`_msft:etag`, stands beside their `properties`, where `updated` is their source's own.
"""

import random
import uuid
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

import msgspec

from local_azure.geocatalog.links import Links
from local_azure.store import Document

_FIRST = datetime(2021, 1, 1, tzinfo=UTC)
_LAST = datetime(2026, 1, 1, tzinfo=UTC)
_ASSETS = "https://example.com/assets"
_ROOT = "https://geocatalog.invalid/stac"
"""What stored links begin with, until they are answered."""


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
                "id": kind.id,
                "type": "Collection",
                "links": [{"rel": "license", "href": "https://creativecommons.org/licenses/by/4.0/"}],
                "title": kind.title,
                "extent": {
                    "spatial": {"bbox": [kind.bbox]},
                    "temporal": {"interval": [[_text(_FIRST), _text(_LAST)]]},
                },
                "license": "CC-BY-4.0",
                "keywords": ["demo"],
                "summaries": {"gsd": [kind.gsd], "platform": [kind.platform]},
                "description": kind.description,
                "item_assets": {"image": {"type": "image/tiff; application=geotiff", "roles": ["data"]}},
                "stac_version": "1.1.0",
                "msft:_created": _text(_FIRST),
                "msft:_updated": _text(_FIRST),
                "msft:short_description": kind.description,
            }
        )


def items(count: int) -> Iterator[tuple[str, bytes]]:
    """Collection ids and items as NDJSON lines."""
    chance = random.Random(20260415)  # noqa: S311  # to be the same every time, not to be secret
    for number in range(count):
        kind = _DECK[number % len(_DECK)]
        yield kind.id, msgspec.json.encode(_item(kind, number, chance))


def linked(root: str) -> Callable[[bytes], bytes]:
    """What gives a stored item its links below a STAC API's address."""
    stored, answered = f'"href":"{_ROOT}/'.encode(), f'"href":"{root}/'.encode()
    return lambda item: item.replace(stored, answered)


def _item(kind: _Kind, number: int, chance: random.Random) -> Document:
    item_id = f"{kind.id}-{number:07d}"
    west, south, east, north = kind.bbox
    left = round(chance.uniform(west, east - kind.footprint_degrees), 5)
    bottom = round(chance.uniform(south, north - kind.footprint_degrees), 5)
    right, top = round(left + kind.footprint_degrees, 5), round(bottom + kind.footprint_degrees, 5)
    ring = [[left, bottom], [right, bottom], [right, top], [left, top], [left, bottom]]
    acquired = _FIRST + timedelta(microseconds=chance.randrange(int((_LAST - _FIRST).total_seconds() * 1e6)))
    updated = acquired + timedelta(seconds=chance.randrange(3_600, 3_000_000))
    stored = (updated + timedelta(seconds=2)).isoformat(timespec="microseconds").replace("+00:00", "Z")
    return {
        "id": item_id,
        "bbox": [left, bottom, right, top],
        "type": "Feature",
        "links": Links(_ROOT).of_item(kind.id, item_id),
        "assets": {"image": {"href": f"{_ASSETS}/{item_id}.tif", "type": "image/tiff; application=geotiff"}},
        "_msft:ts": stored,
        "geometry": {"type": "Polygon", "coordinates": [ring]},
        "_msft:etag": str(uuid.uuid5(uuid.NAMESPACE_URL, f"{item_id} {stored}")),
        "collection": kind.id,
        "properties": {
            "gsd": kind.gsd,
            **_when(kind, acquired),
            "created": _text(updated),
            "updated": _text(updated),
            "platform": kind.platform,
            "eo:cloud_cover": round(chance.uniform(0, 100), 2),
        },
        "stac_extensions": ["https://stac-extensions.github.io/eo/v1.1.0/schema.json"],
        "stac_version": "1.1.0",
    }


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
