"""A measurement beside what it is to be judged by, and how the two are taken."""

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from statistics import median

from rich import box
from rich.console import Console
from rich.table import Table

RUNS = 9
"""How often each side is measured."""


@dataclass(frozen=True)
class Result:
    """Two figures of one run on one machine; their ratio is what can be compared between machines."""

    subject: str
    value: float
    beside: str
    other: float
    unit: str
    at_least: float | None = None
    """The ratio that is wanted."""
    at_most: float | None = None

    @property
    def ratio(self) -> float:
        """How many times the other figure."""
        return self.value / self.other

    @property
    def wanted(self) -> str:
        """The bounds of the ratio, and whether they are kept."""
        low, high = self.at_least, self.at_most
        bounds = [f"≥ {low:g}"] if low is not None else []
        bounds += [f"≤ {high:g}"] if high is not None else []
        kept = (low is None or self.ratio >= low) and (high is None or self.ratio <= high)
        return " ".join(bounds) + ("" if kept else ", missed")


def medians(sides: Mapping[str, Callable[[], float]], runs: int = RUNS) -> dict[str, float]:
    """The median of what each side measures; they take turns, so that others' work on the machine hits all alike."""
    rounds = [{name: measure() for name, measure in sides.items()} for _ in range(runs)]
    return {name: median(figures[name] for figures in rounds) for name in sides}


def print_table(results: Iterable[Result], console: Console) -> None:
    """All results, one per row."""
    table = Table("measured", "", "beside", "", "ratio", "wanted", box=box.SIMPLE)
    for column in (1, 3, 4):
        table.columns[column].justify = "right"
    for result in results:
        value, other = (f"{figure:,.1f} {result.unit}" for figure in (result.value, result.other))
        table.add_row(result.subject, value, result.beside, other, f"{result.ratio:,.2f}", result.wanted)
    console.print(table)


def json_lines(results: Iterable[Result]) -> str:
    """All results, one JSON object a line."""
    return "".join(json.dumps({**asdict(result), "ratio": result.ratio}) + "\n" for result in results)
