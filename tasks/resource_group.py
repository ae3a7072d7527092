"""The subscription's resource providers, and the resource group."""

import time

from azure.mgmt.resource.resources.models import ResourceGroup

from spatiobatch.changes import Change, created, unchanged, updated
from spatiobatch.errors import ProvisioningError
from spatiobatch.interruptions import pause
from tasks.clients import AzureClients, azure_task, found
from tasks.ownership import missing_tags, ours

PROVIDERS = ("Microsoft.Batch", "Microsoft.ManagedIdentity", "Microsoft.Storage")
_REGISTRATION_SECONDS = 600


@azure_task("register resource providers")
def register_providers(azure: AzureClients) -> list[Change]:
    """Register what a fresh subscription lacks, and wait until it is.

    https://learn.microsoft.com/azure/azure-resource-manager/troubleshooting/error-register-resource-provider

    Raises:
        ProvisioningError: a registration takes more than ten minutes.
    """
    changes = []
    for namespace in PROVIDERS:
        if azure.resources.providers.get(namespace).registration_state == "Registered":
            changes.append(unchanged("resource provider", namespace))
            continue
        azure.resources.providers.register(namespace)
        _wait_until_registered(azure, namespace)
        changes.append(created("resource provider", namespace))
    return changes


def _wait_until_registered(azure: AzureClients, namespace: str) -> None:
    deadline = time.monotonic() + _REGISTRATION_SECONDS
    while azure.resources.providers.get(namespace).registration_state != "Registered":
        if time.monotonic() > deadline:
            raise ProvisioningError(
                f"Resource provider {namespace} is still not registered after {_REGISTRATION_SECONDS // 60} minutes: "
                f"run az provider register --namespace {namespace} --wait, then provision again."
            )
        pause(azure.settings.poll_seconds)


@azure_task("ensure resource group")
def ensure_resource_group(azure: AzureClients) -> Change:
    """Create the resource group, or tag ours as configured; somebody else's is used as it is."""
    name, tags = azure.settings.resource_group, azure.settings.all_tags
    group = found(azure.resources.resource_groups.get, name)
    if group is None:
        azure.resources.resource_groups.create_or_update(
            name, ResourceGroup(location=azure.settings.location, tags=tags)
        )
        return created("resource group", name)
    if not ours(group.tags):
        return unchanged("resource group", name, "not ours, used as it is")
    lacking = missing_tags(group.tags, tags)
    if not lacking:
        return unchanged("resource group", name)
    azure.resources.resource_groups.create_or_update(
        name, ResourceGroup(location=group.location, tags={**group.tags, **tags})
    )
    return updated("resource group", name, f"tags {', '.join(lacking)}")
