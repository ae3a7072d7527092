"""What a harvest brings, and where it leaves it."""

import json
import re
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from catalogs import catalog_folder, collection, without_links
from flow_runs import Site, running_site
from operators import application, grant

from spatiobatch.errors import IncompleteHarvestError, UnknownCollectionError
from spatiobatch.manifest import Layout
from spatiobatch.query import Query, Runtime
from tasks.environment import read_environment

COUNT = 25


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory, prefect_server: None) -> Iterator[Site]:
    """An environment before a catalog of more collections than a page holds."""
    folder = tmp_path_factory.mktemp("site")
    catalog = catalog_folder(folder / "catalog", COUNT)
    with running_site(folder, "--catalog", str(catalog), "--clock", "instant", resource_group="harvests") as site:
        site.provision()
        yield site


@pytest.fixture
def since(built: Site) -> int:
    """How many requests were recorded before the test."""
    return len(built.requests())


def job_of(harvest: Any) -> str:
    return f"harvest-{harvest.manifest.harvest_id}-1"


def archived(built: Site, harvest: Any) -> dict[str, bytes]:
    """The harvest's blobs by name."""
    account, container = urlsplit(harvest.archive).path.split("/")[1:3]
    endpoint = f"{built.variables['LOCAL_AZURE_BLOB_URL']}/{account}"
    with built.environment():
        blobs = built.azure.blobs(endpoint).get_container_client(container)
        names = [blob.name for blob in blobs.list_blobs(name_starts_with=Layout(harvest.manifest.harvest_id).root)]
        return {name: blobs.download_blob(name).readall() for name in names}


@pytest.mark.parametrize("runtime", list(Runtime))
def test_collections_are_kept_as_served(built: Site, runtime: Runtime) -> None:
    harvest = built.harvest(Query(), runtime)
    assert without_links(harvest.collections) == without_links([collection(number) for number in range(COUNT)])


def test_output_folder_and_results_container_hold_the_same_archive(built: Site, tmp_path: Path) -> None:
    harvest = built.harvest(output=tmp_path / "new" / "folder")
    written = {
        str(path.relative_to(tmp_path / "new" / "folder")): path.read_bytes()
        for path in tmp_path.rglob("*")
        if path.is_file()
    }
    root = f"harvests/{harvest.manifest.harvest_id}"
    names = ("collections.json", "logs/collections/stderr.txt", "logs/collections/stdout.txt", "manifest.json")
    assert sorted(written) == [f"{root}/{name}" for name in names]
    assert written == archived(built, harvest)
    assert json.loads(written[f"{root}/collections.json"]) == {"collections": harvest.collections}
    assert json.loads(written[f"{root}/manifest.json"]) == harvest.manifest.model_dump(mode="json")
    assert harvest.output == tmp_path / "new" / "folder" / root / "manifest.json"


def test_only_the_collections_that_are_asked_for_are_kept(built: Site) -> None:
    harvest = built.harvest(Query(collections=("collection-0021", "collection-0003")))
    assert [each["id"] for each in harvest.collections] == ["collection-0003", "collection-0021"]
    assert list(harvest.manifest.collections) == ["collection-0003", "collection-0021"]


def test_unknown_collection_is_named_with_those_that_there_are(built: Site, tmp_path: Path) -> None:
    with pytest.raises(
        UnknownCollectionError, match=r"no collection nowhere; it has collection-0000, .* and 5 more\.$"
    ):
        built.harvest(Query(collections=("nowhere",)), output=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_script_reaches_the_node_without_any_sas(built: Site, since: int) -> None:
    harvest = built.harvest()
    calls = built.requests()[since:]
    traffic = json.dumps(calls)
    assert re.findall(r"sig=|userdelegationkey", traffic) == []
    (script,) = resource_files(calls)
    assert script["identityReference"]["resourceId"].endswith("/spatiobatch-nodes")
    assert not [name for name, content in archived(built, harvest).items() if b"sig=" in content]


def test_sas_reads_the_script_and_nothing_else_for_thirty_minutes(built: Site, since: int) -> None:
    built.with_(script_access="sas").harvest()
    (script,) = resource_files(built.requests()[since:])
    assert script.get("identityReference") is None
    address = urlsplit(script["httpUrl"])
    sas = {name: values[0] for name, values in parse_qs(address.query).items()}
    assert re.fullmatch(r"/\w+/scripts/list_collections-[0-9a-f]{16}\.py", address.path)
    assert (sas["sp"], sas["sr"], sas["sig"]) == ("r", "b", "REDACTED")
    assert "skoid" in sas
    started = min(datetime.fromisoformat(call["time"]) for call in built.requests()[since:])
    assert datetime.fromisoformat(sas["se"]) - started <= timedelta(minutes=30, seconds=10)


def resource_files(calls: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The resource files of the tasks that were added."""
    bodies = [call["request_body"] for call in calls if call["url"].split("?")[0].endswith("/addtaskcollection")]
    return [file for body in bodies for added in body["value"] for file in added["resourceFiles"]]


def test_job_is_deleted_when_the_harvest_is_over(built: Site) -> None:
    harvest = built.harvest()
    assert job_of(harvest) not in jobs(built)


def test_job_is_terminated_where_settings_say_so(built: Site) -> None:
    harvest = built.with_(job_end="terminate").harvest()
    assert jobs(built)[job_of(harvest)] in ("terminating", "completed")


def jobs(built: Site) -> dict[str, str]:
    """State of every job that is not being deleted."""
    with built.environment():
        azure = built.azure
        batch = azure.batch(read_environment.fn(azure).batch_endpoint)
        return {job.id: job.state.value for job in batch.list_jobs() if job.state != "deleting"}


def test_manifest_tells_when_what_and_how(built: Site) -> None:
    manifest = built.harvest().manifest
    assert manifest.schema_version == "1.0"
    assert re.fullmatch(r"\d{8}T\d{6}Z-[0-9a-f]{12}", manifest.harvest_id)
    assert manifest.complete
    assert len(manifest.collections) == COUNT
    assert manifest.started < manifest.finished
    assert set(manifest.versions) == {"spatiobatch", "prefect", "azure-batch"}
    assert 0 < manifest.cost.node_seconds < 60


@pytest.mark.parametrize("script_access", ["identity", "sas"])
def test_operator_with_two_data_roles_and_no_reader_can_harvest(built: Site, script_access: str) -> None:
    operator = application(built, f"harvester-{script_access}")
    grant(built, operator, "Azure Batch Data Contributor", "batchAccounts")
    grant(built, operator, "Storage Blob Data Contributor", "storageAccounts")
    harvest = built.with_(script_access=script_access).as_(**operator.variables).harvest()
    assert len(harvest.collections) == COUNT


def test_collections_that_can_be_read_are_kept_without_those_that_cannot(prefect_server: None, tmp_path: Path) -> None:
    folder = catalog_folder(tmp_path / "catalog", 1)
    good, old = json.dumps(collection(0)), {"id": "old", "stac_version": "0.9.0", "description": "d", "links": []}
    exact = good[:-1] + ', "example:limit": 1E400, "example:whole": 12345678901234567890123}'
    (folder / "collections.ndjson").write_text(f"{exact}\n{json.dumps(old)}\n")
    with running_site(tmp_path, "--catalog", str(folder), "--clock", "instant", resource_group="unreadable") as site:
        site.provision()
        with pytest.raises(IncompleteHarvestError, match=r"could not be read and are left out: old \(type: Field req"):
            site.harvest(output=tmp_path / "all")
        harvest = site.harvest(Query(collections=("collection-0000",)))
    (file,) = (tmp_path / "all").rglob("manifest.json")
    manifest = json.loads(file.read_text())
    assert (manifest["complete"], manifest["unreadable_collections"]) == (False, {"old": "type: Field required"})
    assert list(manifest["collections"]) == ["collection-0000"]
    kept = (file.parent / "collections.json").read_text()
    assert '"example:limit":1E400,"example:whole":12345678901234567890123}' in kept.replace(" ", "")
    assert (harvest.manifest.complete, harvest.manifest.unreadable_collections) == (True, {})
