"""What becomes of a harvest's archive: GeoParquet, and what changed; a Batch task for each collection."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from azure.batch.models import BatchTaskCreateOptions
from prefect.logging import get_run_logger
from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic_core import to_json

from spatiobatch.errors import HarvestError, UnreadableFileError
from spatiobatch.manifest import Changes, Layout
from spatiobatch.names import digest, path_segment
from spatiobatch.query import first_problem
from spatiobatch.receipts import Receipt
from tasks.archive import read_receipts
from tasks.attempts import run_tasks
from tasks.base import Base
from tasks.clients import AzureClients, azure_task
from tasks.environment import Environment, results
from tasks.node_task import node_task, results_url

SCRIPT = "compact_items.py"
UNDATED = "undated"


class MonthFile(BaseModel):
    """What became of the items of one month; of `undated`, of those without a moment."""

    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True)

    rows: int
    exceptions: int
    """Items that cannot be rows; the archive alone has them."""
    bytes: int
    """Zero where no item is a row, so that there is no file."""

    @property
    def items(self) -> int:
        """Items that were read."""
        return self.rows + self.exceptions


class Footprints(BaseModel):
    """Where the rows of one collection lie."""

    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True)

    items: int = 0
    """Rows that lie somewhere: the others have neither a bbox nor a geometry on Earth."""
    grids: dict[float, str] = {}
    """By the size of a cell in degrees: `column,row,items` for each cell that footprints touch.

    Columns count from 180° W and rows from 90° S. Text, since so many numbers would fill the memory.
    """

    def cells(self, degrees: float) -> Iterator[tuple[int, int, int]]:
        """Column, row and number of items of the cells of one grid."""
        for cell in self.grids[degrees].split():
            column, row, items = map(int, cell.split(","))
            yield column, row, items


class Compaction(BaseModel):
    """What a node tells of one collection."""

    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True)

    collection: str
    files: dict[str, MonthFile] = {}
    exceptions: tuple[dict[str, Any], ...] = ()
    """`id` and `problem`, of at most 1000."""
    exceptions_count: int = 0
    unsound: dict[str, str] = {}
    """Shards whose archives are not what their receipts say, and why; then nothing else was done."""
    converted: dict[str, str] = {}
    """Members that are not columns of their own name and type, and why."""
    cleaned: tuple[str, ...] = ()
    """Shards that held an older version of an item than another shard; their archives and receipts lost it."""
    failed: str | None = None
    """Why no file could be written, in a sentence: all items are exceptions then."""
    changed_by: str | None = None
    """The property by which changed items can be asked for, since every item has it."""
    changes: Changes | None = None
    """What differs from the harvests that it was compared with."""
    footprints: Footprints = Footprints()

    @property
    def items(self) -> int:
        """Items that were read."""
        return sum(file.items for file in self.files.values())


class Compacted(NamedTuple):
    """What became of an archive."""

    reports: dict[str, Compaction]
    """What the nodes tell, by collection."""
    receipts: list[Receipt]
    """The receipts as they are now."""
    unsound: list[Receipt]
    """Those that are not of the archives beside them: their shards have to be harvested again."""


@azure_task("compact items")
def compact(
    azure: AzureClients,
    environment: Environment,
    job: str,
    harvest_id: str,
    receipts: Sequence[Receipt],
    base: Base,
) -> Compacted:
    """Have stac-geoparquet made of the shards that these receipts are of, and their ids compared with the base's.

    The nodes read every byte of the archive, and hold it against the receipts.

    Raises:
        TaskFailedError: a collection could not be compacted.
        HarvestError: items of a collection are neither in its files nor listed as exceptions.
    """
    collections = _by_collection(receipts, base)
    tasks = [_task(azure, environment, harvest_id, name, held, base) for name, held in collections.items()]
    run_tasks.fn(azure, environment, job, harvest_id, tasks)
    reports = {name: _report(azure, environment, harvest_id, name) for name in collections}
    unsound = {shard: problem for report in reports.values() for shard, problem in report.unsound.items()}
    for shard, problem in unsound.items():
        get_run_logger().warning("the archive of shard %s is not what its receipt says: %s", shard, problem)
    if unsound:
        return Compacted(reports, list(receipts), [receipt for receipt in receipts if receipt.name in unsound])
    receipts = _after_cleaning(azure, environment, harvest_id, receipts, reports)
    for name, report in reports.items():
        _check_counts(report, sum(receipt.count for receipt in receipts if receipt.collection == name))
    return Compacted(reports, receipts, [])


def _after_cleaning(
    azure: AzureClients,
    environment: Environment,
    harvest_id: str,
    receipts: Sequence[Receipt],
    reports: Mapping[str, Compaction],
) -> list[Receipt]:
    """The receipts, read again where a shard lost older versions of items."""
    cleaned = {shard for report in reports.values() for shard in report.cleaned}
    if not cleaned:
        return list(receipts)
    names = {receipt.name for receipt in receipts}
    untouched = [receipt for receipt in receipts if receipt.name not in cleaned]
    there = read_receipts.fn(azure, environment, harvest_id, untouched)
    return [receipt for receipt in there if receipt.name in names]


def _by_collection(receipts: Iterable[Receipt], base: Base) -> dict[str, list[Receipt]]:
    """The receipts that tell of items, by collection, with none where only the base has items.

    Their order decides which of two equal versions of an item is the later.
    """
    collections: dict[str, list[Receipt]] = {collection: [] for collection in base.expected}
    for receipt in sorted(receipts, key=lambda receipt: receipt.name):
        if receipt.count:
            collections.setdefault(receipt.collection, []).append(receipt)
    return collections


def _task(
    azure: AzureClients,
    environment: Environment,
    harvest_id: str,
    collection: str,
    receipts: Sequence[Receipt],
    base: Base,
) -> BatchTaskCreateOptions:
    shards = [receipt.model_dump(include={"name", "count", "ids_hash", "archive"}, mode="json") for receipt in receipts]
    segment = path_segment(collection)
    wanted = {
        "collection": collection,
        "segment": segment,
        "shards": [{**shard, "ids_hash": f"{shard['ids_hash']:064x}"} for shard in shards],
        "base": base.harvests,
        "increment": base.increment,
    }
    told = to_json([wanted, [receipt.task for receipt in receipts]]).decode()
    task_id = f"compact-{digest(told, 16)}"
    path = f"{Layout(harvest_id).root}/control/{task_id}.json"
    results(azure, environment).upload_blob(path, to_json(wanted), overwrite=True)
    variables = {
        "RESULTS_URL": results_url(azure, environment),
        "HARVEST_ID": harvest_id,
        "COMPACT": path,
        "COLLECTION": to_json(collection).decode(),  # no variable holds a NUL, which a name may
    }
    logs = Layout(harvest_id).logs(task_id)
    return node_task(azure, environment, task_id, script=SCRIPT, logs=logs, variables=variables)


def _report(azure: AzureClients, environment: Environment, harvest_id: str, collection: str) -> Compaction:
    container = results(azure, environment)
    path = f"{Layout(harvest_id).root}/parquet/{path_segment(collection)}/compaction.json"
    try:
        return Compaction.model_validate_json(container.download_blob(path).readall())
    except ValidationError as error:
        raise UnreadableFileError(path, first_problem(error), "harvest again") from error


def _check_counts(report: Compaction, archived: int) -> None:
    if report.items != archived:
        raise HarvestError(
            f"The GeoParquet files of {report.collection} account for {report.items} items, but {archived} are "
            "archived: take the archive for what was harvested, and harvest again for the files."
        )
