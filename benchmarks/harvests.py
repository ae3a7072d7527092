"""Whole harvests of a stand-in, each flow run a process of its own, and what is known of them afterwards."""

import sqlite3
import subprocess
import sys
from collections.abc import Collection, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import zstandard
from azure.batch.models import BatchTask

from benchmarks.stand_in import local_azure, variables
from spatiobatch.errors import HarvestError
from spatiobatch.settings import load_settings
from tasks.clients import AzureClients
from tasks.environment import read_environment

ROOT = Path(__file__).parent.parent
_RUN_SECONDS = 900


class _Named(msgspec.Struct):
    id: str


@dataclass(frozen=True)
class FlowRun:
    """What Prefect wrote down of a flow run."""

    began: datetime
    ended: datetime
    task_runs: int

    @property
    def seconds(self) -> float:
        """How long it ran, without the start and the end of its process."""
        return (self.ended - self.began).total_seconds()


@dataclass(frozen=True)
class Site:
    """A stand-in with an environment, and the settings that flows meet it with."""

    folder: Path
    settings: Mapping[str, str]

    def run(self, *arguments: str, **settings: str) -> FlowRun:
        """Run a command of `flows/run.py` to its end.

        Raises:
            HarvestError: it fails, or takes too long.
        """
        log = self.folder / "flow.log"
        with self.environment(**settings), log.open("wb") as output:
            command = [sys.executable, str(ROOT / "flows" / "run.py"), *arguments]
            with subprocess.Popen(command, stdout=output, stderr=output) as process:  # noqa: S603  # our own command
                try:
                    process.wait(_RUN_SECONDS)
                finally:
                    process.terminate()  # where it still runs, it closes its job first
        if process.returncode:
            said = log.read_text(errors="replace").strip().splitlines()
            raise HarvestError(f"{' '.join(arguments)} failed with {process.returncode}: {said[-1] if said else ''}")
        return self._last_flow_run()

    @contextmanager
    def environment(self, **settings: str) -> Iterator[None]:
        """The environment variables that its flows run with."""
        own = {f"SPATIOBATCH_{name.upper()}": value for name, value in settings.items()}
        with variables({**self.settings, **own, "PREFECT_HOME": str(self.folder / "prefect")}, clean=True):
            yield

    def _last_flow_run(self) -> FlowRun:
        with closing(sqlite3.connect(self.folder / "prefect" / "prefect.db")) as prefect:
            name, began, ended = prefect.execute(
                "SELECT id, start_time, end_time FROM flow_run ORDER BY start_time DESC LIMIT 1"
            ).fetchone()
            (task_runs,) = prefect.execute("SELECT count(*) FROM task_run WHERE flow_run_id = ?", (name,)).fetchone()
        return FlowRun(_in_utc(began), _in_utc(ended), task_runs)

    def tasks(self) -> list[BatchTask]:
        """The Batch tasks of the last harvest; for environments whose setting `job_end` is `terminate`."""
        with self.environment():
            azure = AzureClients(load_settings())
            batch = azure.batch(read_environment.fn(azure).batch_endpoint)
            job = max(batch.list_jobs(), key=lambda job: job.creation_time)
            return list(batch.list_tasks(job.id))

    def lost(self, output: Path, collections: Collection[str] = ()) -> int:
        """Ids of these collections, or all, that an archive lacks or holds twice, and ids that it has beside them."""
        (catalog,) = (self.folder / "local" / "stac").glob("*.sqlite")
        with closing(sqlite3.connect(f"{catalog.as_uri()}?mode=ro", uri=True)) as items:
            found = items.execute("SELECT collection, id FROM items")
            served = {name for collection, name in found if not collections or collection in collections}
        archived = list(archived_ids(output))
        return len(served ^ set(archived)) + len(archived) - len(set(archived))


@contextmanager
def site(folder: Path, *flags: str, **settings: str) -> Iterator[Site]:
    """A stand-in with a fresh environment, for the time of a `with`."""
    own = {f"SPATIOBATCH_{name.upper()}": value for name, value in settings.items()}
    with local_azure(folder, *flags) as address:
        there = Site(folder, {**address, "SPATIOBATCH_POLL_SECONDS": "0.5", **own})
        there.run("provision")
        yield there


def _in_utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def archived_ids(output: Path) -> Iterator[str]:
    """The ids of the items in a folder that a harvest was copied to."""
    decoder = msgspec.json.Decoder(_Named)
    for file in output.rglob("items/*/*.ndjson.zst"):
        with file.open("rb") as raw, zstandard.ZstdDecompressor().stream_reader(raw) as lines:
            rest = b""
            while block := lines.read(1 << 20):
                *whole, rest = (rest + block).split(b"\n")
                yield from (decoder.decode(line).id for line in whole)
