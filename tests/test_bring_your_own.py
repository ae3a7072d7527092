"""What is there already, and is not ours, is used as it is; so are grants that the operator may not make."""

import shlex
from typing import Any

import pytest
from azure.mgmt.resource.resources.models import ResourceGroup
from flow_runs import Site, assign
from operators import application

from spatiobatch.changes import Change
from spatiobatch.errors import ForeignResourceError, MissingGrantError

CONTRIBUTOR = "b24988ac-6180-42a0-ab88-20f7382dd24c"
NOT_OURS = "not ours, used as it is"


def contributor(site: Site) -> tuple[Site, str]:
    """The same stand-in for an application that may change all but roles, and its object id."""
    operator = application(site, f"operator of {site.settings['resource_group']}")
    assign(site, CONTRIBUTOR, operator.object_id, f"/subscriptions/{site.azure.settings.subscription_id}")
    return site.as_(**operator.variables), operator.object_id


def run_az(site: Site, command: str) -> None:
    """Carry out an `az role assignment create`, as somebody who may."""
    program, words = shlex.split(command)[:4], shlex.split(command)[4:]
    assert program == ["az", "role", "assignment", "create"]
    options = dict(zip(words[::2], words[1::2], strict=True))
    assert options["--assignee-principal-type"] == "ServicePrincipal"
    assign(site, options["--role"], options["--assignee-object-id"], options["--scope"])


def make_group(site: Site) -> str:
    group = site.settings["resource_group"]
    site.azure.resources.resource_groups.create_or_update(group, ResourceGroup(location="westeurope", tags={"a": "b"}))
    return group


def make_storage(site: Site) -> None:
    azure, group = site.azure, make_group(site)
    body = {
        "location": "westeurope",
        "kind": "StorageV2",
        "sku": {"name": "Standard_GRS"},
        "properties": {"minimumTlsVersion": "TLS1_0", "allowSharedKeyAccess": True},
    }
    azure.storage.storage_accounts.begin_create(group, azure.settings.storage_account_name, body).result()


def make_batch(site: Site) -> None:
    azure, group = site.azure, make_group(site)
    body = {"location": "westeurope", "properties": {"allowedAuthenticationModes": ["AAD", "SharedKey"]}}
    azure.batch_management.batch_account.begin_create(group, azure.settings.batch_account_name, body).result()


def make_identity(site: Site) -> None:
    azure, group = site.azure, make_group(site)
    azure.identities.user_assigned_identities.create_or_update(
        group, azure.settings.identity, {"location": "westeurope"}
    )


def make_pool(site: Site, **properties: Any) -> Any:
    """A pool beside ours, of the same image and identity, as its owner made it."""
    azure = site.azure
    where = (azure.settings.resource_group, azure.settings.batch_account_name)
    ours = azure.batch_management.pool.get(*where, "spatiobatch")
    identities = ours.identity.user_assigned_identities
    body = {
        "identity": {
            "type": "UserAssigned",
            "userAssignedIdentities": {name: {} for name in identities},
        },
        "properties": {
            "vmSize": "Standard_D2s_v3",
            "deploymentConfiguration": ours.properties.deployment_configuration.as_dict(),
            "scaleSettings": {"fixedScale": {"targetDedicatedNodes": 1}},
            "startTask": ours.properties.start_task.as_dict(),
            **properties,
        },
    }
    if not body["properties"].pop("with_identity", True):
        del body["identity"]
    return azure.batch_management.pool.create(*where, "theirs", body)


def test_resource_group_of_somebody_else_is_used_and_not_changed(site: Site) -> None:
    group = make_group(site)
    (change,) = [change for change in site.provision() if change.kind == "resource group"]
    assert str(change) == f"unchanged  resource group     {group}  ({NOT_OURS})"
    assert site.azure.resources.resource_groups.get(group).tags == {"a": "b"}


@pytest.mark.parametrize(
    ("make", "kind", "path"),
    [
        (make_storage, "storage account", "/storageAccounts/{storage}?"),
        (make_batch, "Batch account", "/batchAccounts/{batch}?"),
        (make_identity, "identity", "/userAssignedIdentities/{identity}?"),
    ],
    ids=["storage", "batch", "identity"],
)
def test_resource_of_somebody_else_is_used_and_not_changed(site: Site, make: Any, kind: str, path: str) -> None:
    make(site)
    settings = site.azure.settings
    asked = site.now
    changes = {change.kind: change for change in site.provision()}
    assert (changes[kind].changed, changes[kind].detail) == (False, NOT_OURS)
    address = path.format(
        storage=settings.storage_account_name, batch=settings.batch_account_name, identity=settings.identity
    )
    assert not [line for line in site.writes(since=asked) if address in line]


def test_batch_account_of_somebody_else_that_takes_keys_only_is_one_sentence(site: Site) -> None:
    make_batch(site)
    azure = site.azure
    where = (azure.settings.resource_group, azure.settings.batch_account_name)
    azure.batch_management.batch_account.update(*where, {"properties": {"allowedAuthenticationModes": ["SharedKey"]}})
    with pytest.raises(ForeignResourceError, match="does not take Entra tokens: add AAD to its allowed authentication"):
        site.provision()


@pytest.fixture(scope="module")
def built(shared_site: Site) -> Site:
    site = shared_site.with_(resource_group="own-pools")
    site.provision()
    return site


def test_pool_of_somebody_else_is_used_and_not_changed(built: Site) -> None:
    make_pool(built)
    asked = built.now
    site = built.with_(pool="theirs", pool_vm_size="Standard_D64s_v3", pool_nodes="100")  # no quota is asked for these
    (change,) = [change for change in site.provision() if change.kind == "pool"]
    assert (change.changed, change.detail) == (False, NOT_OURS)
    assert not [line for line in built.writes(since=asked) if "/pools/theirs" in line]
    assert len(site.harvest().collections) > 0


def test_pool_of_somebody_else_without_the_identity_is_one_sentence(built: Site) -> None:
    site = built.with_(pool="theirs", resource_group="own-pools-2")
    site.with_(pool="spatiobatch").provision()
    make_pool(site, with_identity=False)
    with pytest.raises(ForeignResourceError, match=r"does not have the identity .*: create it with that identity, or"):
        site.provision()


def granted(changes: list[Change]) -> set[bool]:
    return {change.changed for change in changes if change.kind == "role assignment"}


def test_operator_who_may_not_assign_roles_gets_every_command_to_hand_on_and_then_succeeds(site: Site) -> None:
    operator, _ = contributor(site)
    with pytest.raises(MissingGrantError, match="Ask somebody who may assign roles to run:\naz role") as caught:
        operator.provision()
    assert len(caught.value.commands) == 6
    for command in caught.value.commands.values():
        run_az(site, command)
    assert granted(operator.provision()) == {False}
    assert operator.harvest().manifest.complete


def test_one_grant_that_is_missing_is_the_only_one_named(site: Site) -> None:
    operator, object_id = contributor(site)
    site.provision()
    settings = site.azure.settings
    assign(site, "Storage Blob Data Contributor", object_id, settings.arm_id())
    with pytest.raises(MissingGrantError) as caught:
        operator.provision()
    account = settings.arm_id("Microsoft.Batch/batchAccounts", settings.batch_account_name)
    assert list(caught.value.commands.values()) == [
        f'az role assignment create --role "Azure Batch Data Contributor" --assignee-object-id {object_id} '
        f"--assignee-principal-type ServicePrincipal --scope {account}"
    ]
