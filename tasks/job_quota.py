"""A Batch account may have so many active jobs: https://learn.microsoft.com/azure/batch/batch-quota-limit."""

import time

from azure.batch import BatchClient
from prefect.logging import get_run_logger

from spatiobatch.errors import JobQuotaReachedError
from spatiobatch.interruptions import pause
from tasks.clients import AzureClients

QUOTA_REACHED = "ActiveJobAndScheduleQuotaReached"
"""What Batch answers then: https://learn.microsoft.com/rest/api/batchservice/batch-status-and-error-codes."""


class JobQuota:
    """The patience of one job that finds no room; says once that it waits."""

    def __init__(self, azure: AzureClients, batch: BatchClient) -> None:
        self._azure, self._batch = azure, batch
        self._minutes = azure.settings.job_quota_wait_minutes
        self._deadline: float | None = None

    def wait(self) -> None:
        """Pause until another try is due.

        Raises:
            JobQuotaReachedError: there have been enough.
        """
        if self._deadline is None:
            self._deadline = time.monotonic() + self._minutes * 60
            get_run_logger().warning(
                "the Batch account has %s active jobs, as many as it may: waiting up to %g minutes for one to end",
                len(self._active()),
                self._minutes,
            )
        if time.monotonic() >= self._deadline:
            raise self._reached()
        pause(self._azure.settings.poll_seconds)

    def _active(self) -> list[str]:
        return [job.id for job in self._batch.list_jobs(filter="state eq 'active'", select=["id"])]

    def _reached(self) -> JobQuotaReachedError:
        settings = self._azure.settings
        account = self._azure.batch_management.batch_account.get(settings.resource_group, settings.batch_account_name)
        quota = account.properties.active_job_and_job_schedule_quota
        return JobQuotaReachedError(settings.batch_account_name, quota, self._active(), self._minutes)
