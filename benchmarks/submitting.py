"""Batch tasks submitted by the hundred, beside one call for each."""

import time

from azure.batch.models import BatchJobDisableOptions, BatchTaskCreateOptions, EnvironmentSetting

from benchmarks.results import Result
from tasks.clients import AzureClients
from tasks.environment import read_environment
from tasks.job import open_job, submit_tasks

_TASKS = 1000
_SINGLE = 200
_COMMAND = "/bin/bash -c '\"$AZ_BATCH_NODE_SHARED_DIR/bin/python\" -I harvest_items.py'"


def measure(azure: AzureClients) -> list[Result]:
    """Tasks per second into jobs that are disabled, so that nothing runs meanwhile."""
    environment = read_environment.fn(azure)
    batch = azure.batch(environment.batch_endpoint)
    jobs = [open_job.fn(azure, environment, purpose) for purpose in ("by-the-hundred", "one-by-one")]
    for job in jobs:
        batch.begin_disable_job(job, BatchJobDisableOptions(disable_tasks="requeue"), polling_interval=1).result()
    variables = [EnvironmentSetting(name=f"VARIABLE_{number}", value="x" * 80) for number in range(6)]
    tasks = [
        BatchTaskCreateOptions(id=f"shard-{number}", command_line=_COMMAND, environment_settings=variables)
        for number in range(_TASKS)
    ]
    begun = time.perf_counter()
    submit_tasks.fn(azure, environment, jobs[0], tasks)
    chunked = _TASKS / (time.perf_counter() - begun)
    begun = time.perf_counter()
    for task in tasks[:_SINGLE]:
        batch.create_task(jobs[1], task)
    single = _SINGLE / (time.perf_counter() - begun)
    return [Result(f"{_TASKS:,} Batch tasks", chunked, "one call for each", single, "tasks/s")]
