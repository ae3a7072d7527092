"""Nobody holds more than he needs: the nodes' identity, and the operator who harvests."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from azure.batch import BatchClient
from azure.core.credentials import AzureNamedKeyCredential
from azure.core.exceptions import HttpResponseError
from azure.storage.blob import BlobServiceClient
from catalogs import archived
from flow_runs import Site, assign, running_site
from operators import application

from flows.sweep import sweep
from spatiobatch.errors import HarvestError, MissingGrantError
from spatiobatch.manifest import Latest
from spatiobatch.query import Query, query_from
from tasks.archive import read_latest
from tasks.environment import read_environment
from tasks.probe import probe
from tasks.roles import ROLES

_ITEMS = 30
_HARVESTERS = {
    "Batch Data Contributor": ("6aaa78f1-f7de-44ca-8722-c64a23943cae",),
    "Job Submitter and Account Reader": (
        "48e5e92e-a480-4e71-aa9c-2778f4c13781",
        "11076f67-66f6-4be0-8f6b-f0609fd05cc9",
    ),
}
_ROLE_NAMES = {role_id: name for name, role_id in ROLES.items()}


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory, prefect_server: None) -> Iterator[Site]:
    """An environment before a small catalog."""
    flags = ("--demo-items", str(_ITEMS), "--clock", "instant")
    with running_site(tmp_path_factory.mktemp("site"), *flags, resource_group="least") as site:
        site.provision()
        yield site


def container_id(site: Site, name: str) -> str:
    settings = site.azure.settings
    account = settings.arm_id("Microsoft.Storage/storageAccounts", settings.storage_account_name)
    return f"{account}/blobServices/default/containers/{name}"


def nodes(site: Site) -> str:
    """Object id of the nodes' identity."""
    settings = site.azure.settings
    found = site.azure.identities.user_assigned_identities.get(settings.resource_group, settings.identity)
    return str(found.principal_id)


def assignments(site: Site, principal_id: str) -> list[Any]:
    """All role assignments of somebody, wherever they are."""
    every = site.azure.authorization.role_assignments.list_for_subscription(filter=f"assignedTo('{principal_id}')")
    return list(every)


def roles_of(site: Site, principal_id: str) -> dict[tuple[str, str], str]:
    """Names of assignments by role and scope."""
    listed = assignments(site, principal_id)
    return {(_ROLE_NAMES[found.role_definition_id.rsplit("/", 1)[-1]], found.scope): found.name for found in listed}


def test_the_nodes_hold_three_roles_and_no_more(built: Site) -> None:
    assert set(roles_of(built, nodes(built))) == {
        ("GeoCatalog Reader", built.azure.settings.geocatalog_id),
        ("Storage Blob Data Contributor", container_id(built, "results")),
        ("Storage Blob Data Reader", container_id(built, "scripts")),
    }


@pytest.mark.parametrize(
    ("role", "said"),
    [
        ("GeoCatalog Reader", "GeoCatalog Reader"),
        ("Storage Blob Data Reader", "BlobAccessDenied"),
        ("Storage Blob Data Contributor", "FileUploadAccessDenied"),
    ],
)
def test_without_any_of_them_nothing_runs_and_the_sentence_names_it(built: Site, role: str, said: str) -> None:
    held = roles_of(built, nodes(built))
    scope = next(scope for name, scope in held if name == role)
    built.azure.authorization.role_assignments.delete(scope, held[role, scope])
    try:
        with pytest.raises(HarvestError, match=said):
            built.harvest(Query())
        with pytest.raises(MissingGrantError, match=f"{role} of {nodes(built)} on {scope}"):
            _probe(built)
    finally:
        assign(built, role, nodes(built), scope)


def _probe(site: Site) -> None:
    """The probe of the nodes' grants by itself, without provisioning that would make them again."""
    with site.with_(grant_timeout_minutes="0.01").environment():
        azure = site.with_(grant_timeout_minutes="0.01").azure
        probe(azure, read_environment.fn(azure), nodes(site))


def test_shared_keys_are_off_and_refused(built: Site) -> None:
    azure = built.azure
    group, settings = azure.settings.resource_group, azure.settings
    storage = azure.storage.storage_accounts.get_properties(group, settings.storage_account_name)
    batch = azure.batch_management.batch_account.get(group, settings.batch_account_name)
    assert storage.properties.allow_shared_key_access is False
    assert [str(mode.value) for mode in batch.properties.allowed_authentication_modes] == ["AAD"]
    key = azure.storage.storage_accounts.list_keys(group, settings.storage_account_name).keys_property[0].value
    with built.environment(), pytest.raises(HttpResponseError, match="Key based authentication is not permitted"):
        list(BlobServiceClient(storage.properties.primary_endpoints.blob, key).list_containers())
    credential = AzureNamedKeyCredential(settings.batch_account_name, "d3Jvbmc=")
    with (
        built.environment(),
        BatchClient(f"https://{batch.properties.account_endpoint}", credential) as client,
        pytest.raises(HttpResponseError, match="SharedKey is not allowed"),
    ):
        list(client.list_jobs())


@pytest.mark.parametrize("kind", _HARVESTERS)
def test_whoever_may_only_harvest_harvests_everything(built: Site, tmp_path: Path, kind: str) -> None:
    operator = application(built, kind)
    settings = built.azure.settings
    account = settings.arm_id("Microsoft.Batch/batchAccounts", settings.batch_account_name)
    for role in _HARVESTERS[kind]:
        assign(built, role, operator.object_id, account)
    assign(built, "Storage Blob Data Contributor", operator.object_id, container_id(built, "results"))
    assert len(assignments(built, operator.object_id)) == len(_HARVESTERS[kind]) + 1
    site = built.as_(**operator.variables)
    assert len(site.harvest(Query()).collections) > 0
    harvest = site.harvest(query_from(content="items"), output=tmp_path)
    assert harvest.manifest.complete
    assert len(archived(tmp_path)) == _ITEMS
    assert list(tmp_path.glob("harvests/*/parquet/*/*.parquet"))
    assert latest(site)[harvest.manifest.query.hash].full == harvest.manifest.harvest_id
    assert swept(site) == []


def latest(site: Site) -> dict[str, Latest]:
    with site.environment():
        environment = read_environment.fn(site.azure)
        return read_latest(site.azure.blobs(environment.blob_endpoint).get_container_client("results"))


def swept(site: Site) -> list[str]:
    with site.environment():
        return sweep()
