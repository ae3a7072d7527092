"""The script that harvests items, beside a bare download of the same pages and beside other STAC clients.

All are processes of their own that page through the same pages, which come from a server's memory or from a pgstac.
What is counted is the time from when a program has started and imported what it needs to the upload that it ends with.
Within it the script compresses, looks at all ids a second time where that is said, and uploads its archive.
"""

import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

import requests

from benchmarks.page_server import COLLECTION, PAGE_SIZE, texts
from benchmarks.pgstac import missing, running_pgstac
from benchmarks.results import Result, medians
from spatiobatch.errors import HarvestError

_HERE = Path(__file__).parent
_SCRIPT = _HERE.parent / "task_scripts" / "harvest_items.py"
_PAGES, _FEW_PAGES, _MANY_PAGES = 100, 10, 1000
_MEMORY_MB = 120
_PEAK = """
import atexit, pathlib, runpy, sys
atexit.register(lambda: print(pathlib.Path("/proc/self/status").read_text()))
del sys.argv[0]
runpy.run_path(sys.argv[0], run_name="__main__")
"""
"""Runs a program, and prints at its end what the system knows of the process; its peak is `VmHWM`."""


@dataclass(frozen=True)
class Measured:
    """What one run of a program took."""

    items_per_second: float
    peak_mb: float


@dataclass(frozen=True)
class Stage:
    """A page server in a process of its own, and the catalog that is harvested: its own, or one beside it."""

    server: str
    catalog: str
    pages: int
    folder: Path

    def script(self, verify: Literal["ids", "none"] = "ids") -> Measured:
        """The item script over all pages."""
        shard = {"collection": "strips", "name": "s", "page_size": PAGE_SIZE, "page_quota": self.pages + 1}
        shard |= {"harvest_started": "2026-02-01T00:00:00Z", "verify": verify}
        return self._run(
            [str(_SCRIPT)],
            GEOCATALOG_URL=self.catalog.removesuffix("/stac"),
            GEOCATALOG_API_VERSION="2026-04-15",
            AZURE_CLIENT_ID="benchmark",
            AZURE_POD_IDENTITY_AUTHORITY_HOST=self.server,
            RESULTS_URL=f"{self.server}/results",
            HARVEST_PREFIX="h",
            ITEMS_PREFIX="items/s",
            SHARD=json.dumps(shard),
        )

    def peer(self, name: str) -> Measured:
        """One of the peers over all pages."""
        return self._run([str(_HERE / "peers.py"), name, self.server, self.catalog, str(self.pages)])

    def _run(self, command: list[str], **environment: str) -> Measured:
        with tempfile.TemporaryDirectory(dir=self.folder) as folder:
            done = subprocess.run(  # noqa: S603  # our own command
                [sys.executable, "-I", "-c", _PEAK, *command],
                cwd=folder,
                env={**environment, "HOME": folder},
                capture_output=True,
                text=True,
                check=False,
            )
        if done.returncode:
            raise HarvestError(f"{' '.join(command)} failed: {done.stderr.strip().splitlines()[-1:]}")
        seconds = requests.get(f"{self.server}/measured", timeout=60).json()["seconds"]
        peak_kb = next(line.split()[1] for line in done.stdout.splitlines() if line.startswith("VmHWM"))
        return Measured(self.pages * PAGE_SIZE / seconds, int(peak_kb) / 1024)


@contextmanager
def stage(folder: Path, pages: int, *, prepared: bool = False, catalog: str = "") -> Iterator[Stage]:
    """A server of so many pages, which it makes beforehand or whenever they are asked for; or a catalog beside it."""
    command = [sys.executable, str(_HERE / "page_server.py"), str(pages), *(["prepared"] if prepared else [])]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:  # noqa: S603  # our own command
        try:
            address = process.stdout.readline().strip() if process.stdout else ""
            yield Stage(address, catalog or f"{address}/stac", pages, folder)
        finally:
            process.terminate()


def measure(folder: Path) -> list[Result]:
    """Items per second, and how much memory that takes."""
    peaks = [_peak(folder, pages) for pages in (_FEW_PAGES, _MANY_PAGES)]
    return _from_memory(folder) + ([] if missing() else [_from_pgstac(folder)]) + peaks


def _from_memory(folder: Path) -> list[Result]:
    with stage(folder, _PAGES, prepared=True) as large, stage(folder, _FEW_PAGES, prepared=True) as small:
        sides: dict[str, Callable[[], Measured]] = {
            "first look": partial(large.script, "none"),
            "both looks": large.script,
            "download": partial(large.peer, "download"),
            "download_twice": partial(large.peer, "download_twice"),
            **{name: partial(small.peer, name) for name in ("pystac_dicts", "pystac_items", "rustac")},
        }
        rates = medians({name: partial(_rate, run) for name, run in sides.items()})
    both, ours = rates["both looks"], "item script, both looks"
    return [
        Result("item script", rates["first look"], "bare download", rates["download"], "items/s", at_least=0.6),
        Result(ours, both, "bare download, ids too", rates["download_twice"], "items/s", at_least=0.6),
        Result(ours, both, "pystac-client to NDJSON", rates["pystac_dicts"], "items/s", at_least=3),
        Result(ours, both, "pystac-client .items()", rates["pystac_items"], "items/s", at_least=10),
        Result(ours, both, "rustac to NDJSON", rates["rustac"], "items/s"),
    ]


def _from_pgstac(folder: Path) -> Result:
    items = (text.encode() for text in texts(0, _FEW_PAGES * PAGE_SIZE))
    with (
        running_pgstac([json.dumps(COLLECTION).encode()], items) as address,
        stage(folder, _FEW_PAGES, catalog=f"{address}/stac") as there,
    ):
        sides = {"script": partial(there.script, "none"), "download": partial(there.peer, "follow")}
        rates = medians({name: partial(_rate, run) for name, run in sides.items()})
    return Result(
        "item script, pgstac", rates["script"], "bare download, pgstac", rates["download"], "items/s", at_least=0.9
    )


def _rate(run: Callable[[], Measured]) -> float:
    return run().items_per_second


def _peak(folder: Path, pages: int) -> Result:
    with stage(folder, pages) as there:
        peak = there.script().peak_mb
    return Result(f"peak at {pages * PAGE_SIZE:,} items", peak, "limit", _MEMORY_MB, "MB", at_most=1)
