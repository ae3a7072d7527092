"""The storage account, its containers, and the scripts in them."""

from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

from azure.core.exceptions import HttpResponseError, ResourceExistsError
from azure.mgmt.storage.models import (
    BlobContainer,
    Sku,
    StorageAccount,
    StorageAccountCreateParameters,
    StorageAccountPropertiesCreateParameters,
    StorageAccountPropertiesUpdateParameters,
    StorageAccountUpdateParameters,
)
from azure.storage.blob import BlobClient, BlobSasPermissions, generate_blob_sas

from spatiobatch.changes import Change, created, unchanged, updated
from spatiobatch.errors import NotProvisionedError, ProvisioningError
from spatiobatch.names import MANAGED_BY, script_blob
from tasks.clients import AzureClients, azure_task, found, refused
from tasks.ownership import missing_tags, ours
from tasks.roles import operator_on_storage, when_granted

SCRIPTS = Path(__file__).parent.parent / "task_scripts"
"""The node scripts of this checkout."""
TASK_SCRIPTS = ("list_collections.py", "list_collections.sh", "harvest_items.py", "compact_items.py", "probe.py")
"""Those that tasks fetch as blobs; the start script travels in the pool's start task."""

CONTAINER_OF_OURS = {"managed_by": MANAGED_BY}
"""Metadata of the containers that provisioning makes; their names may not hold the tag's hyphen."""

_SECURITY = {
    "minimum_tls_version": "TLS1_2",
    "allow_blob_public_access": False,
    "allow_shared_key_access": False,
    "enable_https_traffic_only": True,
}
SAS_LIFE = timedelta(minutes=30)
"""How long a signed address of a script works."""
_CLOCKS_DIFFER = timedelta(minutes=15)
"""https://learn.microsoft.com/azure/storage/common/storage-sas-overview#best-practices-when-using-sas"""


@azure_task("ensure storage account")
def ensure_storage_account(azure: AzureClients) -> tuple[Change, StorageAccount]:
    """Create the storage account (TLS 1.2, no public blobs, no shared keys), or bring ours up to that."""
    settings, accounts = azure.settings, azure.storage.storage_accounts
    group, name = settings.resource_group, settings.storage_account_name
    account: StorageAccount | None = found(accounts.get_properties, group, name)
    if account is None:
        _check_available(azure, name)
        wanted = StorageAccountCreateParameters(
            sku=Sku(name="Standard_LRS"),
            kind="StorageV2",
            location=settings.location,
            tags=settings.all_tags,
            properties=StorageAccountPropertiesCreateParameters(**_SECURITY),
        )
        return created("storage account", name), accounts.begin_create(group, name, wanted).result()
    if not ours(account.tags):
        return unchanged("storage account", name, "not ours, used as it is"), account
    differing = [field for field, value in _SECURITY.items() if getattr(account.properties, field) != value]
    lacking = missing_tags(account.tags, settings.all_tags)
    if not differing and not lacking:
        return unchanged("storage account", name), account
    changes = StorageAccountUpdateParameters(
        tags={**account.tags, **settings.all_tags}, properties=StorageAccountPropertiesUpdateParameters(**_SECURITY)
    )
    return updated("storage account", name, ", ".join(differing + lacking)), accounts.update(group, name, changes)


def _check_available(azure: AzureClients, name: str) -> None:
    answer = azure.storage.storage_accounts.check_name_availability(
        {"name": name, "type": "Microsoft.Storage/storageAccounts"}
    )
    if not answer.name_available:
        raise ProvisioningError(
            f"Storage account name {name} cannot be had: {answer.message} Set another storage_account "
            "(SPATIOBATCH_STORAGE_ACCOUNT), or the resource_group where it is."
        )


@azure_task("ensure containers")
def ensure_containers(azure: AzureClients, account: str) -> list[Change]:
    """Create the script and result containers, through ARM: that needs no blob role, which might still be spreading."""
    settings, containers = azure.settings, azure.storage.blob_containers
    changes = []
    for name in (settings.scripts_container, settings.results_container):
        if found(containers.get, settings.resource_group, account, name) is None:
            containers.create(settings.resource_group, account, name, BlobContainer(metadata=CONTAINER_OF_OURS))
            changes.append(created("blob container", name))
        else:
            changes.append(unchanged("blob container", name))
    return changes


@azure_task("upload scripts")
def upload_scripts(azure: AzureClients, blob_endpoint: str) -> list[Change]:
    """Upload the node scripts that are not there yet, each named by its content."""
    container = azure.blobs(blob_endpoint).get_container_client(azure.settings.scripts_container)
    granted = partial(when_granted, azure, operator_on_storage(azure))
    changes = []
    for name in TASK_SCRIPTS:
        script = SCRIPTS / name
        blob = container.get_blob_client(blob_name(name))
        there = granted(blob.exists)
        if not there:
            granted(partial(_upload_new, blob, script))
        changes.append((unchanged if there else created)("script", blob.blob_name))
    return changes


def _upload_new(blob: BlobClient, script: Path) -> None:
    try:
        blob.upload_blob(script.read_bytes(), overwrite=False)
    except ResourceExistsError:
        return  # somebody else uploaded the same content a moment ago


def blob_name(script: str) -> str:
    """The blob of one of this checkout's scripts."""
    path = SCRIPTS / script
    return script_blob(path.stem, path.suffix, path.read_bytes())


def _may_be_there(blob: BlobClient, *, signed: bool) -> bool:
    """Whether the blob exists; an operator who may not see it leaves that to the nodes, which read it themselves."""
    try:
        return blob.exists()
    except HttpResponseError as error:
        if signed or not refused(error):
            raise
        return True


def script_url(azure: AzureClients, blob_endpoint: str, script: str, *, signed: bool) -> str:
    """Address of a script's blob; signed, it lets anybody read that blob, and nothing else, for 30 minutes.

    https://learn.microsoft.com/rest/api/storageservices/create-user-delegation-sas

    Raises:
        NotProvisionedError: the environment was built by a checkout with another version of the script.
    """
    service = azure.blobs(blob_endpoint)
    blob = service.get_blob_client(azure.settings.scripts_container, blob_name(script))
    if not _may_be_there(blob, signed=signed):
        raise NotProvisionedError(f"This checkout's {script} is not in the container {blob.container_name}")
    if not signed:
        return str(blob.url)
    now = datetime.now(UTC)
    key = service.get_user_delegation_key(now - _CLOCKS_DIFFER, now + SAS_LIFE)
    sas = generate_blob_sas(
        blob.account_name,
        blob.container_name,
        blob.blob_name,
        user_delegation_key=key,
        permission=BlobSasPermissions(read=True),
        expiry=now + SAS_LIFE,
    )
    return f"{blob.url}?{sas}"
