"""What a harvest must know of its environment, read with the rights of an operator who may only harvest."""

from dataclasses import dataclass

from azure.core.exceptions import ResourceNotFoundError
from azure.storage.blob import ContainerClient

from spatiobatch.errors import ConfigurationError, NotProvisionedError, ProvisioningError
from spatiobatch.settings import Settings
from tasks.clients import AzureClients, azure_task, found

_GEOCATALOG_API = "2026-04-15"


@dataclass(frozen=True)
class Environment:
    """A built environment."""

    batch_endpoint: str
    blob_endpoint: str
    geocatalog_url: str
    identity_id: str
    client_id: str


@azure_task("read environment")
def read_environment(azure: AzureClients) -> Environment:
    """Read the environment from the Batch account and the pool.

    Provisioning leaves addresses in the pool's metadata, since who harvests need not read the storage account or the
    GeoCatalog in ARM; for a pool that somebody else made, ARM is asked.

    Raises:
        NotProvisionedError: the account or the pool is not there.
    """
    settings, management = azure.settings, azure.batch_management
    account = found(management.batch_account.get, settings.resource_group, settings.batch_account_name)
    if account is None:
        raise NotProvisionedError(
            f"There is no Batch account {settings.batch_account_name} in {settings.resource_group}"
        )
    pool = found(management.pool.get, settings.resource_group, settings.batch_account_name, settings.pool)
    if pool is None:
        raise NotProvisionedError(f"Batch account {settings.batch_account_name} has no pool {settings.pool}")
    known = {item.name: item.value for item in pool.properties.metadata or []}
    identity_id, client_id = _node_identity(pool.identity, settings)
    return Environment(
        batch_endpoint=account.properties.account_endpoint,
        blob_endpoint=known.get("blob-endpoint") or _blob_endpoint(azure),
        geocatalog_url=known.get("geocatalog-url") or geocatalog_url(azure),
        identity_id=identity_id,
        client_id=client_id,
    )


def results(azure: AzureClients, environment: Environment) -> ContainerClient:
    """The container that harvests are kept in."""
    return azure.blobs(environment.blob_endpoint).get_container_client(azure.settings.results_container)


def pool_metadata(blob_endpoint: str, geocatalog: str) -> dict[str, str]:
    """What provisioning leaves in the pool for `read_environment`."""
    return {"blob-endpoint": blob_endpoint, "geocatalog-url": geocatalog}


def geocatalog_url(azure: AzureClients) -> str:
    """The GeoCatalog's address: as configured, else what ARM knows; it holds a hash that nobody can guess.

    Raises:
        ConfigurationError: neither geocatalog_id nor geocatalog_url is set.
        ProvisioningError: there is no such GeoCatalog.
    """
    settings = azure.settings
    if settings.geocatalog_url:
        return settings.geocatalog_url
    if not settings.geocatalog_id:
        raise ConfigurationError("No GeoCatalog: set geocatalog_id (SPATIOBATCH_GEOCATALOG_ID) to its ARM id.")
    try:
        resource = azure.resources.resources.get_by_id(settings.geocatalog_id, api_version=_GEOCATALOG_API)
    except ResourceNotFoundError as error:
        raise ProvisioningError(
            f"There is no GeoCatalog {settings.geocatalog_id}: set geocatalog_id to the id that "
            "az resource list --resource-type Microsoft.Orbital/geoCatalogs names."
        ) from error
    return str(resource.properties["catalogUri"]).rstrip("/")


def _blob_endpoint(azure: AzureClients) -> str:
    settings = azure.settings
    account = azure.storage.storage_accounts.get_properties(settings.resource_group, settings.storage_account_name)
    return str(account.properties.primary_endpoints.blob)


def _node_identity(identity: object, settings: Settings) -> tuple[str, str]:
    assigned = getattr(identity, "user_assigned_identities", None) or {}
    wanted = settings.arm_id("Microsoft.ManagedIdentity/userAssignedIdentities", settings.identity).lower()
    for name, details in assigned.items():
        if name.lower() == wanted:
            return name, details.client_id
    raise NotProvisionedError(f"Pool {settings.pool} does not have the identity {settings.identity}")


def describe(azure: AzureClients) -> list[str]:
    """Lines for people: the environment, its nodes, its active jobs.

    Raises:
        NotProvisionedError: there is none.
    """
    settings, environment = azure.settings, read_environment.fn(azure)
    batch = azure.batch(environment.batch_endpoint)
    nodes = [f"{node.id} {getattr(node.state, 'value', node.state)}" for node in batch.list_nodes(settings.pool)]
    jobs = [job.id for job in batch.list_jobs(filter="state eq 'active'")]
    return [
        f"Resource group  {settings.resource_group}",
        f"Batch account   {settings.batch_account_name} at {environment.batch_endpoint}",
        f"Results         {environment.blob_endpoint}{settings.results_container}",
        f"GeoCatalog      {environment.geocatalog_url}",
        f"Pool            {settings.pool}: {', '.join(nodes) or 'no nodes'}",
        f"Active jobs     {', '.join(jobs) or 'none'}",
    ]
