"""How long `local_azure` takes to answer about a job of 10,000 tasks, and what requests leave in its memory."""

import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

from azure.batch import BatchClient
from azure.batch.models import BatchJobDisableOptions, BatchTaskCreateOptions
from azure.core.rest import HttpRequest

from benchmarks.harvests import site
from benchmarks.memory import megabytes_now
from benchmarks.results import Result
from spatiobatch.settings import load_settings
from tasks.clients import AzureClients
from tasks.environment import read_environment
from tasks.job import close_job, open_job, submit_tasks

_TASKS = 10_000
_CALLS = 500
"""Of each kind."""
_LIMIT_MILLISECONDS = 50
_STATES = "$select=id,state,executionInfo"
_ASKED = {
    "first 1,000 of 10,000 tasks": "/jobs/{job}/tasks?",
    "states of the last 1,000 of them": f"/jobs/{{job}}/tasks?$skiptoken={_TASKS - 1000}&{_STATES}",
    "those of 10,000 that completed": "/jobs/{job}/tasks?$filter=state eq 'completed'",
    "one of 10,000 tasks": "/jobs/{job}/tasks/shard-9999?",
    "counts of 10,000 tasks": "/jobs/{job}/taskcounts?",
    "active jobs": "/jobs?$filter=state eq 'active'",
}


def measure(folder: Path) -> list[Result]:
    """Medians of answers, and how much memory they have left taken."""
    with site(folder) as there, there.environment():
        azure = AzureClients(load_settings())
        environment = read_environment.fn(azure)
        batch = azure.batch(environment.batch_endpoint)
        job = open_job.fn(azure, environment, "listing")
        batch.begin_disable_job(job, BatchJobDisableOptions(disable_tasks="requeue"), polling_interval=0.1).result()
        tasks = [BatchTaskCreateOptions(id=f"shard-{number}", command_line="/bin/true") for number in range(_TASKS)]
        by_tasks = _grown(lambda: submit_tasks.fn(azure, environment, job, tasks))
        results: list[Result] = []
        by_requests = _grown(lambda: results.extend(_answered(batch, job)))
        close_job.fn(azure, environment, job)
    beside = f"by {_TASKS:,} tasks"
    memory = f"memory grown by {len(_ASKED) * _CALLS:,} requests"
    return [*results, Result(memory, by_requests, beside, by_tasks, "MB", at_most=0.5)]


def _answered(batch: BatchClient, job: str) -> list[Result]:
    found = {
        what: median(_milliseconds(batch, path.format(job=job)) for _ in range(_CALLS)) for what, path in _ASKED.items()
    }
    return [Result(what, took, "limit", _LIMIT_MILLISECONDS, "ms", at_most=1) for what, took in found.items()]


def _milliseconds(batch: BatchClient, path: str) -> float:
    request = HttpRequest("GET", f"{path}&api-version=2025-06-01")
    begun = time.perf_counter()
    batch.send_request(request)
    return 1000 * (time.perf_counter() - begun)


def _grown(act: Callable[[], object]) -> float:
    """Megabytes by which something has the stand-in grow."""
    before = megabytes_now("local_azure")
    act()
    return megabytes_now("local_azure") - before
