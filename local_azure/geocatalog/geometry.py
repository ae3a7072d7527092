"""Geometries as the catalog keeps them: WKB, and their bounds beside it."""

from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Any

import shapely  # type: ignore[import-untyped]  # it comes without types

PREDICATES = ("contains", "crosses", "disjoint", "equals", "intersects", "overlaps", "touches", "within")

Bounds = tuple[float, float, float, float]


def box(numbers: Iterable[float]) -> bytes:
    """The area of a bounding box of four or six numbers, in two parts where it crosses the antimeridian.

    Raises:
        ValueError: its south is north of its north.
    """
    bounds = [float(number) for number in numbers]
    west, south, east, north = bounds if len(bounds) == 4 else (*bounds[:2], *bounds[3:5])
    if south > north:
        raise ValueError("the second latitude of a bounding box must not be less than the first")
    if west <= east:
        return bytes(shapely.to_wkb(shapely.box(west, south, east, north)))
    parts = shapely.union(shapely.box(west, south, 180, north), shapely.box(-180, south, east, north))
    return bytes(shapely.to_wkb(parts))


def geojson(text: str) -> bytes:
    """The geometry that GeoJSON describes.

    Raises:
        ValueError: it describes none.
    """
    try:
        return bytes(shapely.to_wkb(shapely.from_geojson(text)))
    except shapely.errors.GEOSException as error:
        raise ValueError(str(error)) from error


def bounds(wkb: bytes) -> Bounds:
    """West, south, east and north; not a number where the geometry is empty."""
    west, south, east, north = _geometry(wkb).bounds
    return west, south, east, north


def shapes(geojson_texts: Sequence[bytes]) -> list[tuple[Any, ...]]:
    """Bounds and WKB of many geometries at once; what is null or cannot be read has neither."""
    geometries = shapely.from_geojson(list(geojson_texts), on_invalid="ignore")
    rows = shapely.bounds(geometries).tolist()
    return [(*row, wkb) for row, wkb in zip(rows, shapely.to_wkb(geometries), strict=True)]


def relates(predicate: str, item_wkb: bytes | None, other_wkb: bytes) -> bool | None:
    """Whether one of the `PREDICATES` holds between an item's geometry and another; None without one."""
    if item_wkb is None:
        return None
    return bool(getattr(shapely, predicate)(shapely.from_wkb(item_wkb), _geometry(other_wkb)))


@lru_cache(maxsize=64)
def _geometry(wkb: bytes) -> Any:
    return shapely.from_wkb(wkb)
