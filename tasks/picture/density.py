"""Where the items of a harvest lie: how many footprints touch each cell of one grid."""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

from tasks.compaction import Footprints

_MOST_COLUMNS = 180
"""Finer cells would be specks."""
_WORLD_DEGREES = 150
"""What spreads wider than this is shown on the whole globe."""


@dataclass(frozen=True)
class Density:
    """Items by column (from 180° W) and row (from 90° S) of a grid whose cells have so many degrees."""

    degrees: float
    items: dict[tuple[int, int], int]

    @cached_property
    def extent(self) -> tuple[float, float, float, float]:
        """West, south, east, north of all cells, by the shortest way around the globe; east may be beyond 180°."""
        columns = sorted({column for column, _ in self.items})
        rows = [row for _, row in self.items]
        turn = round(360 / self.degrees)
        _, first = max((after - before, after) for before, after in pairwise([columns[-1] - turn, *columns]))
        width = max((column - first) % turn for column in columns) + 1
        west, south = first * self.degrees - 180, min(rows) * self.degrees - 90
        return west, south, west + width * self.degrees, (max(rows) + 1) * self.degrees - 90

    @property
    def worldwide(self) -> bool:
        """Whether it takes the whole globe to show it."""
        west, _, east, _ = self.extent
        return east - west > _WORLD_DEGREES

    def boxes(self, west: float = -180) -> Iterator[tuple[float, float, float, float, int]]:
        """West, south, east, north and items of each cell, going east from a meridian."""
        for (column, row), items in self.items.items():
            left = (column * self.degrees - 180 - west) % 360 + west
            bottom = row * self.degrees - 90
            yield left, bottom, left + self.degrees, bottom + self.degrees, items


def density_of(footprints: Iterable[Footprints]) -> Density | None:
    """All collections on the finest of their common grids whose cells can be seen; None if nothing lies anywhere."""
    placed = [each for each in footprints if each.items]
    if not placed:
        return None
    shared = sorted(set.intersection(*(set(each.grids) for each in placed)), reverse=True)
    coarse = _on_grid(placed, shared[0])
    west, south, east, north = coarse.extent
    return _on_grid(placed, min(size for size in shared if max(east - west, north - south) <= size * _MOST_COLUMNS))


def _on_grid(placed: Iterable[Footprints], degrees: float) -> Density:
    items: Counter[tuple[int, int]] = Counter()
    for each in placed:
        for column, row, count in each.cells(degrees):
            items[column, row] += count
    return Density(degrees, items)
