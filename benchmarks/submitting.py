"""Batch tasks submitted by our own chunker, beside azure-batch's `create_tasks`."""

import time
from collections.abc import Callable
from itertools import count
from pathlib import Path

from azure.batch.models import BatchJobDisableOptions, BatchTaskCreateOptions, EnvironmentSetting

from benchmarks.harvests import site
from benchmarks.results import Result, medians
from spatiobatch.settings import load_settings
from tasks.clients import AzureClients
from tasks.environment import read_environment
from tasks.job import close_job, open_job, submit_tasks

_TASKS = 10_000
_COMMAND = "/bin/bash -c '\"$AZ_BATCH_NODE_SHARED_DIR/bin/python\" -I harvest_items.py'"


def measure(folder: Path) -> list[Result]:
    """Tasks per second into jobs that are disabled, so that nothing runs meanwhile."""
    with site(folder) as there, there.environment():
        return [_submitted(AzureClients(load_settings()))]


def _submitted(azure: AzureClients) -> Result:
    environment, numbers = read_environment.fn(azure), count()
    batch = azure.batch(environment.batch_endpoint)
    variables = [EnvironmentSetting(name=f"VARIABLE_{number}", value="x" * 80) for number in range(6)]
    tasks = [
        BatchTaskCreateOptions(id=f"shard-{number}", command_line=_COMMAND, environment_settings=variables)
        for number in range(_TASKS)
    ]

    def pace(submit: Callable[[str], object]) -> float:
        job = open_job.fn(azure, environment, f"submitting-{next(numbers)}")
        batch.begin_disable_job(job, BatchJobDisableOptions(disable_tasks="requeue"), polling_interval=0.1).result()
        begun = time.perf_counter()
        submit(job)
        seconds = time.perf_counter() - begun
        close_job.fn(azure, environment, job)
        return _TASKS / seconds

    sides = {
        "ours": lambda: pace(lambda job: submit_tasks.fn(azure, environment, job, tasks)),
        "azure-batch": lambda: pace(lambda job: batch.create_tasks(job, tasks)),
    }
    found = medians(sides)
    subject = f"{_TASKS:,} Batch tasks submitted"
    return Result(subject, found["ours"], "create_tasks", found["azure-batch"], "tasks/s", at_least=1)
