"""Jobs that earlier runs left behind: each active one counts against the account's quota."""

from datetime import UTC, datetime, timedelta

from azure.batch.models import BatchJob
from prefect.logging import get_run_logger

from spatiobatch.names import MANAGED_BY
from tasks.clients import AzureClients, azure_task
from tasks.environment import Environment
from tasks.job import close_job
from tasks.unfinished import is_held, is_unfinished

_HARVEST = "harvest-"
_OLDEST = timedelta(hours=24)
"""After this, nobody is expected to go on with a harvest, or to wait for a probe."""


@azure_task("sweep jobs")
def sweep_jobs(azure: AzureClients, environment: Environment) -> list[str]:
    """End active jobs of ours that nobody will go on with; returns their ids.

    Those of a harvest that is over or whose place another one took, and any that is a day old and has nobody at it.
    A harvest that somebody works on, or may go on with, keeps its job.
    """
    batch = azure.batch(environment.batch_endpoint)
    ours = [job for job in batch.list_jobs(filter="state eq 'active'") if _purpose(job)]
    left = [job.id for job in ours if not _wanted(azure, environment, job)]
    for job in left:
        close_job.fn(azure, environment, job)
        get_run_logger().info("job %s was left behind, and is ended", job)
    return left


def _purpose(job: BatchJob) -> str | None:
    """What a job of ours was opened for; None for anybody else's."""
    metadata = {item.name: item.value for item in job.metadata or []}
    return metadata.get("purpose") if metadata.get("managed-by") == MANAGED_BY else None


def _wanted(azure: AzureClients, environment: Environment, job: BatchJob) -> bool:
    young = datetime.now(UTC) - job.creation_time < _OLDEST
    purpose = _purpose(job) or ""
    if not purpose.startswith(_HARVEST):
        return young
    name = purpose.removeprefix(_HARVEST)
    return is_held(azure, environment, name) or (young and is_unfinished(azure, environment, name))
