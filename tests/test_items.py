"""Item harvests: rounds of shards on the nodes, their receipts, and the archive that is made of them."""

import hashlib
import json
import os
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from http.client import HTTPSConnection
from pathlib import Path
from ssl import create_default_context
from types import SimpleNamespace
from typing import Any
from urllib.parse import urlsplit

import pytest
import zstandard
from azure.batch.models import BatchTaskCounts
from azure.storage.blob import ContainerClient
from flow_runs import Site, running_site
from local_pools import until
from prefect import flow
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterKey
from prefect.logging import disable_run_logger

from spatiobatch.errors import JobEndedError, OutputError, ShardsFailedError, TaskFailedError, UnreadableFileError
from spatiobatch.manifest import Kind, Layout, Manifest
from spatiobatch.names import digest
from spatiobatch.query import query_from
from spatiobatch.receipts import Receipt, total
from spatiobatch.settings import ScriptAccess
from spatiobatch.shards import Plan, Shard
from tasks import archive, items, pace, progress, settlement, storage
from tasks.base import Base
from tasks.clients import AzureClients
from tasks.environment import Environment, read_environment
from tasks.job import close_job, open_job
from tasks.logs import check_succeeded
from tasks.progress import Progress

DEMO = ("optical-scenes", "aerial-strips", "monthly-composites")
SHARES = (180, 90, 30)
"""Of 300 items, how many each demo collection has."""
STARTED = datetime(2026, 4, 15, tzinfo=UTC)
OBEDIENT = '''
"""Leaves the receipt that the collection's name asks for, instead of asking a catalog."""
import json, os, sys, time
from datetime import datetime
import requests
from azure.identity import DefaultAzureCredential

shard = json.loads(os.environ["SHARD"])
print(shard["name"], os.environ["AZ_BATCH_TASK_ID"], file=sys.stderr)
behaviour = shard["collection"]
if behaviour == "fails" or behaviour == "fails-once" and os.environ["AZ_BATCH_TASK_ID"].count("-") < 2:
    sys.exit("no luck")
if behaviour.startswith("hangs"):
    time.sleep(60)
end, left = shard["end"], None
if behaviour == "stops" and shard["start"] is None and shard["end"] is None and not shard["undated"]:
    end, left = "2022-01-01T00:00:00Z", {"start": "2022-01-01T00:00:00Z", "end": None}
receipt = {key: shard[key] for key in ("name", "collection", "start", "undated")}
receipt |= {"end": end, "remainder": left, "count": 10, "ids_hash": "a", "pages": 1, "throttled": 1, "calls": 3}
receipt |= {"min_datetime": None, "max_datetime": None, "verified": True}
if behaviour == "differs" or behaviour == "differs-once" and os.environ["AZ_BATCH_TASK_ID"].count("-") < 2:
    receipt |= {"verified": False, "verification": {"unsettled": ["x"], "unsettled_count": 1}}
token = DefaultAzureCredential().get_token("https://storage.azure.com/.default").token
headers = {"Authorization": f"Bearer {token}", "x-ms-version": "2023-11-03", "x-ms-blob-type": "BlockBlob"}
root = f"{os.environ['RESULTS_URL']}/{os.environ['HARVEST_PREFIX']}/control/progress/{shard['name']}.json"
requests.put(root, json.dumps({"pages": 1, "items": 10}), headers=headers).raise_for_status()
for suffix, body in ((".ndjson.zst", b"zst"), (".receipt.json", json.dumps(receipt))):
    address = f"{os.environ['HARVEST_PREFIX']}/{os.environ['ITEMS_PREFIX'].replace('%', '%25')}{suffix}"
    requests.put(f"{os.environ['RESULTS_URL']}/{address}", body, headers=headers).raise_for_status()
'''


@dataclass(frozen=True)
class Field:
    """A provisioned environment, and one harvest in it."""

    azure: AzureClients
    environment: Environment
    harvest_id: str = "20260415T000000Z-test"
    job: str = ""

    @property
    def results(self) -> ContainerClient:
        """The results container."""
        service = self.azure.blobs(self.environment.blob_endpoint)
        return service.get_container_client(self.azure.settings.results_container)

    @property
    def progress(self) -> Progress:
        """How far this harvest is."""
        return Progress(self.results, Layout(self.harvest_id).root)

    def round(self, shards: Sequence[Shard], receipts: Sequence[Receipt] = ()) -> list[Receipt]:
        """Run one round."""
        told = self.progress
        return items.run_round.fn(self.azure, self.environment, self.job, self.harvest_id, shards, receipts, told)

    def rounds(self, plan: Plan) -> list[Receipt]:
        """Run rounds until nothing is owed."""
        receipts = self.round([])
        shards: list[Shard] = []
        while shards := plan.owed(receipts, shards):
            receipts = self.round(shards, receipts)
        return receipts

    def harvest(self, plan: Plan) -> list[Receipt]:
        """Harvest a plan to its end."""
        return items.harvest_items(self.azure, self.environment, self.job, self.harvest_id, plan)

    def settle(self, plan: Plan, receipts: Sequence[Receipt]) -> Manifest:
        """The manifest."""
        compacted = ({}, list(receipts))
        return settlement.settle.fn(self.azure, self.environment, self.job, self.harvest_id, plan, compacted, Base())

    def task_ids(self) -> list[str]:
        """The job's tasks."""
        return [task.id for task in self.azure.batch(self.environment.batch_endpoint).list_tasks(self.job)]

    def upload(self, path: str, content: str) -> None:
        """Put a blob into the results container."""
        self.results.upload_blob(path, content, overwrite=True)


@pytest.fixture(scope="module")
def provisioned(tmp_path_factory: pytest.TempPathFactory, prefect_server: None) -> Iterator[Site]:
    with running_site(tmp_path_factory.mktemp("items"), "--clock", "instant", "--demo-items", "300") as site:
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


@pytest.fixture
def obedient(field: Field, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Field:
    """The field with a node script that does what the collection's name says."""
    (tmp_path / items.SCRIPT).write_text(OBEDIENT)
    monkeypatch.setattr(storage, "SCRIPTS", tmp_path)
    upload_script(field)
    return field


def upload_script(field: Field) -> None:
    scripts = field.azure.blobs(field.environment.blob_endpoint).get_container_client("scripts")
    script = storage.SCRIPTS / items.SCRIPT
    scripts.upload_blob(storage.blob_name(items.SCRIPT), script.read_bytes(), overwrite=True)


def plan(*collections: str, query: dict[str, Any] | None = None, **how: Any) -> Plan:
    found = [{"id": name} for name in collections]
    asked = query_from(content="items", **(query or {}))
    return Plan.of(found, asked, STARTED, **{"parallel": 2, "page_quota": 10, **how})


def manifest(harvest_id: str, kind: Kind = Kind.full, base: str | None = None, **asked: Any) -> Manifest:
    return Manifest(
        harvest_id=harvest_id,
        kind=kind,
        base=base,
        complete=True,
        verified=True,
        query=query_from(content="items", **asked),
        collections={},
        started=STARTED,
        finished=STARTED,
        cost={"node_seconds": 0},
    )


def test_rounds_go_on_until_everything_is_covered(obedient: Field) -> None:
    whole = plan("one", "stops")
    receipts = obedient.rounds(whole)
    found = obedient.settle(whole, receipts)
    assert found.complete
    assert found.verified
    assert found.collections["one"].items == 10
    assert found.collections["stops"].items == 10 * (found.shards - 1)
    assert found.shards > 3
    assert found.cost.calls == 3 * found.shards
    assert found.cost.node_seconds > 0


def test_a_failed_shard_is_harvested_again_under_another_task_id(obedient: Field) -> None:
    whole = plan("fails-once")
    (shard,) = whole.owed([])
    receipts = obedient.rounds(whole)
    assert [receipt.name for receipt in receipts] == [shard.name]
    assert obedient.task_ids() == [f"items-{shard.name}", f"items-{shard.name}-2"]


def test_shards_that_fail_three_times_fail_the_harvest_and_the_others_are_kept(obedient: Field) -> None:
    whole = plan("fails", "one")
    with pytest.raises(ShardsFailedError, match=r"A shard failed in 3 attempts.*exit code 1(.|\n)*no luck"):
        obedient.rounds(whole)
    kept = archive.read_receipts.fn(obedient.azure, obedient.environment, obedient.harvest_id)
    assert [receipt.collection for receipt in kept] == ["one"]
    assert not obedient.settle(whole, kept).complete


def test_a_shard_that_differs_from_a_second_look_is_harvested_again(obedient: Field) -> None:
    whole = plan("differs-once", "one")
    found = obedient.settle(whole, obedient.harvest(whole))
    assert found.complete
    assert found.verified
    assert len(obedient.task_ids()) == 3


def test_a_shard_that_differs_again_is_kept_and_named(obedient: Field) -> None:
    whole = plan("differs")
    found = obedient.settle(whole, obedient.harvest(whole))
    assert not found.complete
    assert found.collections["differs"].items == 10
    assert found.named["differs"].unsettled == ("x",)


def test_a_resumed_harvest_submits_only_what_no_receipt_covers(obedient: Field) -> None:
    whole = plan("one", "two")
    first, second = whole.owed([])
    obedient.round([first])
    resumed = obedient.rounds(whole)
    assert {receipt.name for receipt in resumed} == {first.name, second.name}
    assert len(obedient.task_ids()) == 2


def test_a_shard_whose_task_still_runs_is_waited_for(obedient: Field) -> None:
    (shard,) = plan("one").owed([])
    ended = threading.Event()

    def other_run() -> None:
        with disable_run_logger():
            obedient.round([shard])
        ended.set()

    threading.Thread(target=other_run, daemon=True).start()
    while not obedient.task_ids():
        assert not ended.is_set()
    assert [receipt.name for receipt in obedient.round([shard])] == [shard.name]
    assert obedient.task_ids() == [f"items-{shard.name}"]
    assert ended.wait(30)


def test_round_ends_when_its_job_does(obedient: Field) -> None:
    batch = obedient.azure.batch(obedient.environment.batch_endpoint)

    def end_it() -> None:
        until(obedient.task_ids, bool)
        batch.begin_terminate_job(obedient.job, options={"terminateReason": "Enough"})

    stop = threading.Thread(target=end_it)
    stop.start()
    with pytest.raises(JobEndedError, match="Enough"):
        obedient.rounds(plan("hangs"))
    stop.join()


def test_an_unreadable_receipt_is_none(field: Field) -> None:
    field.upload(f"{Layout(field.harvest_id).root}/{archive.shard_path('c', 'abc')}.receipt.json", "{")
    assert archive.read_receipts.fn(field.azure, field.environment, field.harvest_id) == []


@pytest.mark.parametrize(
    ("odd", "archived"),
    [
        ({"harvest_id": "20260101T000000Z-0b194986b11b"}, "x"),
        ({"name": "0000000000000000"}, "x"),
        ({"collection": "d"}, "x"),
        ({"archive": {"size": 1, "sha256": "0"}}, "xy"),
        ({"archive": {"size": 1, "sha256": "0"}}, None),
        ({}, None),
        ({"schema_version": "2.0", "archive": {"size": 1, "sha256": "0"}, "harvest_id": None}, "x"),
        ({"schema_version": "2.0", "archive": None}, "x"),
    ],
)
def test_a_receipt_that_does_not_fit_is_none(field: Field, odd: dict[str, Any], archived: str | None) -> None:
    (shard,) = plan("c").owed([])
    path = f"{Layout(field.harvest_id).root}/{archive.shard_path('c', shard.name)}"
    told = {**receipt(shard).model_dump(mode="json"), "harvest_id": field.harvest_id, "ids_hash": "1"}
    field.upload(f"{path}.ndjson.zst", "x")
    field.upload(f"{path}.receipt.json", json.dumps(told))
    assert len(archive.read_receipts.fn(field.azure, field.environment, field.harvest_id)) == 1
    field.upload(f"{path}.receipt.json", json.dumps({**told, **odd}))
    field.results.delete_blob(f"{path}.ndjson.zst")
    if archived is not None:
        field.upload(f"{path}.ndjson.zst", archived)
    assert archive.read_receipts.fn(field.azure, field.environment, field.harvest_id) == []


def test_known_receipts_are_not_read_again(field: Field) -> None:
    (shard,) = plan("c").owed([])
    known = receipt(shard)
    field.upload(f"{Layout(field.harvest_id).root}/{archive.shard_path('c', shard.name)}.receipt.json", "{")
    assert archive.read_receipts.fn(field.azure, field.environment, field.harvest_id, [known]) == [known]


def receipt(shard: Shard) -> Receipt:
    told = {"count": 1, "ids_hash": "1", "pages": 1, "throttled": 0}
    return Receipt.model_validate({**shard.model_dump(include={"name", "collection", "start", "end"}), **told})


def test_receipts_are_read_while_their_round_goes_on(field: Field, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive, "_ARRIVING_SECONDS", 0)
    (shard,) = plan("c").owed([])
    path = f"{Layout(field.harvest_id).root}/{archive.shard_path('c', shard.name)}"
    field.upload(f"{path}.ndjson.zst", "")
    field.upload(f"{path}.receipt.json", receipt(shard).model_dump_json())
    arriving = archive.Arriving(field.azure, field.environment, field.harvest_id, [])
    arriving.look(BatchTaskCounts(running=1, active=0, completed=1, succeeded=1, failed=0))
    assert arriving.receipts == [receipt(shard)]


def test_the_archive_is_copied_without_what_does_not_count(obedient: Field, tmp_path: Path) -> None:
    whole = plan("../ü")
    counted = obedient.rounds(whole)
    layout = Layout(obedient.harvest_id)
    obedient.upload(layout.manifest, "{}")
    obedient.upload(f"{layout.root}/{archive.shard_path('../ü', 'superseded')}.ndjson.zst", "")
    output = tmp_path / "output"
    done = archive.download.fn(obedient.azure, obedient.environment, obedient.harvest_id, counted, output)
    assert done == output / layout.manifest
    name = counted[0].name
    assert {str(path.relative_to(output / layout.root)) for path in output.rglob("*") if path.is_file()} == {
        "manifest.json",
        f"items/%2E.%2F%C3%BC/{name}.ndjson.zst",
        f"items/%2E.%2F%C3%BC/{name}.receipt.json",
        f"logs/items-{name}/stdout.txt",
        f"logs/items-{name}/stderr.txt",
    }


def test_a_task_that_waits_for_longer_than_its_sas_lasts_is_no_attempt(
    obedient: Field, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(storage, "SAS_LIFE", timedelta(seconds=4))
    monkeypatch.setattr(items, "_ATTEMPTS", 1)
    field = replace(obedient, azure=AzureClients(obedient.azure.settings.with_(script_access=ScriptAccess.sas)))
    batch = field.azure.batch(field.environment.batch_endpoint)
    for number in range(field.azure.settings.pool_task_slots):
        batch.create_task(field.job, {"id": f"before-{number}", "commandLine": "sleep 6"})
    (shard,) = plan("simple", parallel=1).owed([])
    late = f"items-{shard.name}"
    assert [[receipt.count for receipt in field.round([shard])] for _ in range(2)] == [[], [10]]
    with pytest.raises(TaskFailedError, match=r"waited longer .* set script_access to identity") as failure:
        check_succeeded(field.azure, field.environment, field.job, batch.get_task(field.job, late), "logs")
    assert "sig=" not in str(failure.value)


def test_no_name_in_the_container_leaves_the_output_folder(field: Field, tmp_path: Path) -> None:
    put_as_it_is(field, f"{Layout(field.harvest_id).root}/logs/../../../../outside.txt")
    with pytest.raises(OutputError, match="outside"):
        archive.download.fn(field.azure, field.environment, field.harvest_id, [], tmp_path / "a" / "b")
    assert not list(tmp_path.rglob("outside.txt"))


def put_as_it_is(field: Field, path: str) -> None:
    """Write a blob under a name that HTTP clients would tidy up."""
    url = urlsplit(field.results.url)
    connection = HTTPSConnection(url.netloc, context=create_default_context(cafile=os.environ["REQUESTS_CA_BUNDLE"]))
    token = field.azure.credential.get_token(field.azure.cloud.storage_scope).token
    headers = {"Authorization": f"Bearer {token}", "x-ms-version": "2023-11-03", "x-ms-blob-type": "BlockBlob"}
    connection.request("PUT", f"{url.path}/{path}", b"", headers)
    assert connection.getresponse().status == 201
    connection.close()


def published(field: Field, *harvests: Manifest) -> None:
    for harvest in harvests:
        archive.publish_latest.fn(field.azure, field.environment, harvest)


def test_latest_keeps_the_last_full_harvest_and_its_increments(field: Field) -> None:
    published(field, manifest("1"), manifest("2", Kind.increment, "1"), manifest("3", Kind.increment, "2"))
    assert latest(field) == {"full": "1", "increments": ["2", "3"]}
    published(field, manifest("4"))
    assert latest(field) == {"full": "4", "increments": []}


def test_what_was_published_last_is_the_latest_also_when_the_clock_went_back(field: Field) -> None:
    published(field, manifest("20350101"), manifest("20260101"), manifest("20250101", Kind.increment, "20260101"))
    assert latest(field) == {"full": "20260101", "increments": ["20250101"]}


def test_an_increment_of_what_is_not_the_latest_any_more_does_not_get_in(field: Field) -> None:
    published(field, manifest("5"), manifest("7"), manifest("6", Kind.increment, "5"))
    assert latest(field) == {"full": "7", "increments": []}


def test_an_increment_that_is_published_twice_is_there_once(field: Field) -> None:
    published(field, manifest("8"), manifest("9", Kind.increment, "8"), manifest("9", Kind.increment, "8"))
    assert latest(field) == {"full": "8", "increments": ["9"]}


@pytest.mark.parametrize("content", [b"{", b"[]", b'{"a": []}', b'{"a": {"full": 1}}', b"\xff\xfe", b"[" * 100_000])
def test_a_latest_that_cannot_be_read_costs_a_sentence(field: Field, content: bytes) -> None:
    field.results.upload_blob(archive.LATEST, content, overwrite=True)
    try:
        with pytest.raises(UnreadableFileError, match=r"^latest\.json in the results container cannot be read"):
            archive.read_latest(field.results)
        with pytest.raises(UnreadableFileError, match="delete it"):
            published(field, manifest("10"))
        assert field.results.download_blob(archive.LATEST).readall() == content
    finally:
        field.results.delete_blob(archive.LATEST)


def latest(field: Field) -> Any:
    return json.loads(field.results.download_blob(archive.LATEST).readall())[query_from(content="items").hash]


def test_harvests_that_end_together_all_get_into_latest(field: Field) -> None:
    harvests = [manifest(f"5{number}", collections=(f"c{number}",)) for number in range(5)]
    threads = [threading.Thread(target=published, args=(field, harvest)) for harvest in harvests]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    there = archive.read_latest(field.results)
    assert [there[harvest.query.hash].full for harvest in harvests] == [harvest.harvest_id for harvest in harvests]


def test_budget_follows_running_tasks_up_at_once_and_down_when_steady(field: Field) -> None:
    budget = pace.Budget(field.results, Layout(field.harvest_id).root, 25)
    budget.share(4)
    seen = []
    for running, active in ((1, 7), (3, 5), (6, 2), (6, 2), (4, 2), (4, 2), (2, 0), (0, 0)):
        budget.look(BatchTaskCounts(running=running, active=active, completed=0, succeeded=0, failed=0))
        blob = field.results.download_blob(f"{Layout(field.harvest_id).root}/control/budget.json")
        seen.append(json.loads(blob.readall())["running"])
    assert seen == [4, 4, 6, 6, 6, 4, 2, 2]


def test_progress_tells_what_the_tasks_wrote(field: Field, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    monkeypatch.setattr(progress, "get_run_logger", lambda: SimpleNamespace(info=said.append))
    folder = f"{Layout(field.harvest_id).root}/control/progress"
    field.upload(f"{folder}/a.json", '{"pages": 2, "items": 1500}')
    field.upload(f"{folder}/b.json", '{"pages": 1, "items": 3}')
    told, counts = field.progress, BatchTaskCounts(running=2, active=1, completed=5, succeeded=5, failed=0)
    flow(lambda: [told.look(counts) for _ in range(2)], name="watch")()
    assert said == ["5 tasks are done, 2 running, 1 waiting; 1,503 items on 3 pages"]
    of_this = ArtifactFilterKey(any_=[f"harvest-{field.harvest_id.rpartition('-')[2]}-progress"])
    with get_client(sync_client=True) as client:
        (bar,) = client.read_artifacts(artifact_filter=ArtifactFilter(key=of_this))
    assert (bar.type, bar.data, bar.description) == ("progress", 62.5, said[0])


def archived(output: Path, name: str) -> list[str]:
    """Ids in the archive of a collection."""
    lines = [
        line
        for file in output.rglob(f"items/{name}/*.ndjson.zst")
        for line in zstandard.ZstdDecompressor().stream_reader(file.read_bytes()).read().splitlines()
    ]
    return [json.loads(line)["id"] for line in lines]


def test_every_item_of_the_catalog_is_archived_once_over_several_rounds(field: Field, tmp_path: Path) -> None:
    upload_script(field)
    whole = plan(*DEMO, query={"page_size": 25}, parallel=4, page_quota=2)
    receipts = field.rounds(whole)
    found = field.settle(whole, receipts)
    assert found.complete
    assert found.verified
    assert sum(receipt.remainder is not None for receipt in receipts) > 0
    assert {name: totals.items for name, totals in found.collections.items()} == dict(zip(DEMO, SHARES, strict=True))
    field.upload(Layout(field.harvest_id).manifest, found.model_dump_json())
    archive.download.fn(field.azure, field.environment, field.harvest_id, whole.counted(receipts), tmp_path)
    for name, share in zip(DEMO, SHARES, strict=True):
        ids = archived(tmp_path, name)
        assert len(ids) == len(set(ids)) == share
        hashes = (int.from_bytes(hashlib.sha256(each.encode()).digest()) for each in ids)
        assert total(part for part in receipts if part.collection == name).ids_hash == sum(hashes) % 2**256


def test_at_most_so_many_items_are_harvested(field: Field) -> None:
    upload_script(field)
    whole = plan(*DEMO, query={"page_size": 25}, max_items=200)
    found = field.settle(whole, field.rounds(whole))
    assert found.complete
    assert [found.collections[name].items for name in DEMO] == [180, 20, 0]


@pytest.mark.parametrize(
    "cql2", ["gsd < 1", '{"op": "<", "args": [{"property": "gsd"}, 1]}'], ids=["cql2-text", "cql2-json"]
)
def test_a_filtered_harvest_is_proven_as_well(field: Field, cql2: str) -> None:
    upload_script(field)
    whole = plan(*DEMO, query={"filter": cql2, "datetime": "2022-01-01/.."})
    found = field.settle(whole, field.rounds(whole))
    assert found.complete
    assert found.verified
    assert 0 < found.collections["aerial-strips"].items < 90
    assert found.collections["optical-scenes"].items == found.collections["monthly-composites"].items == 0
