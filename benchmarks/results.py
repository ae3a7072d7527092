"""A measurement beside what it is to be judged by."""

from collections.abc import Iterable
from dataclasses import dataclass

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
    table = Table(title="Measured in this run", title_justify="left")
    for heading in ("what", "beside", "ratio"):
        table.add_column(heading, justify="right" if heading == "ratio" else "left", overflow="fold")
    for result in results:
        table.add_row(
            f"{result.subject}: {result.value:,.1f} {result.unit}",
            f"{result.beside}: {result.other:,.1f} {result.unit}",
            f"{result.ratio:,.2f}",
        )
    console.print(table)
