"""Whole flows under faults of several services at once: complete, or one clear error and a harvest to go on with."""

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import pytest
from azure.batch import BatchClient
from azure.batch.models import BatchJobConstraints, BatchJobUpdateOptions
from catalogs import archived
from fault_matrix import hurried, sentence, strikes
from fault_report import Tally
from flow_runs import Site, running_site, unregister_providers

from spatiobatch.errors import HarvestError, JobEndedError, ServiceError, TaskFailedError
from spatiobatch.query import Query, query_from

COLLECTION = "aerial-strips"
"""Enough for a harvest that is made twice."""
LOOK_SECONDS = 0.2
"""The nodes' scripts need the processor more than whoever watches them."""

SURVIVED: dict[str, tuple[str, ...]] = {
    "collections task killed, blobs busy": (
        "service=node,path=HASH.*/collections$,action=kill",
        "service=blob,method=PUT,path=/harvests/.*HASH/,status=503,times=3",
    ),
    "collections node lost, answers of Batch cut short, answers to writes lost": (
        "service=node,path=HASH.*/collections$,action=preempt",
        "service=batch,method=GET,path=HASH,action=truncate,times=2",
        "service=blob,method=PUT,path=HASH/items/,action=truncate,times=4",
        "service=blob,method=PUT,path=HASH/manifest.json,action=truncate",
        "service=blob,path=/open/HASH,method=PUT,action=truncate",
        "service=blob,path=/open/HASH,method=DELETE,action=truncate",
        "service=batch,method=DELETE,path=HASH,action=truncate",
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
        "service=blob,path=/open/HASH,status=500,times=3",
    ),
}
"""By what happens, the faults; HASH is in the harvest's id, and so in its blobs and its job."""
ENDED = ("terminated", "deleted", "out of time")
REFUSED: dict[str, tuple[type[Exception], str, tuple[str, ...]]] = {
    "logs are neither uploaded nor on the node": (
        HarvestError,
        "is neither uploaded nor on its node",
        (
            "service=blob,method=GET,path=HASH/logs/,status=404,times=2",
            "service=batch,path=HASH.*/tasks/.*/files,status=404,times=2",
        ),
    ),
    "compaction is killed in all attempts": (
        TaskFailedError,
        f"ran out of memory with collection {COLLECTION}: set fewer pool_task_slots",
        ("service=node,path=HASH.*/compact-,action=kill,times=3",),
    ),
    "manifest is refused beyond all patience": (
        ServiceError,
        "It did so several times: run again later",
        ("service=blob,method=PUT,path=HASH/manifest.json,status=503,times=20",),
    ),
}
"""By what happens, the error, what it says, and the faults."""


def query(name: str) -> Query:
    """A query of everything, or all of a collection, with a hash of its own."""
    number = 10 + [*SURVIVED, *ENDED, *REFUSED].index(name)
    collections = () if name in SURVIVED else (COLLECTION,)
    return query_from(content="items", collections=collections, datetime=f"19{number}-01-01/..")


def _flags() -> Iterator[str]:
    aimed = SURVIVED | {name: faults for name, (_, _, faults) in REFUSED.items()}
    for name, faults in aimed.items():
        for fault in faults:
            yield from ("--fault", fault.replace("HASH", query(name).hash))


@dataclass(frozen=True)
class Built:
    """An environment, and all items that its catalog has."""

    site: Site
    lines: dict[tuple[str, str], bytes]

    def lines_of(self, asked: Query) -> dict[tuple[str, str], bytes]:
        """Those that a query asks for."""
        return {key: line for key, line in self.lines.items() if key[0] in (asked.collections or key[0])}

    def struck(self, asked: Query) -> int:
        """How many faults of a query have struck."""
        return strikes(self.site.record.parent / "azure.log", asked.hash)

    def batch(self) -> BatchClient:
        """The account's jobs."""
        azure, settings = self.site.azure, self.site.azure.settings
        account = azure.batch_management.batch_account.get(settings.resource_group, settings.batch_account_name)
        return azure.batch(account.properties.account_endpoint)

    def active_jobs(self) -> list[str]:
        """Their ids."""
        return [job.id for job in self.batch().list_jobs(filter="state eq 'active'")]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory, prefect_server: None) -> Iterator[Built]:
    folder = tmp_path_factory.mktemp("site")
    settings = {"resource_group": "flows", "requests_per_second": "200", "poll_seconds": str(LOOK_SECONDS)}
    with running_site(folder, "--clock", "instant", "--demo-items", "120", *_flags(), **settings) as site:
        site.provision()
        site.harvest(query_from(content="items", datetime="1900-01-01/.."), output=folder / "whole")
        yield Built(site, archived(folder / "whole"))


@pytest.mark.parametrize("name", SURVIVED)
def test_harvest_is_complete_in_spite_of(name: str, built: Built, tmp_path: Path, tally: Tally) -> None:
    with hurried(LOOK_SECONDS):
        done = built.site.harvest(query(name), output=tmp_path)
    assert (done.manifest.complete, done.manifest.verified) == (True, True)
    assert archived(tmp_path) == built.lines_of(query(name))
    assert built.active_jobs() == []
    tally.ends("survived", built.struck(query(name)))


def _end_job(batch: BatchClient, asked: Query, how: str) -> None:
    """End the harvest's job once it has items to bring."""
    while True:
        jobs = [job.id for job in batch.list_jobs(filter="state eq 'active'") if asked.hash in job.id]
        if jobs and any(task.id.startswith("items-") for task in batch.list_tasks(jobs[0])):
            break
        time.sleep(0.05)
    if how == "terminated":
        batch.begin_terminate_job(jobs[0], options={"terminateReason": "Enough"}, polling_interval=1)
    elif how == "deleted":
        batch.begin_delete_job(jobs[0], polling_interval=1)
    else:
        constraints = BatchJobConstraints(max_wall_clock_time=timedelta(seconds=1))
        batch.update_job(jobs[0], BatchJobUpdateOptions(constraints=constraints))


@pytest.mark.parametrize("how", ENDED)
def test_harvest_whose_job_ended_under_it_says_so_and_is_gone_on_with(
    how: str, built: Built, tmp_path: Path, tally: Tally
) -> None:
    asked, batch = query(how), built.batch()
    with ThreadPoolExecutor(1) as other:
        ending = other.submit(_end_job, batch, asked, how)
        with pytest.raises(JobEndedError, match="run the harvest again") as error:
            built.site.with_(requests_per_second="1").harvest(asked)
        ending.result()
    done = built.site.harvest(asked, output=tmp_path)
    assert done.manifest.harvest_id.lower() in str(error.value).lower()
    assert archived(tmp_path) == built.lines_of(asked)
    assert built.active_jobs() == []
    tally.comes_to("refused")


@pytest.mark.parametrize("name", REFUSED)
def test_harvest_ends_in_one_clear_error_and_keeps_what_it_has_when(
    name: str, built: Built, tmp_path: Path, tally: Tally
) -> None:
    error, said, _ = REFUSED[name]
    with hurried(LOOK_SECONDS), pytest.raises(error) as refusal:
        built.site.harvest(query(name))
    assert said in sentence(refusal.value)
    assert built.active_jobs() == []
    begun = {path for path in built.site.writes() if query(name).hash in path and "/open/" not in path}
    done = built.site.harvest(query(name), output=tmp_path)
    assert any(done.manifest.harvest_id in path for path in begun)
    assert archived(tmp_path) == built.lines_of(query(name))
    tally.ends("refused", built.struck(query(name)))


def test_environment_is_built_in_spite_of_faults_of_all_services(
    tmp_path: Path, prefect_server: None, tally: Tally
) -> None:
    faults = (
        "service=identity,status=503,after=1,times=2",
        "service=arm,method=PUT,path=/storageAccounts/[^/]+$,action=truncate",
        "service=arm,method=PUT,path=/batchAccounts/[^/]+$,status=429,retry_after=1,times=2",
        "service=arm,method=PUT,path=/roleAssignments/,action=drop,times=2",
        "service=arm,method=PUT,path=/pools/,action=truncate",
        "service=blob,method=PUT,path=/scripts/,status=500,times=5",
        "service=batch,method=POST,path=/jobs$,action=truncate",
        "service=node,path=start,action=kill",
        "service=geocatalog,status=502,times=1",
    )
    flags = [word for fault in faults for word in ("--fault", fault)]
    with running_site(tmp_path, "--role-delay", "2", *flags) as site:
        unregister_providers(site)
        with hurried(LOOK_SECONDS):
            site.provision()
        assert site.harvest().manifest.complete
        assert not any(change.changed for change in site.provision())
    tally.ends("survived", strikes(tmp_path / "azure.log", ""))
