"""local_azure's Batch under load: answers do not slow down with the tasks of a job, memory not with the requests.

`python -m benchmarks listing` has the figures; the bounds here are loose enough for a busy machine.
"""

import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from azure.core.rest import HttpRequest
from conftest import running_azure
from local_pools import Batch, batch_account

TASKS = 10_000
PAGE = 100
CALLS = 100


class Loaded(NamedTuple):
    """A stand-in with a small job and one of 10,000 tasks."""

    batch: Batch
    state: Path
    small: str
    large: str

    def milliseconds(self, path: str, calls: int = CALLS) -> float:
        """Median time of an answer."""
        return statistics.median(self._timed(path) for _ in range(calls))

    def _timed(self, path: str) -> float:
        request = HttpRequest("GET", f"{path}&api-version=2025-06-01")
        begun = time.perf_counter()
        assert self.batch.client.send_request(request).status_code == 200
        return 1000 * (time.perf_counter() - begun)

    def megabytes(self) -> float:
        """What the stand-in's process has of its own."""
        mine = [file for file in Path("/proc").glob("[0-9]*/cmdline") if str(self.state) in text(file)]
        (status,) = [text(file.parent / "status") for file in mine if "local_azure" in text(file)]
        return int(status.partition("RssAnon:")[2].split()[0]) / 1024


def text(file: Path) -> str:
    """A file of /proc; empty if its process has ended."""
    try:
        return file.read_text(errors="replace")
    except OSError:
        return ""


@pytest.fixture(scope="module")
def running_load(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Loaded]:
    folder = tmp_path_factory.mktemp("azure")
    with pytest.MonkeyPatch.context() as environment, running_azure(folder, "--clock", "instant") as settings:
        for name, value in settings.items():
            environment.setenv(name, value)
        with batch_account(settings) as batch:
            jobs = [batch.job("nowhere"), batch.job("nowhere")]
            for job, count in zip(jobs, (PAGE, TASKS), strict=True):
                batch.client.create_tasks(job, [{"id": f"t{n}", "commandLine": "/bin/true"} for n in range(count)])
            yield Loaded(batch, folder / "state", *jobs)


@pytest.fixture
def loaded(running_load: Loaded, monkeypatch: pytest.MonkeyPatch) -> Loaded:
    """That stand-in, with the clients pointed at it."""
    for name, value in running_load.batch.settings.items():
        monkeypatch.setenv(name, value)
    return running_load


def in_turns(loaded: Loaded, path: str) -> tuple[float, float]:
    """Median times for the small and for the large job, which take turns."""
    rounds = [
        (loaded.milliseconds(path.format(job=loaded.small), 5), loaded.milliseconds(path.format(job=loaded.large), 5))
        for _ in range(CALLS // 5)
    ]
    return statistics.median(small for small, _ in rounds), statistics.median(large for _, large in rounds)


@pytest.mark.parametrize(
    "path",
    [
        f"/jobs/{{job}}/tasks?maxresults={PAGE}",
        f"/jobs/{{job}}/tasks?maxresults={PAGE}&$select=id,state,executionInfo",
        "/jobs/{job}/tasks/t99?",
        "/jobs/{job}/taskcounts?",
        "/jobs/{job}?",
    ],
    ids=["page", "states", "task", "counts", "job"],
)
def test_answers_take_about_as_long_for_ten_thousand_tasks_as_for_a_hundred(loaded: Loaded, path: str) -> None:
    small, large = in_turns(loaded, path)
    assert large < 50
    assert large < 4 * small + 2


@pytest.mark.parametrize("query", ["$skiptoken=9000&$select=id,state", "$filter=state eq 'completed'"])
def test_deep_page_and_empty_filter_look_at_all_tasks_within_the_limit(loaded: Loaded, query: str) -> None:
    assert loaded.milliseconds(f"/jobs/{loaded.large}/tasks?{query}", 30) < 50


def test_memory_grows_with_tasks_and_not_with_requests(loaded: Loaded) -> None:
    def grown(act: Callable[[], object]) -> float:
        before = loaded.megabytes()
        act()
        return loaded.megabytes() - before

    path = f"/jobs/{loaded.large}/tasks?maxresults={PAGE}"
    loaded.milliseconds(path)
    assert grown(lambda: loaded.milliseconds(path, 1500)) < 6
    more = [{"id": f"more{number}", "commandLine": "/bin/true"} for number in range(TASKS)]
    assert 6 < grown(lambda: loaded.batch.client.create_tasks(loaded.small, more)) < 120
