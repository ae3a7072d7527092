"""A sweep ends the jobs that nobody will go on with, and no other."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta

import pytest
from azure.batch import BatchClient
from azure.batch.models import BatchJobCreateOptions, BatchPoolInfo
from flow_runs import Site, running_site

from spatiobatch.query import Query
from tasks import sweep
from tasks.environment import Environment
from tasks.job import open_job
from tasks.unfinished import hold_harvest, wanted

EARLIER, LATER = datetime(2026, 11, 23, tzinfo=UTC), datetime(2026, 11, 24, tzinfo=UTC)


@pytest.fixture(scope="module")
def provisioned(tmp_path_factory: pytest.TempPathFactory, prefect_server: None) -> Iterator[Site]:
    with running_site(tmp_path_factory.mktemp("sweep"), "--clock", "instant") as site:
        site.provision()
        yield site


@pytest.fixture
def batch(provisioned: Site, environment: Environment) -> BatchClient:
    return provisioned.azure.batch(environment.batch_endpoint)


@pytest.fixture
def swept(provisioned: Site, environment: Environment) -> Callable[[], list[str]]:
    """Sweeps, and tells which jobs that ended."""
    return lambda: sweep.sweep_jobs.fn(provisioned.azure, environment)


@pytest.fixture
def opened(provisioned: Site, environment: Environment) -> Callable[[str], str]:
    """Opens the job of a harvest."""
    return lambda harvest_id: open_job.fn(provisioned.azure, environment, f"harvest-{harvest_id}")


def test_the_job_of_a_harvest_that_is_over_is_ended(
    query: Query, opened: Callable[[str], str], swept: Callable[[], list[str]], batch: BatchClient
) -> None:
    job = opened(wanted(query, EARLIER).harvest_id)
    assert job in swept()
    assert job not in [each.id for each in batch.list_jobs(filter="state eq 'active'")]


def test_the_job_of_a_harvest_that_another_one_took_the_place_of_is_ended(
    provisioned: Site,
    environment: Environment,
    query: Query,
    opened: Callable[[str], str],
    swept: Callable[[], list[str]],
) -> None:
    old, new = wanted(query, EARLIER), wanted(query, LATER)
    hold = hold_harvest.fn(provisioned.azure, environment, new)
    jobs = [opened(old.harvest_id), opened(new.harvest_id)]
    assert [job for job in swept() if job in jobs] == jobs[:1]
    hold.finish()


def test_what_a_run_left_unfinished_is_spared_for_a_day(
    provisioned: Site,
    environment: Environment,
    query: Query,
    opened: Callable[[str], str],
    swept: Callable[[], list[str]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    harvest = wanted(query, EARLIER)
    hold_harvest.fn(provisioned.azure, environment, harvest).release()
    job = opened(harvest.harvest_id)
    assert job not in swept()
    monkeypatch.setattr(sweep, "_OLDEST", timedelta())
    assert job in swept()


def test_what_somebody_works_on_is_spared_however_long_it_takes(
    provisioned: Site,
    environment: Environment,
    query: Query,
    opened: Callable[[str], str],
    swept: Callable[[], list[str]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sweep, "_OLDEST", timedelta())
    hold = hold_harvest.fn(provisioned.azure, environment, wanted(query, EARLIER))
    assert opened(hold.harvest.harvest_id) not in swept()
    hold.finish()


def test_jobs_of_others_are_not_touched(
    provisioned: Site, batch: BatchClient, swept: Callable[[], list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sweep, "_OLDEST", timedelta())
    pool = BatchPoolInfo(pool_id=provisioned.azure.settings.pool)
    batch.create_job(BatchJobCreateOptions(id="harvest-of-apples", pool_info=pool))
    assert "harvest-of-apples" not in swept()
    assert batch.get_job("harvest-of-apples").state == "active"


def test_a_harvest_sweeps_when_it_is_done(provisioned: Site, opened: Callable[[str], str], batch: BatchClient) -> None:
    job = opened("20261101T000000Z-000000000000")
    provisioned.harvest(Query())
    assert job not in [each.id for each in batch.list_jobs(filter="state eq 'active'")]
