"""Whole flows under faults of several services at once: a complete result, or one clear error and a harvest to resume."""

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from azure.batch import BatchClient
from azure.batch.models import BatchJobConstraints, BatchJobUpdateOptions
from catalogs import archived
from fault_matrix import hurried, sentence, strikes
from fault_report import Tally
from flow_runs import Site, running_site

from spatiobatch.errors import JobEndedError, SpatiobatchError
from spatiobatch.query import Query, query_from
from tasks.environment import read_environment

ITEMS = 120
Harvest = Callable[[], Any]


def query(name: str, content: str = "items") -> Query:
    """A query of everything with a hash of its own."""
    years = {name: f"19{number:02}-01-01/.." for number, name in enumerate((*SURVIVED, *ENDED, *REFUSED), start=10)}
    return query_from(content=content, datetime=years[name] if content == "items" else None)


SURVIVED: dict[str, tuple[str, ...]] = {
    "collections task killed, blobs busy": (
        "service=node,path=HASH.*/collections$,action=kill",
        "service=blob,method=PUT,path=/harvests/.*HASH/,status=503,times=3",
    ),
    "collections node lost, answers of Batch cut short": (
        "service=node,path=HASH.*/collections$,action=preempt",
        "service=batch,method=GET,path=HASH,action=truncate,times=2",
    ),
    "shards killed twice, receipts dropped": (
        "service=node,path=HASH.*/items-,action=kill,times=2",
        "service=blob,path=HASH/items/.*receipt,action=drop,times=3",
    ),
    "node of a shard lost, Batch out of order": (
        "service=node,path=HASH.*/items-,action=preempt",
        "service=batch,path=HASH,status=502,after=3,times=4",
        "service=batch,path=HASH.*/addtaskcollection,action=truncate,times=1",
    ),
    "compaction killed, its archives and its report cut short": (
        "service=node,path=HASH.*/compact-,action=kill,times=2",
        "service=blob,method=GET,path=HASH/items/.*zst,action=truncate,times=2",
        "service=blob,method=GET,path=HASH/parquet/.*/compaction.json,action=truncate,times=1",
    ),
    "node of a compaction lost, manifest and note throttled": (
        "service=node,path=HASH.*/compact-,action=preempt",
        "service=blob,method=PUT,path=HASH/manifest.json,status=429,retry_after=1,times=2",
        "service=blob,path=/open/QUERY,status=500,times=3",
    ),
}
"""By what happens, the faults; HASH is in the harvest's id, and so in its blobs and its job."""
ENDED = ("terminated", "deleted", "out of time")
REFUSED: dict[str, tuple[str, ...]] = {
    "logs are neither uploaded nor on the node": (
        "service=blob,method=GET,path=HASH/logs/,status=404,times=inf",
        "service=batch,path=HASH.*/tasks/.*/files,status=404,times=inf",
    ),
    "compaction is always killed": ("service=node,path=HASH.*/compact-,action=kill,times=inf",),
    "manifest is refused for ever": ("service=blob,method=PUT,path=HASH/manifest.json,status=503,times=inf",),
}


def _flags() -> Iterator[str]:
    for name, faults in (SURVIVED | REFUSED).items():
        for fault in faults:
            yield "--fault"
            yield fault.replace("HASH", query(name).hash).replace("QUERY", query(name).hash)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory, prefect_server: None) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("site")
    settings = {"resource_group": "flows", "requests_per_second": "200"}
    with running_site(folder, "--clock", "instant", "--demo-items", str(ITEMS), *_flags(), **settings) as site:
        site.provision()
        yield site


def struck(site: Site, asked: Query) -> int:
    return strikes(site.record.parent / "azure.log", asked.hash)


def active_jobs(site: Site) -> list[str]:
    with site.environment():
        batch = _batch(site)
        return [job.id for job in batch.list_jobs(filter="state eq 'active'")]


def _batch(site: Site) -> BatchClient:
    account = site.azure.batch_management.batch_account.get(
        site.azure.settings.resource_group, site.azure.settings.batch_account_name
    )
    return site.azure.batch(account.properties.account_endpoint)


@pytest.mark.parametrize("name", SURVIVED)
def test_harvest_is_complete_in_spite_of(name: str, built: Site, tmp_path: Path, tally: Tally) -> None:
    with hurried():
        done = built.harvest(query(name), output=tmp_path)
    assert (done.manifest.complete, done.manifest.verified) == (True, True)
    assert len(archived(tmp_path)) == ITEMS
    assert active_jobs(built) == []
    tally.ends("survived", struck(built, query(name)))


def _end(site: Site, asked: Query, how: str) -> None:
    """End the harvest's job as soon as it runs items."""
    with site.environment():
        batch = _batch(site)
        while True:
            jobs = [job.id for job in batch.list_jobs(filter="state eq 'active'") if asked.hash in job.id]
            if jobs and any(task.id.startswith("items-") for task in batch.list_tasks(jobs[0])):
                break
            time.sleep(0.05)
        if how == "terminated":
            batch.begin_terminate_job(jobs[0], options={"terminateReason": "Enough"})
        elif how == "deleted":
            batch.begin_delete_job(jobs[0], polling_interval=1)
        else:
            constraints = BatchJobConstraints(max_wall_clock_time=0)
            batch.update_job(jobs[0], BatchJobUpdateOptions(constraints=constraints))
    return
