"""Every step of harvesting under every kind of fault: it comes to the right end, or to one clear error."""

import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

import pytest
from azure.batch.models import BatchTaskCreateOptions
from azure.storage.blob import ContainerClient
from fault_cases import Case, drawn, losing
from fault_matrix import Stage, Step, Taken, flags, judge_case, services
from fault_report import Tally
from flow_runs import Site, running_site
from prefect.logging import disable_run_logger

from spatiobatch.manifest import Harvest, Latest, Layout
from spatiobatch.names import job_id
from spatiobatch.query import query_from
from spatiobatch.receipts import Receipt
from spatiobatch.shards import Plan, Verify
from tasks.archive import discard_receipts, download, publish_latest, read_latest, read_receipts
from tasks.attempts import run_tasks
from tasks.base import Base, read_base
from tasks.batch_account import ensure_batch_account
from tasks.clients import AzureClients
from tasks.compaction import Compacted, _report, compact
from tasks.environment import Environment, pool_metadata, read_environment, results
from tasks.items import run_round
from tasks.job import close_job, open_job, submit_tasks, wait_for_tasks
from tasks.logs import read_logs
from tasks.node_task import node_task
from tasks.pool import ensure_pool
from tasks.progress import Progress
from tasks.results import publish
from tasks.roles import ensure_role, operator_on_batch
from tasks.settlement import settle
from tasks.storage import ensure_containers
from tasks.sweep import sweep_jobs
from tasks.unfinished import hold_harvest, wanted

COLLECTION = "aerial-strips"


@dataclass(frozen=True)
class World:
    """A harvest that is done, for steps that go on from one."""

    done: Harvest
    receipts: list[Receipt]
    plan: Plan
    blobs: dict[str, bytes]
    """All that it left."""


def _container(stage: Stage) -> tuple[AzureClients, ContainerClient]:
    """A results container of the case's own."""
    azure = stage.with_("results_container")
    ensure_containers.fn(azure, azure.settings.storage_account_name)
    return azure, azure.blobs(stage.environment.blob_endpoint).get_container_client(stage.case)


def _filled(stage: Stage) -> tuple[AzureClients, ContainerClient]:
    """One that holds what the harvest left."""
    azure, container = _container(stage)
    for name, content in stage.world.blobs.items():
        container.upload_blob(name, content)
    return azure, container


def _job(stage: Stage) -> tuple[AzureClients, Environment, str]:
    """A job of the case's own."""
    return stage.azure, stage.environment, open_job.fn(stage.azure, stage.environment, stage.case)


def _account(stage: Stage) -> tuple[AzureClients, Environment]:
    """A Batch account of the case's own, with a pool without nodes."""
    azure = stage.with_("batch_account", pool_nodes=0, pool_scaling="fixed")
    there, settings = stage.environment, azure.settings
    storage = settings.arm_id("Microsoft.Storage/storageAccounts", settings.storage_account_name)
    _, account = ensure_batch_account.fn(azure, storage, there.identity_id)
    ensure_role.fn(azure, operator_on_batch(azure))
    metadata = pool_metadata(there.blob_endpoint, there.geocatalog_url)
    ensure_pool.fn(azure, account.properties.account_endpoint, there.identity_id, metadata)
    return azure, replace(there, batch_endpoint=account.properties.account_endpoint)


def _ids(azure: AzureClients, there: Environment, job: str) -> set[str]:
    return {task.id for task in azure.batch(there.batch_endpoint).list_tasks(job)}


def _tasks(*names: str) -> list[BatchTaskCreateOptions]:
    return [BatchTaskCreateOptions(id=name, command_line="/bin/bash -c 'echo said'") for name in names]


def hold(stage: Stage) -> Taken:
    azure, _ = _container(stage)
    harvest = wanted(query_from(content="items"), datetime(2026, 11, 24, tzinfo=UTC))

    def right(held: Any) -> bool:
        held.finish()
        return bool(held.harvest == harvest)

    return Taken(hold_harvest, (azure, stage.environment, harvest, str(uuid.uuid4())), right)


def opening(stage: Stage) -> Taken:
    azure, there = _account(stage)
    return Taken(open_job, (azure, there, "p"), lambda job: job == job_id("p", 1))


def submission(stage: Stage) -> Taken:
    azure, there, job = _job(stage)
    return Taken(submit_tasks, (azure, there, job, _tasks("a", "b")), lambda _: _ids(azure, there, job) == {"a", "b"})


def waiting(stage: Stage) -> Taken:
    azure, there, job = _job(stage)
    submit_tasks.fn(azure, there, job, _tasks("a"))
    return Taken(wait_for_tasks, (azure, there, job, 1), lambda ended: [task.id for task in ended] == ["a"])


def running(stage: Stage) -> Taken:
    azure, there, job = _job(stage)
    listing = node_task(azure, there, "collections", script="list_collections.py", logs="")
    arguments = (azure, there, job, stage.world.done.manifest.harvest_id, [listing])
    return Taken(run_tasks, arguments, lambda ended: [task.execution_info.exit_code for task in ended] == [0])


def _ended(stage: Stage) -> tuple[AzureClients, Environment, str, Any]:
    azure, there, job = _job(stage)
    submit_tasks.fn(azure, there, job, _tasks("a"))
    (task,) = wait_for_tasks.fn(azure, there, job, 1)
    return azure, there, job, task


def uploaded_log(stage: Stage) -> Taken:
    _, there, job, task = _ended(stage)
    azure, container = _container(stage)
    for name in ("stdout", "stderr"):
        container.upload_blob(f"logs/{name}.txt", b"uploaded")
    return Taken(read_logs, (azure, there, job, task, "logs"), lambda logs: logs.stdout == b"uploaded")


def node_log(stage: Stage) -> Taken:
    return Taken(read_logs, (*_ended(stage), "nowhere"), lambda logs: logs.stdout == b"said\n")


def base(stage: Stage) -> Taken:
    azure, _ = _filled(stage)
    later = wanted(stage.world.done.manifest.query, datetime(2099, 1, 1, tzinfo=UTC))
    last = stage.world.done.manifest.harvest_id
    return Taken(read_base, (azure, stage.environment, later), lambda found: found.harvests == [last])


def receipts(stage: Stage) -> Taken:
    azure, _ = _filled(stage)
    world = stage.world
    arguments = (azure, stage.environment, world.done.manifest.harvest_id)
    return Taken(read_receipts, arguments, lambda found: _names(found) == _names(world.receipts))


def discarding(stage: Stage) -> Taken:
    azure, _ = _filled(stage)
    world, there = stage.world, stage.environment
    name = world.done.manifest.harvest_id
    arguments = (azure, there, name, world.receipts)
    return Taken(discard_receipts, arguments, lambda _: read_receipts.fn(azure, there, name) == [])


def _names(found: Sequence[Receipt]) -> list[str]:
    return sorted(receipt.name for receipt in found)


def one_round(stage: Stage) -> Taken:
    azure, there, job = _job(stage)
    world = stage.world
    shards = world.plan.owed([], [])[:1]
    name = f"20261124t000000z-{stage.case}"
    progress = Progress(results(azure, there), Layout(name).root)
    arguments = (azure, there, job, name, shards, [], progress)
    return Taken(run_round, arguments, lambda found: _names(found) == [shard.name for shard in shards])


def compaction(stage: Stage) -> Taken:
    azure, there, job = _job(stage)
    world = stage.world
    total = sum(receipt.count for receipt in world.receipts)
    arguments = (azure, there, job, world.done.manifest.harvest_id, world.receipts, Base())
    return Taken(compact, arguments, lambda made: sum(report.items for report in made[0].values()) == total)


def settling(stage: Stage) -> Taken:
    azure, there, job = _job(stage)
    world = stage.world
    name = world.done.manifest.harvest_id
    reports = {COLLECTION: _report(azure, there, name, COLLECTION)}
    arguments = (azure, there, job, name, world.plan, Compacted(reports, world.receipts, []), Base())
    return Taken(settle, arguments, lambda manifest: manifest.collections == world.done.manifest.collections)


def publishing(stage: Stage) -> Taken:
    azure, container = _container(stage)
    files = {"harvests/h/collections.json": b"{}", "harvests/h/manifest.json": b"[]"}
    arguments = (azure, stage.environment, files)
    return Taken(
        publish, arguments, lambda _: {name: container.download_blob(name).readall() for name in files} == files
    )


def copying(stage: Stage) -> Taken:
    azure, _ = _filled(stage)
    world = stage.world
    name = world.done.manifest.harvest_id
    output = stage.site.record.parent / stage.case
    arguments = (azure, stage.environment, name, world.receipts, output)
    return Taken(
        download,
        arguments,
        lambda manifest: (
            manifest.read_bytes() == world.blobs[Layout(name).manifest]
            and all(file.read_bytes() == world.blobs[str(file.relative_to(output))] for file in output.rglob("*.zst"))
        ),
    )


def latest(stage: Stage) -> Taken:
    azure, container = _container(stage)
    manifest = stage.world.done.manifest
    entry = {manifest.query.hash: Latest(full=manifest.harvest_id)}
    return Taken(publish_latest, (azure, stage.environment, manifest), lambda _: read_latest(container) == entry)


def closing(stage: Stage) -> Taken:
    azure, there, job = _job(stage)
    active = azure.batch(there.batch_endpoint)
    return Taken(
        close_job,
        (azure, there, job),
        lambda _: job not in {each.id for each in active.list_jobs(filter="state eq 'active'")},
    )


def terminating(stage: Stage) -> Taken:
    _, there, job = _job(stage)
    azure = stage.with_(job_end="terminate")
    batch = azure.batch(there.batch_endpoint)
    return Taken(close_job, (azure, there, job), lambda _: batch.get_job(job).state in ("terminating", "completed"))


def sweeping(stage: Stage) -> Taken:
    azure, there = _account(stage)
    batch = azure.batch(there.batch_endpoint)
    open_job.fn(azure, there, "harvest-20261124t000000z-0000000000000000")
    return Taken(sweep_jobs, (azure, there), lambda _: list(batch.list_jobs(filter="state eq 'active'")) == [])


STEPS: dict[str, Step] = {
    "hold": ("service=blob,path=/CASE/open/", hold),
    "open-job": ("service=batch,method=POST,path=/CASE/jobs$", opening),
    "submit": ("service=batch,path=/jobs/CASE-1/addtaskcollection", submission),
    "wait": ("service=batch,path=/jobs/CASE-1/taskcounts", waiting),
    "run-tasks": ("service=batch,method=GET,path=/jobs/CASE-1", running),
    "uploaded-log": ("service=blob,method=GET,path=/CASE/logs/", uploaded_log),
    "node-log": ("service=batch,path=/jobs/CASE-1/tasks/a/files", node_log),
    "base": ("service=blob,method=GET,path=/CASE/", base),
    "receipts": ("service=blob,method=GET,path=/CASE$|/CASE/.*receipt", receipts),
    "discard": ("service=blob,method=DELETE,path=/CASE/", discarding),
    "round": ("service=batch,method=GET,path=/jobs/CASE-1", one_round),
    "compact": ("service=batch,path=/jobs/CASE-1/tasks$", compaction),
    "settle": ("service=batch,path=/jobs/CASE-1/tasks", settling),
    "publish": ("service=blob,path=/CASE/", publishing),
    "download": ("service=blob,method=GET,path=/CASE/", copying),
    "latest": ("service=blob,path=/CASE/latest", latest),
    "close-job": ("service=batch,method=DELETE,path=/jobs/CASE-1", closing),
    "sweep": ("service=batch,method=GET,path=/CASE/jobs$", sweeping),
}
WRITES: dict[str, Step] = {
    "note-of-a-harvest": ("service=blob,method=PUT,path=/CASE/open/", hold),
    "lease": ("service=blob,method=PUT,path=/CASE/open/,after=1", hold),
    "new-job": ("service=batch,method=POST,path=/CASE/jobs$", opening),
    "new-tasks": ("service=batch,path=/jobs/CASE-1/addtaskcollection", submission),
    "tasks-of-a-round": ("service=batch,path=/jobs/CASE-1/addtaskcollection", one_round),
    "budget": ("service=blob,method=PUT,path=/20261124t000000z-CASE/control/", one_round),
    "discarded-receipt": ("service=blob,method=DELETE,path=/CASE/", discarding),
    "published-file": ("service=blob,method=PUT,path=/CASE/", publishing),
    "latest-harvest": ("service=blob,method=PUT,path=/CASE/latest", latest),
    "deleted-job": ("service=batch,method=DELETE,path=/jobs/CASE-1", closing),
    "terminated-job": ("service=batch,method=POST,path=/jobs/CASE-1/terminate", terminating),
    "swept-job": ("service=batch,method=DELETE,path=/CASE/jobs/", sweeping),
}
"""Those of them, or ways of them, whose answers get lost."""
CASES = drawn(services(STEPS)) + losing(WRITES)


def _world(site: Site, environment: Environment) -> World:
    query = query_from(content="items", collections=(COLLECTION,))
    done = site.harvest(query)
    manifest = done.manifest
    container = site.azure.blobs(environment.blob_endpoint).get_container_client(site.azure.settings.results_container)
    root = Layout(manifest.harvest_id).root
    names = [name for name in container.list_blob_names() if name.startswith((root, "latest"))]
    blobs = {name: container.download_blob(name).readall() for name in names}
    plan = Plan.of(done.collections, query, manifest.started, changed={}, parallel=4, verify=Verify.ids, max_items=None)
    return World(done, read_receipts.fn(site.azure, environment, manifest.harvest_id), plan, blobs)


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory, prefect_server: None) -> Iterator[Stage]:
    faults = flags(CASES, STEPS | WRITES)
    folder = tmp_path_factory.mktemp("site")
    options = ("--clock", "instant", "--demo-items", "60", "--job-quota", "1000")
    with running_site(folder, *options, *faults, resource_group="matrix", requests_per_second="200") as site:
        site.provision()
        with site.environment(), disable_run_logger():
            environment = read_environment.fn(site.azure)
            yield Stage(site, environment, "", world=_world(site, environment))


@pytest.mark.parametrize("case", CASES, ids=str)
def test_step_of_harvesting_ends_well_or_in_one_clear_error(case: Case, stage: Stage, tally: Tally) -> None:
    judge_case(STEPS | WRITES, case, stage, tally)
