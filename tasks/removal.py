"""Removing what provisioning made, and nothing else."""

from prefect.logging import get_run_logger

from tasks.clients import AzureClients, azure_task, found
from tasks.ownership import ours, pool_tags
from tasks.roles import grants, operator_on_storage, remove_role
from tasks.storage import CONTAINER_OF_OURS


@azure_task("remove roles")
def remove_roles(azure: AzureClients, *, delete_results: bool) -> list[str]:
    """Take back every role that provisioning granted, the one on the GeoCatalog included.

    Of results that are kept, the operator keeps the right to read them.
    """
    settings = azure.settings
    identity = found(azure.identities.user_assigned_identities.get, settings.resource_group, settings.identity)
    account = found(azure.batch_management.batch_account.get, settings.resource_group, settings.batch_account_name)
    doomed = grants(azure, account, identity)
    if not delete_results:
        doomed.remove(operator_on_storage(azure))
    return [str(grant) for grant in doomed if remove_role.fn(azure, grant)]


@azure_task("remove Batch account")
def remove_batch_account(azure: AzureClients) -> list[str]:
    """Delete our pools, and our Batch account with whatever jobs it still has; one with foreign pools stays."""
    settings, management = azure.settings, azure.batch_management
    group, name = settings.resource_group, settings.batch_account_name
    account = found(management.batch_account.get, group, name)
    if account is None:
        return []
    pools = {pool.name: ours(pool_tags(pool)) for pool in management.pool.list_by_batch_account(group, name)}
    removed = []
    for pool in (pool for pool, is_ours in pools.items() if is_ours):
        management.pool.begin_delete(group, name, pool).result()
        removed.append(f"pool {pool}")
    left = [pool for pool, is_ours in pools.items() if not is_ours]
    if ours(account.tags) and left:
        get_run_logger().info("Batch account %s stays, since it holds pool %s", name, ", ".join(left))
    elif ours(account.tags):
        management.batch_account.begin_delete(group, name).result()
        removed.append(f"Batch account {name}")
    return removed


@azure_task("remove identity")
def remove_identity(azure: AzureClients) -> list[str]:
    """Delete our identity of the nodes."""
    settings, identities = azure.settings, azure.identities.user_assigned_identities
    identity = found(identities.get, settings.resource_group, settings.identity)
    if identity is None or not ours(identity.tags):
        return []
    identities.delete(settings.resource_group, settings.identity)
    return [f"identity {settings.identity}"]


@azure_task("remove storage")
def remove_storage(azure: AzureClients, *, delete_results: bool) -> list[str]:
    """Delete the scripts, and the results only when asked; our account goes when nothing is left to keep in it."""
    settings, storage = azure.settings, azure.storage
    group, name = settings.resource_group, settings.storage_account_name
    account = found(storage.storage_accounts.get_properties, group, name)
    if account is None:
        return []
    if ours(account.tags) and delete_results:
        storage.storage_accounts.delete(group, name)
        return [f"storage account {name} with its results"]
    doomed = [settings.scripts_container] + ([settings.results_container] if delete_results else [])
    removed = []
    for container in doomed:
        there = found(storage.blob_containers.get, group, name, container)
        if there is not None and there.metadata == CONTAINER_OF_OURS:
            storage.blob_containers.delete(group, name, container)
            removed.append(f"container {container}")
    return removed


@azure_task("remove resource group")
def remove_resource_group(azure: AzureClients) -> list[str]:
    """Delete our resource group once it is empty; one that holds anything stays, whoever put it there."""
    name = azure.settings.resource_group
    group = found(azure.resources.resource_groups.get, name)
    if group is None or not ours(group.tags):
        return []
    left = [resource.name for resource in azure.resources.resources.list_by_resource_group(name)]
    if left:
        get_run_logger().info("resource group %s stays, since it holds %s", name, ", ".join(left))
        return []
    azure.resources.resource_groups.begin_delete(name).result()
    return [f"resource group {name}"]
