"""Who may do what: Azure's role-based access control, actions and data actions apart.

https://learn.microsoft.com/azure/role-based-access-control/role-definitions
"""

from dataclasses import dataclass
from datetime import timedelta
from fnmatch import fnmatchcase

from local_azure.clock import Clock, parse_time
from local_azure.errors import ApiError
from local_azure.identity.tokens import Principal
from local_azure.store import Document, Table


@dataclass(frozen=True)
class Role:
    """A built-in role definition; patterns may hold `*` and ignore letter case."""

    guid: str
    name: str
    actions: tuple[str, ...] = ()
    not_actions: tuple[str, ...] = ()
    data_actions: tuple[str, ...] = ()
    not_data_actions: tuple[str, ...] = ()

    def allows(self, operation: str, *, data: bool) -> bool:
        """Whether the role grants an action, or a data action."""
        granted = self.data_actions if data else self.actions
        withheld = self.not_data_actions if data else self.not_actions
        return _matches(operation, granted) and not _matches(operation, withheld)


def _matches(operation: str, patterns: tuple[str, ...]) -> bool:
    return any(fnmatchcase(operation.lower(), pattern.lower()) for pattern in patterns)


class Access:
    """Decides by the role assignments that ARM keeps.

    Args:
        assignments: ARM documents of `Microsoft.Authorization/roleAssignments`, by id in lower case.
        roles: the role definitions by GUID.
        clock: judges whether an assignment has spread.
        delay_seconds: how long an assignment takes to work
            (https://learn.microsoft.com/azure/role-based-access-control/troubleshooting: up to ten minutes).
    """

    def __init__(self, assignments: Table, roles: dict[str, Role], clock: Clock, delay_seconds: float) -> None:
        self._assignments = assignments
        self._roles = roles
        self._clock = clock
        self._delay = timedelta(seconds=delay_seconds)

    def allowed(self, principal: Principal, operation: str, scope: str, *, data: bool = False) -> bool:
        """Whether any assignment at `scope` or above lets the principal do this."""
        return any(
            self._roles[role].allows(operation, data=data)
            for role in self._roles_of(principal, scope)
            if role in self._roles
        )

    def require(self, principal: Principal, operation: str, scope: str, *, data: bool = False) -> None:
        """Let the principal pass.

        Raises:
            ApiError: 403 `AuthorizationFailed`, in ARM's words.
        """
        if not self.allowed(principal, operation, scope, data=data):
            raise ApiError(
                403,
                "AuthorizationFailed",
                f"The client '{principal.client_id}' with object id '{principal.object_id}' does not have "
                f"authorization to perform action '{operation}' over scope '{scope}' or the scope is invalid. "
                "If access was recently granted, please refresh your credentials.",
            )

    def _roles_of(self, principal: Principal, scope: str) -> list[str]:
        return [
            document["properties"]["roleDefinitionId"].rsplit("/", 1)[-1].lower()
            for document in self._assignments.values()
            if document["properties"]["principalId"] == principal.object_id
            and _covers(document["properties"]["scope"], scope)
            and self._works(document)
        ]

    def _works(self, assignment: Document) -> bool:
        since = parse_time(assignment["properties"]["createdOn"])
        return self._clock.elapsed(since, self._delay.total_seconds())


def _covers(assigned: str, scope: str) -> bool:
    assigned, scope = assigned.lower().rstrip("/"), scope.lower().rstrip("/")
    return scope == assigned or scope.startswith(assigned + "/")
