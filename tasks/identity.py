"""The user-assigned identity that the nodes work as."""

from azure.mgmt.msi.models import Identity

from spatiobatch.changes import Change, created, unchanged
from tasks.clients import AzureClients, azure_task, found


@azure_task("ensure identity")
def ensure_identity(azure: AzureClients) -> tuple[Change, Identity]:
    """Create the nodes' identity, or use the one that is there."""
    settings, identities = azure.settings, azure.identities.user_assigned_identities
    identity: Identity | None = found(identities.get, settings.resource_group, settings.identity)
    if identity is not None:
        return unchanged("identity", settings.identity), identity
    identity = identities.create_or_update(
        settings.resource_group, settings.identity, Identity(location=settings.location, tags=settings.all_tags)
    )
    return created("identity", settings.identity), identity
