"""Other people than the stand-in's operator: applications with a secret and the roles that a test gives them."""

import uuid
from dataclasses import dataclass

from flow_runs import Site
from test_local_login import new_application


@dataclass(frozen=True)
class Operator:
    """An application that signs in with a secret."""

    object_id: str
    variables: dict[str, str]
    """Environment variables that sign it in."""


def application(site: Site, name: str) -> Operator:
    """A new application without any role."""
    with site.environment():
        client_id, secret, object_id = new_application(name)
    return Operator(
        object_id,
        {
            "AZURE_TENANT_ID": site.variables["LOCAL_AZURE_TENANT_ID"],
            "AZURE_CLIENT_ID": client_id,
            "AZURE_CLIENT_SECRET": secret,
        },
    )


def grant(site: Site, operator: Operator, role: str, kind: str) -> None:
    """Give somebody a role on this site's storage account or Batch account."""
    with site.environment():
        azure = site.azure
        settings = azure.settings
        scope = {
            "storageAccounts": settings.arm_id("Microsoft.Storage/storageAccounts", settings.storage_account_name),
            "batchAccounts": settings.arm_id("Microsoft.Batch/batchAccounts", settings.batch_account_name),
        }[kind]
        (definition,) = azure.authorization.role_definitions.list(scope, filter=f"roleName eq '{role}'")
        azure.authorization.role_assignments.create(
            scope,
            str(uuid.uuid4()),
            {
                "properties": {
                    "roleDefinitionId": definition.id,
                    "principalId": operator.object_id,
                    "principalType": "ServicePrincipal",
                }
            },
        )
