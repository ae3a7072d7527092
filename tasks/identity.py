"""The user-assigned identity that the nodes work as."""

from azure.mgmt.msi.models import Identity, IdentityUpdate

from spatiobatch.changes import Change, created, unchanged, updated
from tasks.clients import AzureClients, azure_task, found
from tasks.ownership import missing_tags, ours


@azure_task("ensure identity")
def ensure_identity(azure: AzureClients) -> tuple[Change, Identity]:
    """Create the nodes' identity, or tag ours as configured; somebody else's is used as it is."""
    settings, identities = azure.settings, azure.identities.user_assigned_identities
    group, name, tags = settings.resource_group, settings.identity, settings.all_tags
    identity: Identity | None = found(identities.get, group, name)
    if identity is None:
        wanted = Identity(location=settings.location, tags=tags)
        return created("identity", name), identities.create_or_update(group, name, wanted)
    if not ours(identity.tags):
        return unchanged("identity", name, "not ours, used as it is"), identity
    lacking = missing_tags(identity.tags, tags)
    if not lacking:
        return unchanged("identity", name), identity
    identity = identities.update(group, name, IdentityUpdate(tags={**identity.tags, **tags}))
    return updated("identity", name, f"tags {', '.join(lacking)}"), identity
