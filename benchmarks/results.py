"""A measurement beside what it is to be judged by."""

from collections.abc import Iterable
from dataclasses import dataclass

from rich import box
from rich.console import Console
from rich.table import Table


@dataclass(frozen=True)
class Result:
    """Two figures of one run on one machine; their ratio is what can be compared between machines."""

    subject: str
    value: float
    beside: str
    other: float
    unit: str

    @property
    def ratio(self) -> float:
        """How many times the other figure."""
        return self.value / self.other


def print_table(results: Iterable[Result], console: Console) -> None:
    """All results, one per row."""
    table = Table("measured", "", "beside", "", "ratio", box=box.SIMPLE)
    for column in (1, 3, 4):
        table.columns[column].justify = "right"
    for result in results:
        value, other = (f"{figure:,.1f} {result.unit}" for figure in (result.value, result.other))
        table.add_row(result.subject, value, result.beside, other, f"{result.ratio:,.2f}")
    console.print(table)
