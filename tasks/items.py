"""An item harvest on the nodes: rounds of shards, each a Batch task that leaves a receipt."""

import copy
import itertools
from collections.abc import Iterable, Mapping, Sequence

from azure.batch import BatchClient
from azure.batch.models import BatchTask, BatchTaskCreateOptions, EnvironmentSetting
from azure.core.exceptions import ResourceNotFoundError
from prefect.logging import get_run_logger

from spatiobatch.errors import (
    HarvestError,
    JobEndedError,
    ShardsFailedError,
    TaskFailedError,
)
from spatiobatch.interruptions import pause
from spatiobatch.manifest import Layout
from spatiobatch.receipts import Receipt, total
from spatiobatch.settings import Settings
from spatiobatch.shards import Plan, Shard
from tasks.archive import Arriving, discard_receipts, read_receipts, shard_path
from tasks.clients import AzureClients, azure_task
from tasks.environment import Environment, results
from tasks.job import needing, submit_tasks
from tasks.logs import check_succeeded, outlived_its_sas
from tasks.node_task import node_task, results_url
from tasks.node_watch import NodeWatch
from tasks.pace import Budget
from tasks.progress import Progress

SCRIPT = "harvest_items.py"
Watcher = Budget | Progress | NodeWatch | Arriving
_ATTEMPTS = 3
_MOST_NAMED, _MOST_KEPT = 20, 1000
"""Ids in a message, and of each kind in the manifest."""


def slots(settings: Settings) -> int:
    """Tasks that the pool can run at once when all its nodes are there."""
    return max(1, settings.pool_nodes * settings.pool_task_slots)


def item_tasks(
    azure: AzureClients, environment: Environment, harvest_id: str, shards: Iterable[tuple[str, Shard]]
) -> list[BatchTaskCreateOptions]:
    """The Batch tasks of shards, by their ids; alike but for what they name, since each costs a call to make."""
    layout = Layout(harvest_id)
    variables = {"RESULTS_URL": results_url(azure, environment), "HARVEST_PREFIX": layout.root}
    pattern = node_task(azure, environment, "items", script=SCRIPT, logs=layout.root, variables=variables)
    made = []
    for task_id, shard in shards:
        task = copy.deepcopy(pattern)
        task.id = task_id
        task.environment_settings += [
            EnvironmentSetting(name="SHARD", value=shard.model_dump_json()),
            EnvironmentSetting(name="ITEMS_PREFIX", value=shard_path(shard.collection, shard.name)),
        ]
        task.output_files[0].destination.container.path = layout.logs(task_id)
        made.append(task)
    return made


def harvest_items(
    azure: AzureClients, environment: Environment, job: str, harvest_id: str, plan: Plan
) -> list[Receipt]:
    """Run round after round until receipts cover everything; those that the harvest consists of.

    The first round submits nothing: it waits for what an earlier run of the same harvest left running. Shards of which
    two looks at the ids differ, and nothing explains it, or of which the catalog counts more than it gave, are
    harvested a second time.
    """
    progress = Progress(results(azure, environment), Layout(harvest_id).root)
    receipts = run_round(azure, environment, job, harvest_id, [], [], progress)
    receipts = _until_covered(azure, environment, job, harvest_id, plan, receipts, progress)
    doubtful = [receipt for receipt in receipts if total([receipt]).unsettled or receipt.uncounted]
    if doubtful:
        get_run_logger().warning("%s shards differ from a second look or count, and run again", len(doubtful))
        discard_receipts(azure, environment, harvest_id, doubtful)
        settled = [receipt for receipt in receipts if receipt not in doubtful]
        receipts = _until_covered(azure, environment, job, harvest_id, plan, settled, progress)
    counted = plan.counted(receipts)
    progress.end(f"{total(counted).items:,} items in {len(counted):,} shards")
    return counted


def _until_covered(
    azure: AzureClients,
    environment: Environment,
    job: str,
    harvest_id: str,
    plan: Plan,
    receipts: list[Receipt],
    progress: Progress,
) -> list[Receipt]:
    shards = list[Shard]()
    while shards := plan.owed(receipts, shards):
        collections = len({shard.collection for shard in shards})
        get_run_logger().info("a round begins; shards: %s, of collections: %s", f"{len(shards):,}", f"{collections:,}")
        receipts = run_round(azure, environment, job, harvest_id, shards, receipts, progress)
        items = total(plan.counted(receipts)).items
        get_run_logger().info("the round is over; shards so far: %s, items: %s", f"{len(receipts):,}", f"{items:,}")
    return receipts


@azure_task("run round")
def run_round(
    azure: AzureClients,
    environment: Environment,
    job: str,
    harvest_id: str,
    shards: Sequence[Shard],
    receipts: Sequence[Receipt],
    progress: Progress,
) -> list[Receipt]:
    """Submit shards, wait for every task of the job, and return all receipts that there are then.

    Without shards, it waits for what an earlier run of the same harvest left running in the job that it attached to.
    Of `receipts`, those of other shards are not read again.

    Raises:
        ShardsFailedError: a shard left no receipt in three attempts.
        JobEndedError: the job ended first.
    """
    batch = azure.batch(environment.batch_endpoint)
    if ended := _ended(batch, job):  # its tasks may all have ended with it, so that the last wait was content
        raise JobEndedError(job, *ended, len(shards))
    with needing(job, len(shards)):
        there = {task.id: task for task in batch.list_tasks(job)}
    tried = [(shard, _tasks_of(shard, there)) for shard in shards]
    _judge(azure, environment, job, harvest_id, [tasks for _, tasks in tried])
    wanted = [(_task_id(shard, len(tasks) + 1), shard) for shard, tasks in tried if all(map(_completed, tasks))]
    budget = Budget(results(azure, environment), Layout(harvest_id).root, azure.settings.requests_per_second)
    if wanted:
        budget.share(min(len(wanted), slots(azure.settings)))
        with needing(job, len(wanted)):
            submit_tasks.fn(azure, environment, job, item_tasks(azure, environment, harvest_id, wanted))
    submitted = {shard.name for shard in shards}
    known = [receipt for receipt in receipts if receipt.name not in submitted]
    arriving = Arriving(azure, environment, harvest_id, known)
    watching = (budget, progress, NodeWatch(batch, azure.settings.pool), arriving)
    _wait(batch, azure.settings, job, len(there) + len(wanted), watching)
    return read_receipts.fn(azure, environment, harvest_id, arriving.receipts)


def _task_id(shard: Shard, number: int) -> str:
    """The id of a shard's attempt: a task that has ended never comes back."""
    return f"items-{shard.name}" if number == 1 else f"items-{shard.name}-{number}"


def _tasks_of(shard: Shard, there: Mapping[str, BatchTask]) -> list[BatchTask]:
    """The attempts at a shard, the first one first."""
    names = (_task_id(shard, number) for number in itertools.count(1))
    return [there[name] for name in itertools.takewhile(lambda name: name in there, names)]


def _completed(task: BatchTask) -> bool:
    return str(getattr(task.state, "value", task.state)) == "completed"


def _judge(
    azure: AzureClients, environment: Environment, job: str, harvest_id: str, tried: Iterable[list[BatchTask]]
) -> None:
    """Look at the shards that are submitted again although tasks of theirs have ended.

    One that only waited for too long has not been attempted: its script's address is signed anew each time.

    Raises:
        ShardsFailedError: one of them has no attempt left.
    """
    again = [tasks for tasks in tried if tasks and all(map(_completed, tasks))]
    hopeless = [tasks for tasks in again if len(tasks) - sum(map(outlived_its_sas, tasks)) >= _ATTEMPTS]
    worst = (hopeless or again)[:1]
    if not worst:
        return
    problem = _problem(azure, environment, job, harvest_id, worst[0][-1])
    if hopeless:
        raise ShardsFailedError(problem, _ATTEMPTS, len(hopeless) - 1) from problem
    get_run_logger().warning("%s shards left no receipt and are harvested again; the first: %s", len(again), problem)


def _problem(azure: AzureClients, environment: Environment, job: str, harvest_id: str, task: BatchTask) -> HarvestError:
    try:
        check_succeeded(azure, environment, job, task, Layout(harvest_id).logs(task.id))
    except TaskFailedError as error:
        return error
    return HarvestError(f"Task {task.id} of job {job} succeeded, but its receipt does not take the harvest further.")


def _wait(batch: BatchClient, settings: Settings, job: str, expected: int, watching: Sequence[Watcher]) -> None:
    """Wait until so many tasks are completed, at two Batch calls per look however many they are."""
    while True:
        ended = _ended(batch, job)  # before the counts: a job may end right after its last task
        with needing(job, expected):
            counts = batch.get_job_task_counts(job).task_counts
        for watcher in watching:
            watcher.look(counts)
        if counts.completed >= expected:
            return
        if ended:
            raise JobEndedError(job, *ended, expected - counts.completed)
        pause(settings.poll_seconds)


def _ended(batch: BatchClient, job: str) -> tuple[str, str | None] | None:
    """State and reason of a job that ended; None while it goes on."""
    try:
        seen = batch.get_job(job)
    except ResourceNotFoundError:
        return "gone", None
    state = str(getattr(seen.state, "value", seen.state))
    if state not in ("terminating", "completed", "deleting"):
        return None
    return state, seen.execution_info.termination_reason if seen.execution_info else None
