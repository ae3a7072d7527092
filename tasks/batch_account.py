"""The Batch account and its quotas."""

from azure.mgmt.batch.models import (
    AutoStorageBaseProperties,
    BatchAccount,
    BatchAccountCreateParameters,
    BatchAccountCreateProperties,
    BatchAccountIdentity,
    BatchAccountUpdateParameters,
    BatchAccountUpdateProperties,
    ComputeNodeIdentityReference,
)

from spatiobatch.changes import Change, created, unchanged, updated
from spatiobatch.errors import ForeignResourceError, ProvisioningError, QuotaTooSmallError
from spatiobatch.names import same_id
from tasks.clients import AzureClients, azure_task, found
from tasks.ownership import missing_tags, ours, pool_tags

_IDENTITY = BatchAccountIdentity(type="SystemAssigned")


@azure_task("ensure Batch account")
def ensure_batch_account(azure: AzureClients, storage_id: str, identity_id: str) -> tuple[Change, BatchAccount]:
    """Create the Batch account, or bring ours up to the settings.

    Entra only; its own identity reaches the linked storage account, since with keys off linking by key does not work
    (https://learn.microsoft.com/azure/batch/batch-account-create-portal#autostorage).

    Raises:
        ForeignResourceError: an account of somebody else's takes no Entra tokens.
        ProvisioningError: the name is taken.
    """
    settings, accounts = azure.settings, azure.batch_management.batch_account
    group, name = settings.resource_group, settings.batch_account_name
    storage = AutoStorageBaseProperties(
        storage_account_id=storage_id,
        authentication_mode="BatchAccountManagedIdentity",
        node_identity_reference=ComputeNodeIdentityReference(resource_id=identity_id),
    )
    account: BatchAccount | None = found(accounts.get, group, name)
    if account is None:
        _check_available(azure, name)
        wanted = BatchAccountCreateParameters(
            location=settings.location,
            tags=settings.all_tags,
            identity=_IDENTITY,
            properties=BatchAccountCreateProperties(auto_storage=storage, allowed_authentication_modes=["AAD"]),
        )
        accounts.begin_create(group, name, wanted).result()
        return created("Batch account", name), accounts.get(group, name)
    if not ours(account.tags):
        _check_foreign(account, name)
        return unchanged("Batch account", name, "not ours, used as it is"), account
    drift = _drift(account, storage) + missing_tags(account.tags, settings.all_tags)
    if not drift:
        return unchanged("Batch account", name), account
    changes = BatchAccountUpdateParameters(
        tags={**account.tags, **settings.all_tags},
        identity=_IDENTITY,
        properties=BatchAccountUpdateProperties(auto_storage=storage, allowed_authentication_modes=["AAD"]),
    )
    return updated("Batch account", name, ", ".join(drift)), accounts.update(group, name, changes)


def _check_available(azure: AzureClients, name: str) -> None:
    answer = azure.batch_management.location.check_name_availability(
        azure.settings.location, {"name": name, "type": "Microsoft.Batch/batchAccounts"}
    )
    if not answer.name_available:
        raise ProvisioningError(
            f"Batch account name {name} cannot be had: {answer.message} Set another batch_account "
            "(SPATIOBATCH_BATCH_ACCOUNT), or the resource_group where it is."
        )


def _check_foreign(account: BatchAccount, name: str) -> None:
    modes = account.properties.allowed_authentication_modes
    if modes is not None and "AAD" not in modes:
        raise ForeignResourceError(
            "Batch account", name, "it does not take Entra tokens", "add AAD to its allowed authentication modes"
        )


def _drift(account: BatchAccount, wanted: AutoStorageBaseProperties) -> list[str]:
    linked = account.properties.auto_storage
    node_identity = linked.node_identity_reference if linked else None
    same = {
        "identity": account.identity is not None and account.identity.type == _IDENTITY.type,
        "linked storage": linked is not None and same_id(linked.storage_account_id, wanted.storage_account_id),
        "storage authentication": linked is not None and linked.authentication_mode == wanted.authentication_mode,
        "node identity": node_identity is not None
        and same_id(node_identity.resource_id, wanted.node_identity_reference.resource_id),
        "authentication modes": account.properties.allowed_authentication_modes == ["AAD"],
    }
    return [name for name, is_same in same.items() if not is_same]


@azure_task("check quota")
def check_quota(azure: AzureClients, account: BatchAccount) -> None:
    """Compare the pool's cores with the account's quota: total, of its VM family where that is enforced, or Spot.

    An account in UserSubscription mode has no such quotas, and a pool of somebody else's is taken as it is.

    Raises:
        QuotaTooSmallError: says what to request.
        ProvisioningError: the region does not offer the VM size.
    """
    settings, quotas = azure.settings, account.properties
    pool = found(azure.batch_management.pool.get, settings.resource_group, account.name, settings.pool)
    if pool is not None and not ours(pool_tags(pool)):
        return
    cores_per_node, family = _vm_size(azure)
    needed = cores_per_node * settings.pool_nodes
    limits: dict[str, int | None]
    if settings.pool_spot:
        limits = {"Spot cores": quotas.low_priority_core_quota}
    else:
        limits = {"dedicated cores": quotas.dedicated_core_quota}
        if quotas.dedicated_core_quota_per_vm_family_enforced:
            of_family = {q.name.lower(): q.core_quota for q in quotas.dedicated_core_quota_per_vm_family or []}
            limits[f"cores of the {family} family"] = of_family.get(family.lower(), 0)
    for what, quota in limits.items():
        if quota is not None and needed > quota:
            raise QuotaTooSmallError(settings.batch_account_name, settings.location, what, needed, quota)


def _vm_size(azure: AzureClients) -> tuple[int, str]:
    """Cores and quota family of the pool's VM size."""
    wanted, location = azure.settings.pool_vm_size, azure.settings.location
    for sku in azure.batch_management.location.list_supported_virtual_machine_skus(location):
        if (sku.name or "").lower() == wanted.lower():
            cores = next(capability.value for capability in sku.capabilities or [] if capability.name == "vCPUs")
            return int(cores), sku.family_name or ""
    raise ProvisioningError(
        f"Batch does not offer the VM size {wanted} in {location}: set pool_vm_size to one that "
        f"az batch location list-skus --location {location} names."
    )
