"""A Prefect table of a harvest's shards, for whoever wonders where the time went."""

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

from azure.batch.models import BatchTask
from prefect.artifacts import create_table_artifact

from spatiobatch.intervals import rfc3339
from spatiobatch.receipts import Receipt
from spatiobatch.text import without_markup
from tasks.clients import AzureClients, azure_task
from tasks.environment import Environment
from tasks.summary import fitting


@azure_task("tell of shards")
def tell_of_shards(
    azure: AzureClients, environment: Environment, job: str, harvest_id: str, receipts: Sequence[Receipt]
) -> None:
    """Create the table, while the job is there to tell how often each shard was tried; the troubled ones first."""
    batch = azure.batch(environment.batch_endpoint)
    seconds, attempts = Counter[str](), Counter[str]()
    for shard, task in _by_shard(batch.list_tasks(job, select=["id", "executionInfo"])):
        attempts[shard] += 1 + _again(task)
        seconds[shard] += _seconds(task)
    rows = [_row(receipt, attempts[receipt.name], seconds[receipt.name]) for receipt in receipts]
    rows.sort(key=lambda row: (row["attempts"], row["throttled"], row["node seconds"]), reverse=True)
    shown = fitting(rows, json.dumps)
    some = f"the {shown} that took most of {len(rows)}" if shown < len(rows) else "all"
    key = f"harvest-{harvest_id.rpartition('-')[2]}-shards"
    create_table_artifact(rows[:shown], key=key, description=f"Shards of harvest {harvest_id}: {some}")


def _by_shard(tasks: Iterable[BatchTask]) -> Iterator[tuple[str, BatchTask]]:
    """The item tasks with the names of their shards, which hold no dash."""
    for task in tasks:
        kind, _, rest = task.id.partition("-")
        if kind == "items":
            yield rest.partition("-")[0], task


def _again(task: BatchTask) -> int:
    """How often Batch itself ran a task once more, because its node was lost."""
    return int(task.execution_info.requeue_count or 0) if task.execution_info else 0


def _seconds(task: BatchTask) -> int:
    ran = task.execution_info
    return round((ran.end_time - ran.start_time).total_seconds()) if ran and ran.end_time and ran.start_time else 0


def _row(receipt: Receipt, attempts: int, seconds: int) -> dict[str, str | int]:
    start, end = (rfc3339(bound) if bound else ".." for bound in (receipt.start, receipt.end))
    return {
        "collection": without_markup(receipt.collection),
        "items": receipt.count,
        "attempts": attempts,
        "throttled": receipt.throttled,
        "pages": receipt.pages,
        "calls": receipt.calls,
        "node seconds": seconds,
        "covers": "items without a date" if receipt.undated else f"{start}/{end}",
        "shard": receipt.name,
    }
