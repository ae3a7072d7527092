"""Teardown removes what provisioning made, and nothing else."""

from collections.abc import Callable
from typing import Any

import pytest
from azure.core.exceptions import ResourceNotFoundError
from azure.mgmt.resource.resources.models import ResourceGroup
from flow_runs import Site

from spatiobatch.errors import ConfigurationError
from spatiobatch.names import MANAGED_BY


def resources(site: Site) -> set[str]:
    """Types of what is in the resource group."""
    azure = site.azure
    return {
        str(resource.type).rsplit("/", 1)[-1]
        for resource in azure.resources.resources.list_by_resource_group(azure.settings.resource_group)
    }


def assignments(site: Site) -> list[str]:
    """Scopes of the role assignments that are ours: in the resource group, and on the GeoCatalog."""
    listed = site.azure.authorization.role_assignments.list_for_subscription()
    scopes = [str(found.scope) for found in listed if found.description == f"Made by {MANAGED_BY}"]
    here = (site.azure.settings.arm_id() + "/", site.azure.settings.geocatalog_id)
    return [scope for scope in scopes if scope.startswith(here)]


def is_gone(read: Callable[..., Any], *name: str) -> bool:
    try:
        read(*name)
    except ResourceNotFoundError:
        return True
    return False


@pytest.fixture(scope="module")
def kept(shared_site: Site) -> Site:
    """An environment that was torn down but for its results."""
    site = shared_site.with_(resource_group="kept")
    site.provision()
    site.teardown()
    return site


def test_teardown_removes_all_but_the_results(kept: Site) -> None:
    azure = kept.azure
    where = (azure.settings.resource_group, azure.settings.storage_account_name)
    assert resources(kept) == {"storageAccounts"}
    assert is_gone(azure.storage.blob_containers.get, *where, "scripts")
    assert not is_gone(azure.storage.blob_containers.get, *where, "results")


def test_kept_results_can_be_read_by_the_operator_and_no_other_role_is_left(kept: Site) -> None:
    azure = kept.azure
    account = azure.storage.storage_accounts.get_properties(
        azure.settings.resource_group, azure.settings.storage_account_name
    )
    container = azure.blobs(account.properties.primary_endpoints.blob).get_container_client("results")
    assert any(name.startswith("probe/") for name in container.list_blob_names())
    assert assignments(kept) == [azure.settings.arm_id("Microsoft.Storage/storageAccounts", account.name)]


def test_results_that_were_kept_can_be_deleted_later(kept: Site) -> None:
    removed = kept.teardown(delete_results=True)
    assert [name.split()[0] for name in removed] == ["Storage", "storage", "resource"]
    assert assignments(kept) == []


def test_teardown_with_the_results_leaves_nothing_and_a_second_one_is_calm(site: Site) -> None:
    site.provision()
    assert site.teardown(delete_results=True)[-1] == f"resource group {site.settings['resource_group']}"
    assert is_gone(site.azure.resources.resource_groups.get, site.settings["resource_group"])
    assert assignments(site) == []
    assert site.teardown(delete_results=True) == []


def test_wrong_confirmation_is_refused_before_anything_is_asked(site: Site) -> None:
    asked = site.now
    with pytest.raises(ConfigurationError, match=r"'something-else' was confirmed: confirm the resource group's name"):
        site.teardown("something-else")
    assert site.requests(since=asked) == []


def test_resource_group_of_somebody_else_stays(site: Site) -> None:
    group = site.settings["resource_group"]
    site.azure.resources.resource_groups.create_or_update(group, ResourceGroup(location="uksouth"))
    site.provision()
    site.teardown(delete_results=True)
    assert not is_gone(site.azure.resources.resource_groups.get, group)
    assert resources(site) == set()


def test_resource_group_stays_while_it_holds_something_of_somebody_else(site: Site) -> None:
    site.provision()
    group = site.settings["resource_group"]
    site.azure.identities.user_assigned_identities.create_or_update(group, "theirs", {"location": "uksouth"})
    removed = site.teardown(delete_results=True)
    assert f"resource group {group}" not in removed
    assert resources(site) == {"userAssignedIdentities"}


def test_batch_account_stays_while_it_holds_a_pool_of_somebody_else(site: Site) -> None:
    site.provision()
    azure = site.azure
    where = (azure.settings.resource_group, azure.settings.batch_account_name)
    pool = azure.batch_management.pool.get(*where, "spatiobatch")
    machine = {"deploymentConfiguration": pool.properties.deployment_configuration, "vmSize": "Standard_D2s_v3"}
    azure.batch_management.pool.create(*where, "theirs", {"properties": machine})
    site.teardown()
    assert [pool.name for pool in azure.batch_management.pool.list_by_batch_account(*where)] == ["theirs"]


def test_container_of_somebody_else_stays(site: Site) -> None:
    azure = site.azure
    group, name = azure.settings.resource_group, azure.settings.storage_account_name
    azure.resources.resource_groups.create_or_update(group, ResourceGroup(location="uksouth"))
    account = {"location": "uksouth", "kind": "StorageV2", "sku": {"name": "Standard_LRS"}}
    azure.storage.storage_accounts.begin_create(group, name, account).result()
    azure.storage.blob_containers.create(group, name, "results", {})
    site.provision()
    assert "container scripts" in site.teardown(delete_results=True)
    assert [container.name for container in azure.storage.blob_containers.list(group, name)] == ["results"]


def test_teardown_after_an_unfinished_provision_removes_what_there_is(site: Site) -> None:
    with pytest.raises(Exception, match="Standard_X9"):
        site.with_(pool_vm_size="Standard_X9").provision()
    site.teardown(delete_results=True)
    assert is_gone(site.azure.resources.resource_groups.get, site.settings["resource_group"])
    assert assignments(site) == []


def test_role_on_the_geocatalog_goes_even_where_the_batch_account_has_gone(site: Site) -> None:
    site.provision()
    azure = site.azure
    where = (azure.settings.resource_group, azure.settings.batch_account_name)
    azure.batch_management.batch_account.begin_delete(*where).result()
    site.teardown()
    assert azure.settings.geocatalog_id not in assignments(site)
