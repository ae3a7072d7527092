"""Role definitions and role assignments, at any scope.

https://learn.microsoft.com/rest/api/authorization/role-assignments

Differences from Azure: only built-in roles, no conditions, groups or deny assignments.
"""

import re
from collections.abc import Callable

from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from local_azure.arm.gate import Call, Gate, listing
from local_azure.clock import ticks
from local_azure.cloud import Cloud
from local_azure.errors import ApiError
from local_azure.identity.access import Role
from local_azure.identity.roles import BUILT_IN_ROLES
from local_azure.identity.tokens import Principal
from local_azure.store import Document

_GUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)
_PROVIDER = "/providers/Microsoft.Authorization"
_ASSIGNMENTS = f"{_PROVIDER}/roleAssignments"
_DEFINITIONS = f"{_PROVIDER}/roleDefinitions"


class Authorization:
    """Who holds which role where; `cloud.access` decides by the same table."""

    def __init__(self, cloud: Cloud) -> None:
        self._cloud = cloud
        self._assignments = cloud.role_assignments

    def routes(self, gate: Gate) -> list[Route]:
        """The route table; a scope in the path may begin with a second slash."""
        scoped = "/{scope:path}"
        return [
            gate.route("GET", f"{_DEFINITIONS}/{{role}}", self._get_role, open_to_all=True),
            gate.route("GET", _DEFINITIONS, self._list_roles, open_to_all=True),
            gate.route("GET", f"{scoped}{_DEFINITIONS}/{{role}}", self._get_role),
            gate.route("GET", f"{scoped}{_DEFINITIONS}", self._list_roles),
            gate.route("PUT", f"{scoped}{_ASSIGNMENTS}/{{name}}", self._put),
            gate.route("GET", f"{scoped}{_ASSIGNMENTS}/{{name}}", self._get),
            gate.route("DELETE", f"{scoped}{_ASSIGNMENTS}/{{name}}", self._delete),
            gate.route("GET", f"{scoped}{_ASSIGNMENTS}", self._list),
        ]

    async def _list_roles(self, call: Call) -> Response:
        wanted = re.search(r"roleName eq '([^']*)'", call.request.query_params.get("$filter", ""), re.IGNORECASE)
        roles = [
            role for role in BUILT_IN_ROLES.values() if wanted is None or role.name.lower() == wanted.group(1).lower()
        ]
        return listing([self._shown(role) for role in roles])

    async def _get_role(self, call: Call) -> Response:
        role = BUILT_IN_ROLES.get(call["role"].lower())
        if role is None:
            raise _no_role(call["role"])
        return JSONResponse(self._shown(role))

    def _shown(self, role: Role) -> Document:
        return {
            "id": f"{self._cloud.subscription_scope}{_DEFINITIONS}/{role.guid}",
            "name": role.guid,
            "type": "Microsoft.Authorization/roleDefinitions",
            "properties": {
                "roleName": role.name,
                "type": "BuiltInRole",
                "description": "",
                "assignableScopes": ["/"],
                "permissions": [
                    {
                        "actions": role.actions,
                        "notActions": role.not_actions,
                        "dataActions": role.data_actions,
                        "notDataActions": role.not_data_actions,
                    }
                ],
            },
        }

    async def _put(self, call: Call) -> Response:
        name, scope = call["name"], _scope(call)
        if not _GUID.fullmatch(name):
            raise ApiError(
                400, "InvalidRoleAssignmentId", f"The role assignment ID '{name}' is not valid. It must be a GUID."
            )
        assignment = self._requested(call, scope, name)
        key = assignment["id"].lower()
        known = self._assignments.get(key)
        if known and _triple(known) == _triple(assignment):
            return JSONResponse(known)
        if known:
            raise ApiError(
                400,
                "RoleAssignmentUpdateNotPermitted",
                "Tenant ID, application ID, principal ID, and scope are not allowed to be updated.",
            )
        self._refuse_same(assignment)
        self._assignments[key] = assignment
        return JSONResponse(assignment, 201)

    def _requested(self, call: Call, scope: str, name: str) -> Document:
        sent = call.body.get("properties") or {}
        role_id, principal_id = str(sent.get("roleDefinitionId", "")), str(sent.get("principalId", ""))
        role = BUILT_IN_ROLES.get(role_id.rsplit("/", 1)[-1].lower())
        if "/roledefinitions/" not in role_id.lower():
            raise ApiError(400, "BadRequestFormat", "The request was incorrectly formatted: roleDefinitionId.")
        if role is None:
            raise _no_role(role_id.rsplit("/", 1)[-1])
        kind = _kind(self._principal(principal_id))
        if sent.get("principalType") not in (None, kind):
            raise ApiError(
                400,
                "UnmatchedPrincipalType",
                f"The PrincipalId '{principal_id}' has type '{kind}' , which is different from specified "
                f"PrinciaplType '{sent['principalType']}'.",
            )
        now = ticks(self._cloud.clock.now())
        return {
            "id": f"{scope}{_ASSIGNMENTS}/{name}",
            "name": name,
            "type": "Microsoft.Authorization/roleAssignments",
            "properties": {
                "roleDefinitionId": f"{self._cloud.subscription_scope}{_DEFINITIONS}/{role.guid}",
                "principalId": principal_id,
                "principalType": kind,
                "scope": scope,
                "condition": None,
                "conditionVersion": None,
                "createdOn": now,
                "updatedOn": now,
                "createdBy": call.caller.object_id,
                "updatedBy": call.caller.object_id,
                "delegatedManagedIdentityResourceId": None,
                "description": sent.get("description"),
            },
        }

    def _principal(self, object_id: str) -> Principal:
        principal = self._cloud.tokens.find(object_id)
        if principal is None or principal.object_id != object_id:
            raise ApiError(
                400,
                "PrincipalNotFound",
                f"Principal {object_id.replace('-', '')} does not exist in the directory {self._cloud.tenant_id}. "
                "Check that you have the correct principal ID.",
            )
        return principal

    def _refuse_same(self, wanted: Document) -> None:
        """Let an assignment pass if the principal does not hold the role at this scope under another name."""
        for known in self._assignments.values():
            if _triple(known) == _triple(wanted):
                raise ApiError(
                    409,
                    "RoleAssignmentExists",
                    "The role assignment already exists. The ID of the existing role assignment is "
                    f"{known['name'].replace('-', '')}.",
                )

    async def _get(self, call: Call) -> Response:
        assignment = self._assignments.get(_assignment_key(call))
        if assignment is None:
            raise ApiError(404, "RoleAssignmentNotFound", f"The role assignment '{call['name']}' is not found.")
        return JSONResponse(assignment)

    async def _delete(self, call: Call) -> Response:
        assignment = self._assignments.pop(_assignment_key(call), None)
        return JSONResponse(assignment) if assignment else Response(status_code=204)

    async def _list(self, call: Call) -> Response:
        chosen = _chosen(call.request.query_params.get("$filter", ""), _scope(call).lower())
        return listing([assignment for assignment in self._assignments.values() if chosen(assignment)])


def _chosen(text: str, scope: str) -> Callable[[Document], bool]:
    """What a list's `$filter` keeps.

    Without one, assignments at, above and below the scope; `atScope()` leaves out those below.
    """
    principal = re.search(r"(?:principalId eq |assignedTo\()\s*'([^']*)'", text, re.IGNORECASE)
    only_at_scope = "atscope()" in text.lower()

    def chosen(assignment: Document) -> bool:
        properties = assignment["properties"]
        at = properties["scope"].lower().rstrip("/")
        related = f"{scope}/".startswith(f"{at}/") or (not only_at_scope and f"{at}/".startswith(f"{scope}/"))
        return related and (principal is None or properties["principalId"] == principal.group(1))

    return chosen


def _triple(assignment: Document) -> tuple[str, str, str]:
    properties = assignment["properties"]
    return (
        properties["principalId"].lower(),
        properties["roleDefinitionId"].rsplit("/", 1)[-1].lower(),
        properties["scope"].lower().rstrip("/"),
    )


def _kind(principal: Principal) -> str:
    return "User" if principal.kind == "User" else "ServicePrincipal"


def _scope(call: Call) -> str:
    return "/" + call["scope"].strip("/")


def _assignment_key(call: Call) -> str:
    return f"{_scope(call)}{_ASSIGNMENTS}/{call['name']}".lower()


def _no_role(name: str) -> ApiError:
    return ApiError(
        404,
        "RoleDefinitionDoesNotExist",
        f"The specified role definition with ID '{name.replace('-', '')}' does not exist.",
    )
