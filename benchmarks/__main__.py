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
from spatiobatch.settings import ENVIRONMENT_VARIABLE, load_settings
from tasks.clients import AzureClients

_ITEMS = 20_000
_WIDTH = 110
"""Of the table, wherever it is printed to."""


def main() -> None:
    """Measure all subjects, and print one table."""
    begun, console = time.monotonic(), Console(highlight=False, width=_WIDTH)
    with tempfile.TemporaryDirectory(prefix="benchmarks-") as temporary:
        checkout, pages = Path(temporary) / "checkout", Path(temporary) / "pages"
        for folder in (checkout, pages):
            folder.mkdir()
        with err.status("Measuring whole runs"):
            results = runs.measure(checkout)
        with err.status("Measuring throughput"):
            results += _throughput(checkout, pages)
    print_table(results, console)
    console.print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, {time.monotonic() - begun:.0f} s in all.")


def _throughput(checkout: Path, pages: Path) -> list[Result]:
    """On the environment that the runs have built."""
    environment = {ENVIRONMENT_VARIABLE: str(checkout / "deployments" / "local.toml")}
    with (
        local_azure(checkout / ".spatiobatch", "--demo-items", str(_ITEMS)) as address,
        variables({**address, **environment}, clean=True),
    ):
        azure = AzureClients(load_settings())
        return submitting.measure(azure) + paging.measure(azure, address["LOCAL_AZURE_GEOCATALOG_URL"], pages)


if __name__ == "__main__":
    sys.exit(guarded(main, Path(".spatiobatch")))
