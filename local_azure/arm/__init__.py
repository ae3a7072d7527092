"""Azure Resource Manager.

https://learn.microsoft.com/azure/azure-resource-manager. A route that is not here answers 501.

    gate.py            what every request passes: api-version, token, subscription, permission
    operations.py      long-running operations
    subscriptions.py   the cloud's endpoints, the subscription, its resources and providers
    resource_groups.py, storage.py, containers.py, batch_accounts.py, pools.py, managed_identity.py,
    authorization.py, orbital.py     the resources, a module for each kind
"""

from starlette.applications import Starlette

from local_azure.arm.authorization import Authorization
from local_azure.arm.batch_accounts import BatchAccounts
from local_azure.arm.containers import BlobContainers
from local_azure.arm.gate import Gate, render
from local_azure.arm.managed_identity import ManagedIdentities
from local_azure.arm.operations import Operations
from local_azure.arm.orbital import GeoCatalogs
from local_azure.arm.pools import Pools
from local_azure.arm.providers import Providers
from local_azure.arm.resource_groups import ResourceGroups
from local_azure.arm.storage import StorageAccounts
from local_azure.arm.subscriptions import Subscriptions
from local_azure.blob.call import BlobState
from local_azure.cloud import Cloud
from local_azure.wire import application


def app(cloud: Cloud) -> Starlette:
    """The HTTP application."""
    providers = Providers(cloud)
    gate = Gate(cloud, providers)
    operations = Operations(cloud)
    blobs = BlobState(cloud)
    storage = StorageAccounts(cloud, operations, blobs)
    batch = BatchAccounts(cloud, operations)
    identities = ManagedIdentities(cloud)
    catalogs = GeoCatalogs(cloud, operations)
    purges = (batch.purge, storage.purge, identities.purge, catalogs.purge)
    # Role assignments come first: their scope may be any other resource's id.
    services = (
        Authorization(cloud),
        Subscriptions(cloud, providers),
        ResourceGroups(cloud, operations, purges),
        storage,
        BlobContainers(storage, blobs),
        batch,
        Pools(cloud, operations, batch),
        identities,
        catalogs,
    )
    return application("arm", [route for service in services for route in service.routes(gate)], render)
