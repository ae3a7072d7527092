"""Item harvests become GeoParquet on the nodes, and nothing is missing in it."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime

import pytest
import zstandard
from azure.storage.blob import ContainerClient
from flow_runs import Site, running_site
from prefect.logging import disable_run_logger

from spatiobatch.errors import HarvestError, TaskFailedError
from spatiobatch.manifest import Layout, Manifest
from spatiobatch.names import digest
from spatiobatch.query import query_from
from spatiobatch.receipts import Receipt
from spatiobatch.shards import Plan
from tasks.archive import shard_path
from tasks.base import Base
from tasks.clients import AzureClients
from tasks.compaction import Compaction, compact
from tasks.environment import Environment, read_environment
from tasks.job import close_job, open_job
from tasks.settlement import settle


@dataclass(frozen=True)
class Field:
    """A provisioned environment, and one harvest in it."""

    azure: AzureClients
    environment: Environment
    harvest_id: str
    job: str = ""

    @property
    def results(self) -> ContainerClient:
        """The results container."""
        service = self.azure.blobs(self.environment.blob_endpoint)
        return service.get_container_client(self.azure.settings.results_container)

    def archive(self, collection: str, shard: str, *moments: str) -> Receipt:
        """Put a shard there; its receipt."""
        items = [{"id": moment, "properties": {"datetime": moment}, "geometry": None} for moment in moments]
        packed = zstandard.compress("".join(f"{json.dumps(item)}\n" for item in items).encode())
        path = f"{Layout(self.harvest_id).root}/{shard_path(collection, shard)}.ndjson.zst"
        self.results.upload_blob(path, packed, overwrite=True)
        told = {"count": len(moments), "ids_hash": "1", "pages": 1, "throttled": 0, "start": None, "end": None}
        return Receipt.model_validate({"name": shard, "collection": collection, **told})

    def compact(self, *receipts: Receipt) -> dict[str, Compaction]:
        """Have files made of shards."""
        return compact.fn(self.azure, self.environment, self.job, self.harvest_id, receipts, Base())[0]

    def settle(self, reports: dict[str, Compaction], *receipts: Receipt) -> Manifest:
        """The manifest."""
        started = datetime(2026, 4, 15, tzinfo=UTC)
        named = [{"id": name} for name in reports]
        whole = Plan.of(named, query_from(content="items"), started, parallel=1, page_quota=1)
        compacted = (reports, list(receipts))
        return settle.fn(self.azure, self.environment, self.job, self.harvest_id, whole, compacted, Base())

    def task_ids(self) -> list[str]:
        """The job's tasks."""
        return [task.id for task in self.azure.batch(self.environment.batch_endpoint).list_tasks(self.job)]


@pytest.fixture(scope="module")
def provisioned(tmp_path_factory: pytest.TempPathFactory, prefect_server: None) -> Iterator[Site]:
    with running_site(tmp_path_factory.mktemp("compaction"), "--clock", "instant") as site:
        site.provision()
        yield site


@pytest.fixture
def field(provisioned: Site, request: pytest.FixtureRequest) -> Iterator[Field]:
    """A harvest and a job of this test's own."""
    with provisioned.environment(), disable_run_logger():
        azure = provisioned.azure
        there = Field(azure, read_environment.fn(azure), f"20260415T000000Z-{digest(request.node.name, 12)}")
        job = open_job.fn(azure, there.environment, there.harvest_id)
        yield replace(there, job=job)
        close_job.fn(azure, there.environment, job)


def test_each_collection_gets_a_file_for_each_month(field: Field) -> None:
    first = field.archive("a ä/%", "s1", "2020-01-01T00:00:00Z", "2020-02-01T00:00:00Z")
    second = field.archive("a ä/%", "s2", "2020-02-02T00:00:00Z")
    other = field.archive("b", "s1", "2020-02-01T00:00:00Z")
    reports = field.compact(first, second, other, field.archive("empty", "s1"))
    counted = {name: {month: file.rows for month, file in report.files.items()} for name, report in reports.items()}
    assert counted == {"a ä/%": {"2020-01": 1, "2020-02": 2}, "b": {"2020-02": 1}}
    path = f"{Layout(field.harvest_id).root}/parquet/a%20%C3%A4%2F%25/2020-02.parquet"
    content = field.results.download_blob(path).readall()
    assert len(content) == reports["a ä/%"].files["2020-02"].bytes
    assert content.startswith(b"PAR1")


def test_what_was_compacted_is_attached_to(field: Field) -> None:
    receipt = field.archive("c", "s1", "2020-01-01T00:00:00Z")
    assert field.compact(receipt) == field.compact(receipt)
    assert len(field.task_ids()) == 1


def test_a_collection_that_fails_is_tried_again_at_the_next_run(field: Field) -> None:
    receipt = field.archive("c", "s1", "2020-01-01T00:00:00Z")
    path = f"{Layout(field.harvest_id).root}/{shard_path('c', 's1')}.ndjson.zst"
    field.results.upload_blob(path, b"damaged", overwrite=True)
    with pytest.raises(TaskFailedError, match=r"exit code 5(.|\n)*harvest its shard again"):
        field.compact(receipt)
    field.archive("c", "s1", "2020-01-01T00:00:00Z")
    assert field.compact(receipt)["c"].items == 1
    assert len(field.task_ids()) == 2


def test_items_that_are_not_accounted_for_fail_the_harvest(field: Field) -> None:
    receipt = field.archive("c", "s1", "2020-01-01T00:00:00Z")
    with pytest.raises(HarvestError, match="files of c account for 1 items, but 7 are archived"):
        field.compact(receipt.model_copy(update={"count": 7}))


def test_items_of_a_view_that_failed_are_named_in_the_manifest(field: Field) -> None:
    receipt = field.archive("naip", "s1", "2020-01-01T00:00:00Z")
    problem = "the Parquet of this collection could not be written: no luck"
    counts = {"rows": 0, "exceptions": 1, "bytes": 0}
    told = {"failed": problem, "exceptions": [{"id": None, "problem": problem}], "exceptions_count": 1}
    report = {**field.compact(receipt)["naip"].model_dump(), **told, "files": {"2020-01": counts}}
    manifest = field.settle({"naip": Compaction.model_validate(report)}, receipt)
    assert manifest.collections["naip"].not_in_parquet == 1
    assert manifest.named["naip"].not_in_parquet == ({"id": None, "problem": problem},)


def test_a_harvest_without_items_needs_no_task(field: Field) -> None:
    assert field.compact(field.archive("empty", "s1")) == {}
    assert field.task_ids() == []
