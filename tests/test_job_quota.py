"""A harvest waits where the account has as many active jobs as it may, and says so where that does not help."""

import threading
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest
from azure.batch import BatchClient
from azure.batch.models import BatchJobCreateOptions, BatchPoolInfo
from flow_runs import Site, running_site

from spatiobatch.errors import JobQuotaReachedError
from spatiobatch.query import Query
from tasks.environment import Environment
from tasks.job import close_job, open_job


@pytest.fixture(scope="module")
def provisioned(tmp_path_factory: pytest.TempPathFactory, prefect_server: None) -> Iterator[Site]:
    """An account that may have one active job."""
    with running_site(tmp_path_factory.mktemp("quota"), "--clock", "instant", "--job-quota", "1") as site:
        site.provision()
        yield site


def active(batch: BatchClient) -> list[str]:
    return [job.id for job in batch.list_jobs(filter="state eq 'active'")]


@pytest.fixture
def others(provisioned: Site, batch: BatchClient) -> str:
    """A job of somebody else's; its id."""
    pool = BatchPoolInfo(pool_id=provisioned.azure.settings.pool)
    batch.create_job(BatchJobCreateOptions(id="apples", pool_info=pool))
    return "apples"


def test_a_harvest_waits_until_there_is_room_for_its_job(provisioned: Site, batch: BatchClient, others: str) -> None:
    ending = threading.Timer(3, lambda: batch.begin_delete_job(others, polling_interval=1).wait())
    ending.start()
    assert provisioned.harvest(Query()).manifest.complete
    ending.join()


def test_waiting_in_vain_ends_with_the_quota_the_jobs_and_what_to_do(
    provisioned: Site, batch: BatchClient, others: str
) -> None:
    sentence = (
        r"may have 1 active jobs and job schedules, and for 0\.02 minutes none ended\. "
        r"Of jobs, 1 are active: apples\. End those .*az batch job list.*request a larger quota"
    )
    with pytest.raises(JobQuotaReachedError, match=sentence):
        provisioned.with_(job_quota_wait_minutes="0.02").harvest(Query(collections=("optical-scenes",)))
    batch.begin_delete_job(others, polling_interval=1).wait()


def test_an_active_job_of_the_same_harvest_is_attached_to_and_not_waited_for(
    provisioned: Site, environment: Environment, batch: BatchClient
) -> None:
    job = open_job.fn(provisioned.azure, environment, "harvest-again")
    assert open_job.fn(provisioned.azure, environment, "harvest-again") == job
    close_job.fn(provisioned.azure, environment, job)


def test_what_an_earlier_run_left_behind_makes_room(
    provisioned: Site, environment: Environment, batch: BatchClient
) -> None:
    over = f"harvest-{datetime(2026, 11, 1, tzinfo=UTC):%Y%m%dT%H%M%SZ}-000000000000"
    open_job.fn(provisioned.azure, environment, over)
    with_little_patience = provisioned.with_(job_quota_wait_minutes="0")
    assert with_little_patience.harvest(Query()).manifest.complete
