"""Role assignments: who may do what, granted once.

Ids of the built-in roles: https://learn.microsoft.com/azure/role-based-access-control/built-in-roles
"""

import shlex
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import TypeVar

from azure.core.exceptions import HttpResponseError, ResourceExistsError
from azure.mgmt.authorization.v2022_04_01.models import RoleAssignment, RoleAssignmentCreateParameters
from azure.mgmt.batch.models import BatchAccount
from azure.mgmt.msi.models import Identity
from prefect.futures import PrefectFuture

from spatiobatch import names
from spatiobatch.changes import Change, created, unchanged, updated
from spatiobatch.errors import MissingGrantError
from spatiobatch.interruptions import pause
from tasks.clients import AzureClients, azure_task, code_of, found, refused

ROLES = {
    "GeoCatalog Administrator": "c9c97b9c-105d-4bb5-a2a7-7d15666c2484",
    "GeoCatalog Reader": "b7b8f583-43d0-40ae-b147-6b46f53661c1",
    "Storage Blob Data Owner": "b7e6dc6d-f1e8-4753-8033-0f276bb0955b",
    "Storage Blob Data Contributor": "ba92f5b4-2d11-453d-a403-e96b0029c9fe",
    "Storage Blob Data Reader": "2a2b9908-6ea1-4ae2-8e65-a410df84e7d1",
    "Azure Batch Account Contributor": "29fe4964-1e60-436b-bd3a-77fd4c178b3c",
    "Azure Batch Data Contributor": "6aaa78f1-f7de-44ca-8722-c64a23943cae",
}
"""Role definition ids by name."""
_LARGER = {
    "GeoCatalog Reader": "GeoCatalog Administrator",
    "Storage Blob Data Reader": "Storage Blob Data Contributor",
    "Storage Blob Data Contributor": "Storage Blob Data Owner",
    "Azure Batch Data Contributor": "Azure Batch Account Contributor",
}
"""The next role that grants all that another does; whoever holds it needs no more."""

T = TypeVar("T")


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

    @property
    def name(self) -> str:
        """The assignment's name, if it is ours."""
        return names.role_assignment(self.scope, self.principal_id, ROLES[self.role])

    def missing(self, why: str) -> MissingGrantError:
        """The error that names this grant, and the command that makes it."""
        command = (
            f'az role assignment create --role "{self.role}" --assignee-object-id {self.principal_id} '
            f"--assignee-principal-type {self.principal_type} --scope {shlex.quote(self.scope)}"
        )
        return MissingGrantError({f"{self.role} of {self.principal_id} on {self.scope}": command}, why)


def operator_on_storage(azure: AzureClients) -> Grant:
    """The operator reads and writes blobs."""
    return Grant("Storage Blob Data Contributor", *azure.operator, _storage_id(azure))


def operator_on_batch(azure: AzureClients) -> Grant:
    """The operator submits jobs."""
    account = azure.settings.arm_id("Microsoft.Batch/batchAccounts", azure.settings.batch_account_name)
    return Grant("Azure Batch Data Contributor", *azure.operator, account)


def account_on_storage(azure: AzureClients, principal_id: str) -> Grant:
    """The Batch account reaches the storage that it is linked to."""
    return Grant("Storage Blob Data Contributor", principal_id, "ServicePrincipal", _storage_id(azure))


def nodes_on_scripts(azure: AzureClients, principal_id: str) -> Grant:
    """The nodes read scripts."""
    scope = _container_id(azure, azure.settings.scripts_container)
    return Grant("Storage Blob Data Reader", principal_id, "ServicePrincipal", scope)


def nodes_on_results(azure: AzureClients, principal_id: str) -> Grant:
    """The nodes write results, and read what they compare them with."""
    scope = _container_id(azure, azure.settings.results_container)
    return Grant("Storage Blob Data Contributor", principal_id, "ServicePrincipal", scope)


def nodes_on_geocatalog(azure: AzureClients, principal_id: str) -> Grant:
    """The nodes read the GeoCatalog."""
    scope = azure.settings.geocatalog_id or "(ARM id of the GeoCatalog)"
    return Grant(azure.settings.geocatalog_role, principal_id, "ServicePrincipal", scope)


def _storage_id(azure: AzureClients) -> str:
    return azure.settings.arm_id("Microsoft.Storage/storageAccounts", azure.settings.storage_account_name)


def _container_id(azure: AzureClients, name: str) -> str:
    return f"{_storage_id(azure)}/blobServices/default/containers/{name}"


def grants(azure: AzureClients, account: BatchAccount | None, identity: Identity | None) -> list[Grant]:
    """Every grant that an environment with these needs; the account's own identity reaches the linked storage."""
    needed = [operator_on_storage(azure)]
    if account:
        needed.append(operator_on_batch(azure))
    if account and account.identity and account.identity.principal_id:
        needed.append(account_on_storage(azure, account.identity.principal_id))
    if identity:
        needed += [nodes_on_scripts(azure, identity.principal_id), nodes_on_results(azure, identity.principal_id)]
    if identity and azure.settings.geocatalog_id:
        needed.append(nodes_on_geocatalog(azure, identity.principal_id))
    return needed


@azure_task("ensure role", retries=6)
def ensure_role(azure: AzureClients, grant: Grant) -> Change:
    """Grant a role at a scope, unless an assignment there or above grants as much already.

    A larger role that an earlier provisioning granted is taken back. A new identity takes a while to be known where
    roles are assigned (`PrincipalNotFound`), hence the longer patience.

    Raises:
        MissingGrantError: the role is not there and the operator may not assign it.
    """
    larger = replace(grant, role=_LARGER[grant.role]) if grant.role in _LARGER else None
    held = {assignment.name: _role_id(assignment) for assignment in _held(azure, grant)}
    surplus = larger is not None and held.pop(larger.name, None) is not None
    if not _sufficient(grant.role) & set(held.values()):
        _assign(azure, grant)
    elif not surplus:
        return unchanged("role assignment", str(grant))
    if larger and surplus:
        azure.authorization.role_assignments.delete(grant.scope, larger.name)
        return updated("role assignment", str(grant), f"was {larger.role}")
    return created("role assignment", str(grant))


def _sufficient(role: str) -> set[str]:
    """Ids of the role and of every larger one."""
    return {ROLES[role]} | (_sufficient(_LARGER[role]) if role in _LARGER else set())


def _held(azure: AzureClients, grant: Grant) -> list[RoleAssignment]:
    """The principal's assignments at the scope or above, through a group too.

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
            return []
        raise
    return [assignment for assignment in assignments if _covers(assignment.scope, grant.scope)]


def _covers(assigned: str, scope: str) -> bool:
    return f"{scope.lower().rstrip('/')}/".startswith(f"{assigned.lower().rstrip('/')}/")


def _role_id(assignment: RoleAssignment) -> str:
    return str(assignment.role_definition_id).rsplit("/", 1)[-1].lower()


def _assign(azure: AzureClients, grant: Grant) -> None:
    provider = f"/subscriptions/{azure.settings.subscription_id}/providers/Microsoft.Authorization"
    assignment = RoleAssignmentCreateParameters(
        role_definition_id=f"{provider}/roleDefinitions/{ROLES[grant.role]}",
        principal_id=grant.principal_id,
        principal_type=grant.principal_type,
        description=f"Made by {names.MANAGED_BY}",
    )
    try:
        azure.authorization.role_assignments.create(grant.scope, grant.name, assignment)
    except ResourceExistsError:
        return  # somebody else granted it a moment ago, or may grant it but not let it be read
    except HttpResponseError as error:
        if refused(error):
            raise grant.missing("the operator may not assign roles there") from error
        raise


def all_granted(granting: Iterable[PrefectFuture[Change]]) -> list[Change]:
    """What `ensure_role` answered for each grant.

    Raises:
        MissingGrantError: names all that are missing, so that whoever may assign roles is asked once.
    """
    answers = [granted.result(raise_on_failure=False) for granted in granting]
    missing = [answer for answer in answers if isinstance(answer, MissingGrantError)]
    if missing:
        commands = {grant: command for error in missing for grant, command in error.commands.items()}
        raise MissingGrantError(commands, missing[0].why)
    for answer in answers:
        if isinstance(answer, BaseException):
            raise answer
    return answers


def when_granted(azure: AzureClients, grant: Grant, call: Callable[[], T]) -> T:
    """The call's answer, asked again while a refusal may mean that the grant is still spreading.

    https://learn.microsoft.com/azure/role-based-access-control/troubleshooting: up to ten minutes.

    Raises:
        MissingGrantError: it is still refused after `grant_timeout_minutes`.
    """
    minutes = azure.settings.grant_timeout_minutes
    deadline = time.monotonic() + minutes * 60
    while True:
        try:
            return call()
        except HttpResponseError as error:
            if not refused(error):
                raise
            if time.monotonic() > deadline:
                why = f"refused for {minutes:g} minutes: {error.status_code} {code_of(error)}"
                raise grant.missing(why) from error
        pause(azure.settings.poll_seconds)


@azure_task("remove role")
def remove_role(azure: AzureClients, grant: Grant) -> bool:
    """Take back a role that `ensure_role` granted; an assignment of anybody else's has another name and stays."""
    return found(azure.authorization.role_assignments.delete, grant.scope, grant.name) is not None
