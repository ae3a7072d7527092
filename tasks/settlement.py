"""What an item harvest came to: receipts and reports added up, and whether it can be relied on."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.metadata import version

from azure.batch import BatchClient
from prefect.logging import get_run_logger

from spatiobatch.errors import IncompleteHarvestError
from spatiobatch.manifest import Changes, CollectionTotals, Cost, Manifest, Named
from spatiobatch.receipts import Receipt, total
from spatiobatch.shards import Plan, Verify
from tasks.base import Base
from tasks.clients import AzureClients, azure_task
from tasks.compaction import Compacted, Compaction
from tasks.environment import Environment

_MOST_NAMED, _MOST_KEPT, _MOST_REASONS = 20, 1000, 3
"""Ids in a message, and of each kind in the manifest; reasons in a message."""


@azure_task("settle")
def settle(
    azure: AzureClients,
    environment: Environment,
    job: str,
    harvest_id: str,
    plan: Plan,
    compacted: Compacted,
    base: Base,
) -> Manifest:
    """Add up receipts and reports, while the job is there to tell what it took.

    Complete is a harvest whose receipts tile every interval, leave no id unsettled, and name no problem.
    """
    reports, receipts = compacted
    counted = plan.counted(receipts)
    of = {name: [part for part in counted if part.collection == name] for name in plan.extents}
    named = {name: _named(parts, reports.get(name)) for name, parts in of.items()}
    _warn_of_unsettled(named)
    return Manifest(
        harvest_id=harvest_id,
        kind=base.kind,
        base=base.last,
        complete=not plan.owed(receipts)
        and not total(counted).unsettled
        and not any(receipt.problems for receipt in counted),
        verified=plan.verify is Verify.ids and all(receipt.verified for receipt in counted),
        query=plan.query,
        max_items=plan.max_items,
        collections={name: _totals(parts, reports.get(name)) for name, parts in of.items()},
        named={name: some for name, some in named.items() if some != Named()},
        shards=len(counted),
        started=plan.started,
        as_of=min((receipt.asked for receipt in counted if receipt.asked), default=None),
        finished=datetime.now(UTC),
        versions={package: version(package) for package in ("spatiobatch", "prefect", "azure-batch")},
        changes=sum((report.changes for report in reports.values() if report.changes), Changes())
        if base.last
        else None,
        cost=Cost(
            node_seconds=_node_seconds(azure.batch(environment.batch_endpoint), job),
            calls=total(counted).calls,
            throttled=total(counted).throttled,
        ),
    )


def _totals(receipts: Sequence[Receipt], report: Compaction | None) -> CollectionTotals:
    found = asdict(total(receipts))
    counts = {name: found[name] for name in CollectionTotals.model_fields if name in found}
    return CollectionTotals(**counts, changed_by=report.changed_by if report else None)


def _named(receipts: Sequence[Receipt], report: Compaction | None) -> Named:
    dirty = [item for receipt in receipts for item in receipt.dirty]
    unsettled = [name for receipt in receipts for name in receipt.verification.unsettled]
    unreadable = [item for receipt in receipts for item in receipt.unreadable]
    foreign = [item for receipt in receipts for item in receipt.foreign]
    problems = [problem for receipt in receipts for problem in receipt.problems]
    return Named(
        dirty=tuple(dirty[:_MOST_KEPT]),
        not_in_parquet=report.exceptions if report else (),
        unsettled=tuple(unsettled[:_MOST_KEPT]),
        unreadable=tuple(unreadable[:_MOST_KEPT]),
        foreign=tuple(foreign[:_MOST_KEPT]),
        problems=tuple(problems[:_MOST_KEPT]),
    )


def _node_seconds(batch: BatchClient, job: str) -> float:
    ran = [task.execution_info for task in batch.list_tasks(job, select=["executionInfo"])]
    return sum(
        (info.end_time - info.start_time).total_seconds() for info in ran if info and info.end_time and info.start_time
    )


def _warn_of_unsettled(named: Mapping[str, Named]) -> None:
    names = [f"{collection}/{name}" for collection, some in named.items() for name in some.unsettled]
    if names:
        more = f" and {len(names) - _MOST_NAMED} more" if len(names) > _MOST_NAMED else ""
        get_run_logger().warning("a second look disagrees on %s%s", ", ".join(names[:_MOST_NAMED]), more)


def incomplete(manifest: Manifest, archive: str, verify: Verify) -> IncompleteHarvestError | None:
    """Why a harvest cannot be relied on, if it cannot.

    Ids are unsettled, receipts name problems, or the second look that was asked for was not possible.
    """
    unsettled = {name: found.unsettled for name, found in manifest.collections.items() if found.unsettled}
    if not manifest.complete:
        listed = ", ".join(f"{count} in {name}" for name, count in unsettled.items())
        reasons = [f"items could not be settled: {listed}"] if unsettled else []
        reasons += [f"{name}: {problem}" for name, some in manifest.named.items() for problem in some.problems]
        problem = "; ".join(reasons[:_MOST_REASONS]) or "some interval is not covered"
        more = f"; and {len(reasons) - _MOST_REASONS} more" if len(reasons) > _MOST_REASONS else ""
        return IncompleteHarvestError(manifest.harvest_id, archive, problem + more)
    if verify is Verify.ids and not manifest.verified:
        problem = "its completeness could not be verified; --verify none does without"
        return IncompleteHarvestError(manifest.harvest_id, archive, problem)
    return None
