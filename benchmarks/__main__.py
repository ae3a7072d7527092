"""`python -m benchmarks`: measure what the documentation claims, each figure beside one that it can be judged by."""

import os
import sys
import tempfile
import time
from pathlib import Path

from rich.console import Console

from benchmarks import paging, runs, submitting
from benchmarks.results import Result, print_table
from benchmarks.stand_in import local_azure, variables
from flows.console import err, guarded
from spatiobatch.settings import load_settings
from tasks.clients import AzureClients
from tasks.environment import geocatalog_url

_FLAGS = ("--clock", "instant", "--demo-items", "20000")
_EMPTY_POOL = {"SPATIOBATCH_POOL_SCALING": "fixed", "SPATIOBATCH_POOL_NODES": "0"}


def main() -> None:
    """Measure all subjects, and print one table."""
    begun, console = time.monotonic(), Console(highlight=False)
    with tempfile.TemporaryDirectory(prefix="benchmarks-") as temporary:
        folder = Path(temporary)
        results = _throughput(folder) + _whole_runs(folder)
    print_table(results, console)
    console.print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, {time.monotonic() - begun:.0f} s in all.")


def _throughput(folder: Path) -> list[Result]:
    pages = folder / "pages"
    pages.mkdir()
    with (
        err.status("Measuring throughput"),
        local_azure(folder / "throughput", *_FLAGS) as address,
        variables({**address, **_EMPTY_POOL}, clean=True),
    ):
        azure = AzureClients(load_settings())
        return paging.measure(azure, geocatalog_url(azure), pages) + submitting.measure(azure)


def _whole_runs(folder: Path) -> list[Result]:
    checkout = folder / "checkout"
    checkout.mkdir()
    with err.status("Measuring whole runs"):
        return runs.measure(checkout)


if __name__ == "__main__":
    sys.exit(guarded(main))
