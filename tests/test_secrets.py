"""No secret is left anywhere after runs in which every kind of secret was in play, one of which failed."""

import json
import re
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from datetime import datetime, timedelta
from io import StringIO
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from azure.storage.blob import BlobServiceClient
from flow_runs import Site, running_site
from operators import application, grant
from prefect.settings import PREFECT_HOME, PREFECT_SERVER_DATABASE_CONNECTION_URL
from secrets_search import Secrets, batch_documents, logged_in_full, rows_of, texts_below
from test_bring_your_own import make_storage

from flows.console import guarded, without_secrets
from spatiobatch.errors import SpatiobatchError, TaskFailedError
from spatiobatch.query import Query, query_from
from tasks.environment import read_environment

ASSETS = {"image": {"href": "https://scenes.blob.core.windows.net/c/a.tif"}}
COLLECTION: dict[str, Any] = {
    "type": "Collection",
    "stac_version": "1.0.0",
    "id": "c",
    "description": "…",
    "license": "other",
    "links": [],
    "extent": {"spatial": {"bbox": [[-180, -90, 180, 90]]}, "temporal": {"interval": [["2024-01-01T00:00:00Z", None]]}},
    "assets": ASSETS,
}
ITEM = {"type": "Feature", "stac_version": "1.0.0", "collection": "c", "geometry": None, "assets": ASSETS, "links": []}
PLACES = (
    "Prefect's database",
    "Prefect's home",
    "logs",
    "console",
    "traceback",
    "containers",
    "output",
    "nodes",
    "record",
)


@dataclass(frozen=True)
class Story:
    """What the runs left, by place; the secrets that were in play; what Batch was told."""

    places: dict[str, list[tuple[str, str]]]
    secrets: Secrets
    batch: list[tuple[str, str]]


def write_catalog(folder: Path) -> Path:
    folder.mkdir()
    (folder / "collections.ndjson").write_text(json.dumps(COLLECTION) + "\n")
    items = [{**ITEM, "id": f"i{day}", "properties": {"datetime": f"2024-02-{day}T00:00:00Z"}} for day in range(10, 30)]
    (folder / "c.ndjson").write_text("".join(json.dumps(item) + "\n" for item in items))
    return folder


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory, prefect_server: None) -> Iterator[Story]:
    """Provision on a storage account with keys; harvest by a client secret and SAS; the last harvest fails."""
    folder = tmp_path_factory.mktemp("secrets")
    denied = "service=blob,method=GET,path=/scripts/list_collections,after=1,times=3,status=403"
    flags = ("--clock", "instant", "--catalog", str(write_catalog(folder / "catalog")), "--fault", denied)
    with running_site(folder, *flags, resource_group="secrets", job_end="terminate") as site:
        make_storage(site)
        site.provision()
        harvester = signed_in_by_secret(site)
        said = StringIO()
        with redirect_stdout(said), redirect_stderr(said), logged_in_full(folder / "debug.log"):
            harvester.harvest(query_from(content="items"), output=folder / "output")
            assert guarded(lambda: harvester.harvest(Query()), folder / "home") == 1
            assert guarded(lambda: {}[" ".join(signed_addresses(harvester))], folder / "home") == 1
        batch = batch_documents(site)
        secrets = in_play(harvester)
        secrets.values["account key"] = use_account_key(site)
        yield Story(places(site, folder, said.getvalue()), secrets, batch)


def signed_in_by_secret(site: Site) -> Site:
    """The site for an application with the roles of who harvests, by SAS."""
    operator = application(site, "harvester")
    grant(site, operator, "Azure Batch Data Contributor", "batchAccounts")
    grant(site, operator, "Storage Blob Data Contributor", "storageAccounts")
    return site.with_(script_access="sas").as_(**operator.variables)


def signed_addresses(site: Site) -> list[str]:
    """The addresses with a SAS that Batch was given."""
    return sorted(set(re.findall(r'https://[^"]*sig=[^"]*', " ".join(text for _, text in batch_documents(site)))))


def use_account_key(site: Site) -> str:
    """One call with the account's key, which its owner left on."""
    settings = site.azure.settings
    keys = site.azure.storage.storage_accounts.list_keys(settings.resource_group, settings.storage_account_name)
    key = str(keys.keys_property[0].value)
    with BlobServiceClient(blobs(site).url, key, connection_verify=site.variables["REQUESTS_CA_BUNDLE"]) as service:
        service.get_blob_client(settings.results_container, "by-key").upload_blob(b"")
    return key


def blobs(site: Site) -> BlobServiceClient:
    """The storage that the site harvests into."""
    with site.environment():
        return site.azure.blobs(read_environment.fn(site.azure).blob_endpoint)


def downloaded(site: Site, folder: Path) -> Path:
    """Every blob as a file, scripts and results."""
    for container in (site.azure.settings.scripts_container, site.azure.settings.results_container):
        client = blobs(site).get_container_client(container)
        for name in client.list_blob_names():
            file = folder / container / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(client.download_blob(name).readall())
    return folder


def in_play(site: Site) -> Secrets:
    """The values of what the runs were signed in, and signed, with."""
    azure = site.azure
    scopes = (azure.cloud.arm_scope, azure.cloud.batch_scope, azure.cloud.storage_scope)
    secrets = {f"token for {scope}": azure.credential.get_token(scope).token for scope in scopes}
    secrets["client secret"] = site.variables["AZURE_CLIENT_SECRET"]
    service = blobs(site)
    for number, address in enumerate(signed_addresses(site)):
        sas = {name: values[0] for name, values in parse_qs(urlsplit(address).query).items()}
        began, ends = (datetime.fromisoformat(sas[name]) for name in ("skt", "ske"))
        secrets[f"SAS {number}"] = sas["sig"]
        secrets[f"delegation key {number}"] = str(service.get_user_delegation_key(began, ends).value)
    return Secrets(secrets)


def places(site: Site, folder: Path, console: str) -> dict[str, list[tuple[str, str]]]:
    """Whatever the runs wrote, as text."""
    database = Path(str(PREFECT_SERVER_DATABASE_CONNECTION_URL.value()).partition("///")[2])
    return {
        "Prefect's database": rows_of(database),
        "Prefect's home": [("home", ""), *texts_below(PREFECT_HOME.value())],
        "logs": texts_below(folder, "*.log"),
        "console": [("console", console)],
        "traceback": texts_below(folder / "home"),
        "containers": texts_below(downloaded(site, folder / "containers")),
        "output": texts_below(folder / "output"),
        "nodes": texts_below(folder / "state" / "nodes"),
        "record": [("record", site.record.read_text())],
    }


@pytest.mark.parametrize("place", PLACES)
def test_no_secret_is_left_in(story: Story, place: str) -> None:
    texts = story.places[place]
    assert any(texts)
    assert story.secrets.found_in(texts) == []


def test_every_place_holds_what_it_should_or_the_search_would_prove_nothing(story: Story) -> None:
    held = {place: " ".join(text for _, text in texts) for place, texts in story.places.items()}
    assert {"artifact", "flow_run", "log"} <= {table for table, _ in story.places["Prefect's database"]}
    logs = " ".join(text for table, text in story.places["Prefect's database"] if table == "log")
    assert all(name in texts for name in ("azure.core", "urllib3") for texts in (held["logs"], logs))
    assert "BlobAccessDenied" in held["console"]
    assert "KeyError" in held["traceback"]
    assert all(ASSETS["image"]["href"] in held[place] for place in ("containers", "output"))
    assert "harvest_items" in held["nodes"]
    assert "sig=REDACTED" in held["record"]


def test_every_kind_of_secret_was_in_play(story: Story) -> None:
    kinds = {kind.rstrip(" 0123456789").split(" for ")[0] for kind in story.secrets.values}
    assert kinds == {"token", "client secret", "SAS", "delegation key", "account key"}


def test_a_signature_is_in_nothing_that_batch_knows_but_in_the_address_of_a_script(story: Story) -> None:
    tasks = {name: json.loads(text) for name, text in story.batch if name.startswith("BatchTask")}
    addresses = [file.pop("httpUrl") for task in tasks.values() for file in task.get("resourceFiles", [])]
    signed = [parse_qs(urlsplit(address).query) for address in addresses if "sig=" in address]
    assert len(signed) >= 3
    assert {(sas["sp"][0], sas["sr"][0]) for sas in signed} == {("r", "b")}
    others = [(name, text) for name, text in story.batch if name not in tasks]
    assert story.secrets.found_in([*others, *((name, json.dumps(task)) for name, task in tasks.items())]) == []


def test_a_script_address_opens_for_half_an_hour_at_most(story: Story) -> None:
    for name, text in story.batch:
        for address in re.findall(r'https://[^"]*sig=[^"]*', text):
            (expiry,) = parse_qs(urlsplit(address).query)["se"]
            created = datetime.fromisoformat(json.loads(text)["creationTime"])
            assert datetime.fromisoformat(expiry) - created <= timedelta(minutes=30), name


@pytest.mark.parametrize("form", ["{}", "Bearer {}", "https://x/?sv=1&sig={}&se=2"])
def test_the_search_finds_each_secret_in_each_form(story: Story, form: str) -> None:
    for kind, value in story.secrets.values.items():
        assert any(found.startswith(kind) for found in story.secrets.found_in([("here", form.format(value))]))


LEAKS = {
    "https://a.blob.core.windows.net/c/b?sv=2024-11-04&sig=Zm9v%2Bbar%3D&sp=r": "Zm9v",
    "Authorization: Bearer eyJhbGciOiJSUzI1NiIsInR5cCI6IkpXVCJ9.eyJhdWQiOiJ4In0.c2ln-bmF_dHVyZQ": "eyJhbG",
    "DefaultEndpointsProtocol=https;AccountName=a;AccountKey=Zm9vYmFy/+==;EndpointSuffix=x": "Zm9v",
    "grant_type=client_credentials&client_secret=Zm9v~bar.baz&scope=x": "Zm9v",
}


@pytest.mark.parametrize(("text", "secret"), LEAKS.items())
def test_no_error_of_ours_carries_what_it_was_told_in_confidence(text: str, secret: str) -> None:
    for error in (SpatiobatchError(text), TaskFailedError("job", "task", f"failed: HttpUrl: {text}", "node", text)):
        assert secret not in f"{error!r} {error}"
        assert without_secrets(text).split("(secret)")[0] in str(error)


@pytest.mark.parametrize(("text", "secret"), LEAKS.items())
def test_no_traceback_file_carries_a_secret(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], text: str, secret: str
) -> None:
    assert guarded(lambda: {}[text], tmp_path) == 1
    assert secret not in capfd.readouterr().err + (tmp_path / "fault.txt").read_text()
