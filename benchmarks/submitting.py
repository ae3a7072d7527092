"""Batch tasks submitted by the hundred, beside one call for each."""

import time

from azure.batch.models import BatchTaskCreateOptions, EnvironmentSetting

from benchmarks.results import Result
from tasks.batch_account import ensure_batch_account
from tasks.clients import AzureClients
from tasks.environment import geocatalog_url, pool_metadata, read_environment
from tasks.identity import ensure_identity
from tasks.job import open_job, submit_tasks
from tasks.pool import ensure_pool
from tasks.resource_group import ensure_resource_group, register_providers
from tasks.roles import ensure_role, grants
from tasks.storage import ensure_storage_account

_TASKS = 1000
_SINGLE = 200
_COMMAND = "/bin/bash -c '\"$AZ_BATCH_NODE_SHARED_DIR/bin/python\" -I harvest_items.py'"


def measure(azure: AzureClients) -> list[Result]:
    """Tasks per second into a pool without nodes, so that nothing runs meanwhile."""
    _build(azure)
    environment = read_environment.fn(azure)
    variables = [EnvironmentSetting(name=f"VARIABLE_{number}", value="x" * 80) for number in range(6)]
    tasks = [
        BatchTaskCreateOptions(id=f"shard-{number}", command_line=_COMMAND, environment_settings=variables)
        for number in range(_TASKS)
    ]
    job = open_job.fn(azure, environment, "by-the-hundred")
    begun = time.perf_counter()
    submit_tasks.fn(azure, environment, job, tasks)
    chunked = _TASKS / (time.perf_counter() - begun)

    batch, job = azure.batch(environment.batch_endpoint), open_job.fn(azure, environment, "one-by-one")
    begun = time.perf_counter()
    for task in tasks[:_SINGLE]:
        batch.create_task(job, task)
    single = _SINGLE / (time.perf_counter() - begun)
    return [Result(f"{_TASKS:,} Batch tasks submitted", chunked, "one call for each", single, "tasks/s")]


def _build(azure: AzureClients) -> None:
    """What a job needs, and no more."""
    register_providers.fn(azure)
    ensure_resource_group.fn(azure)
    (_, storage), (_, identity) = ensure_storage_account.fn(azure), ensure_identity.fn(azure)
    _, account = ensure_batch_account.fn(azure, storage.id, identity.id)
    for grant in grants(azure, storage.id, account, identity):
        ensure_role.fn(azure, grant)
    metadata = pool_metadata(storage.properties.primary_endpoints.blob, geocatalog_url(azure))
    ensure_pool.fn(azure, account.properties.account_endpoint, identity.id, metadata)
