"""Build the environment, or bring it up to the settings; a second run changes nothing."""

from prefect import flow

from spatiobatch.changes import Change
from spatiobatch.settings import ScriptAccess, load_settings
from tasks.batch_account import check_quota, ensure_batch_account
from tasks.clients import AzureClients
from tasks.environment import geocatalog_url, pool_metadata, read_environment
from tasks.failure import explained
from tasks.identity import ensure_identity
from tasks.nodes import wait_for_node
from tasks.pool import ensure_pool
from tasks.probe import probe, probed
from tasks.resource_group import ensure_resource_group, register_providers
from tasks.roles import all_granted, ensure_role, grants
from tasks.storage import ensure_containers, ensure_storage_account, upload_scripts


@flow(name="provision")
@explained
def provision(replace_pool: bool = False, script_access: ScriptAccess | None = None) -> list[Change]:
    """Build the Batch environment of this process's settings.

    Args:
        replace_pool: delete and create the pool again where Azure cannot change it in place.
        script_access: how the probe's script reaches the node; as configured by default.

    Returns:
        What was created, updated or found unchanged, in order.
    """
    azure = AzureClients(load_settings().with_(script_access=script_access))
    catalog = geocatalog_url(azure)
    changes = register_providers(azure)
    changes.append(ensure_resource_group(azure))

    storing, identifying = ensure_storage_account.submit(azure), ensure_identity.submit(azure)
    (storage_change, storage), (identity_change, identity) = storing.result(), identifying.result()
    batch_change, account = ensure_batch_account(azure, storage.id, identity.id)
    changes += [storage_change, identity_change, batch_change]
    blobs, endpoint = storage.properties.primary_endpoints.blob, account.properties.account_endpoint

    check_quota(azure, account)
    changes += ensure_containers(azure, storage.name)
    granting = [ensure_role.submit(azure, grant) for grant in grants(azure, account, identity)]
    changes += all_granted(granting)
    changes += upload_scripts(azure, blobs)

    changes.append(ensure_pool(azure, endpoint, identity.id, pool_metadata(blobs, catalog), replace=replace_pool))
    environment = read_environment(azure)
    if any(change.changed for change in changes) or not probed(azure, environment):
        wait_for_node(azure, endpoint)
        probe(azure, environment, identity.principal_id)
    return changes
