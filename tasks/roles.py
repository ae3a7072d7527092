"""Role assignments: who may do what, granted once.

Ids of the built-in roles: https://learn.microsoft.com/azure/role-based-access-control/built-in-roles
"""

from dataclasses import dataclass

from azure.core.exceptions import HttpResponseError, ResourceExistsError
from azure.mgmt.authorization.v2022_04_01.models import RoleAssignmentCreateParameters
from azure.mgmt.batch.models import BatchAccount
from azure.mgmt.msi.models import Identity

from spatiobatch import names
from spatiobatch.changes import Change, created, unchanged
from spatiobatch.errors import MissingGrantError
from tasks.clients import AzureClients, azure_task, found, refused

ROLES = {
    "GeoCatalog Administrator": "c9c97b9c-105d-4bb5-a2a7-7d15666c2484",
    "GeoCatalog Reader": "b7b8f583-43d0-40ae-b147-6b46f53661c1",
    "Storage Blob Data Contributor": "ba92f5b4-2d11-453d-a403-e96b0029c9fe",
    "Storage Blob Data Reader": "2a2b9908-6ea1-4ae2-8e65-a410df84e7d1",
    "Azure Batch Data Contributor": "6aaa78f1-f7de-44ca-8722-c64a23943cae",
}
"""Role definition ids by name."""

_DENIED = "the operator may not assign roles there"


@dataclass(frozen=True)
class Grant:
    """Somebody's role at a scope."""

    role: str
    principal_id: str
    principal_type: str
    scope: str

    def __str__(self) -> str:
        """For people."""
        return f"{self.role} of {self.principal_id[:8]} on {self.scope.rsplit('/', 1)[-1]}"


def grants(azure: AzureClients, storage_id: str, account: BatchAccount, identity: Identity) -> list[Grant]:
    """Every grant that an environment needs.

    The operator reads and writes blobs and submits jobs; the nodes read scripts, write results and read the GeoCatalog;
    the Batch account reaches the storage that it is linked to.
    """
    node, operator = (identity.principal_id, "ServicePrincipal"), azure.operator
    needed = [
        Grant("Storage Blob Data Contributor", *operator, storage_id),
        Grant("Azure Batch Data Contributor", *operator, account.id),
        Grant("Storage Blob Data Contributor", *node, storage_id),
    ]
    if account.identity and account.identity.principal_id:
        own = (account.identity.principal_id, "ServicePrincipal")
        needed.append(Grant("Storage Blob Data Contributor", *own, storage_id))
    if azure.settings.geocatalog_id:
        needed.append(Grant(azure.settings.geocatalog_role, *node, azure.settings.geocatalog_id))
    return needed


@azure_task("ensure role", retries=6)
def ensure_role(azure: AzureClients, grant: Grant) -> Change:
    """Grant a role at a scope, unless an assignment there or above grants it already.

    A new identity takes a while to be known where roles are assigned (`PrincipalNotFound`), hence the longer patience.

    Raises:
        MissingGrantError: the role is not there and the operator may not assign it.
    """
    if _granted(azure, grant):
        return unchanged("role assignment", str(grant))
    assignment = RoleAssignmentCreateParameters(
        role_definition_id=role_definition(azure, grant.role),
        principal_id=grant.principal_id,
        principal_type=grant.principal_type,
        description=f"Made by {names.MANAGED_BY}",
    )
    try:
        azure.authorization.role_assignments.create(grant.scope, _name(grant), assignment)
    except ResourceExistsError:
        return unchanged("role assignment", str(grant))
    except HttpResponseError as error:
        if refused(error):
            raise MissingGrantError(
                grant.role, grant.principal_id, grant.principal_type, grant.scope, _DENIED
            ) from error
        raise
    return created("role assignment", str(grant))


@azure_task("remove role")
def remove_role(azure: AzureClients, grant: Grant) -> bool:
    """Take back a role that `ensure_role` granted; an assignment of anybody else's has another name and stays."""
    return found(azure.authorization.role_assignments.delete, grant.scope, _name(grant)) is not None


def _name(grant: Grant) -> str:
    return names.role_assignment(grant.scope, grant.principal_id, ROLES[grant.role])


def role_definition(azure: AzureClients, role: str) -> str:
    """ARM id of a role definition."""
    provider = f"/subscriptions/{azure.settings.subscription_id}/providers/Microsoft.Authorization"
    return f"{provider}/roleDefinitions/{ROLES[role]}"


def _granted(azure: AzureClients, grant: Grant) -> bool:
    """Whether an assignment at the scope or above gives the role, through a group too.

    Where assignments may not be read, nobody knows: then Azure decides when the role is to be assigned.
    """
    try:
        assignments = list(
            azure.authorization.role_assignments.list_for_scope(
                grant.scope, filter=f"assignedTo('{grant.principal_id}')"
            )
        )
    except HttpResponseError as error:
        if refused(error):
            return False
        raise
    return any(
        assignment.role_definition_id.lower().endswith(ROLES[grant.role]) and _covers(assignment.scope, grant.scope)
        for assignment in assignments
    )


def _covers(assigned: str, scope: str) -> bool:
    return f"{scope.lower().rstrip('/')}/".startswith(f"{assigned.lower().rstrip('/')}/")
