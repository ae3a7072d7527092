"""When the items of a harvest are from: how many in each month, or year, decade or century."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from tasks.compaction import UNDATED, Compaction

_UNITS = {"month": 1, "year": 12, "decade": 120, "century": 1200}
_MOST_BINS = 180
_MOST_SERIES = 7
"""As many colours can be told apart."""


@dataclass(frozen=True)
class Timeline:
    """Items by name of the collection and first month of the bin; months are numbered from January of year 0."""

    unit: str
    series: dict[str, Counter[int]]

    @property
    def months(self) -> int:
        """Months in a bin."""
        return _UNITS[self.unit]


def timeline_of(compactions: Mapping[str, Compaction]) -> Timeline:
    """The items of all collections, the largest first; those beyond a handful are one series."""
    counted = {name: _by_month(report) for name, report in compactions.items()}
    dated = {name: months for name, months in counted.items() if months}
    found = sorted(month for months in dated.values() for month in months)
    span = found[-1] - found[0] if found else 0
    unit = next((unit for unit, months in _UNITS.items() if span < months * _MOST_BINS), "century")
    series = {name: _binned(months, _UNITS[unit]) for name, months in _largest_first(dated).items()}
    return Timeline(unit, series)


def _by_month(report: Compaction) -> Counter[int]:
    months: Counter[int] = Counter()
    for name, file in report.files.items():
        if name != UNDATED and file.items:
            year, month = map(int, name.split("-"))
            months[year * 12 + month - 1] = file.items
    return months


def _largest_first(counted: Mapping[str, Counter[int]]) -> dict[str, Counter[int]]:
    names = sorted(counted, key=lambda name: (-counted[name].total(), name))
    kept = names if len(names) <= _MOST_SERIES else names[: _MOST_SERIES - 1]
    series = {name: counted[name] for name in kept}
    if others := names[len(kept) :]:
        series[f"{len(others):,} others"] = sum((counted[name] for name in others), Counter())
    return series


def _binned(months: Counter[int], size: int) -> Counter[int]:
    binned: Counter[int] = Counter()
    for month, items in months.items():
        binned[month // size * size] += items
    return binned
