"""`python -m benchmarks`: measure what the documentation claims, each figure beside one that it can be judged by."""

import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from benchmarks import fair_use, harvesting, listing, million, paging, runs, shards, submitting
from benchmarks.results import Result, json_lines, print_table
from benchmarks.stand_in import local_azure, variables
from flows.console import err, guarded
from spatiobatch.errors import ConfigurationError
from spatiobatch.settings import ENVIRONMENT_VARIABLE, load_settings
from tasks.clients import AzureClients

_ITEMS = 20_000
_WIDTH = 120
"""Of the table, wherever it is printed to."""

cli = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)


def whole_runs(folder: Path) -> list[Result]:
    """Whole runs, and pages of the GeoCatalog on the environment that they have built."""
    checkout, pages = folder / "checkout", folder / "pages"
    for room in (checkout, pages):
        room.mkdir()
    results = runs.measure(checkout)
    environment = {ENVIRONMENT_VARIABLE: str(checkout / "deployments" / "local.toml")}
    with (
        local_azure(checkout / ".spatiobatch", "--demo-items", str(_ITEMS)) as address,
        variables({**address, **environment}, clean=True),
    ):
        return results + paging.measure(AzureClients(load_settings()), address["LOCAL_AZURE_GEOCATALOG_URL"], pages)


SUBJECTS: dict[str, Callable[[Path], list[Result]]] = {
    "runs": whole_runs,
    "harvesting": harvesting.measure,
    "submitting": submitting.measure,
    "listing": listing.measure,
    "fair_use": fair_use.measure,
    "shards": shards.measure,
    "million": million.measure,
}
"""What can be measured alone; each works in an empty folder of its own."""
ONLY_BY_NAME = ("million",)
"""They take several minutes."""


@cli.command()
def benchmarks(
    subjects: Annotated[
        list[str] | None, typer.Argument(help=f"Of {', '.join(SUBJECTS)}; all but {', '.join(ONLY_BY_NAME)}.")
    ] = None,
    json: Annotated[Path | None, typer.Option(help="File for the results as JSON lines.")] = None,
) -> None:
    """Measure, and print one table."""
    begun, console = time.monotonic(), Console(highlight=False, width=_WIDTH)
    if unknown := set(subjects or ()) - SUBJECTS.keys():
        raise ConfigurationError(f"There is no subject {', '.join(sorted(unknown))}; there are {', '.join(SUBJECTS)}.")
    results: list[Result] = []
    for subject in subjects or [name for name in SUBJECTS if name not in ONLY_BY_NAME]:
        with tempfile.TemporaryDirectory(prefix="benchmarks-") as folder, err.status(f"Measuring {subject}"):
            results += SUBJECTS[subject](Path(folder))
    print_table(results, console)
    console.print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, {time.monotonic() - begun:.0f} s in all.")
    if json:
        json.write_text(json_lines(results))


if __name__ == "__main__":
    sys.exit(guarded(lambda: cli(standalone_mode=False), Path(".spatiobatch")))
