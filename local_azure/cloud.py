"""What the services share."""

import uuid
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from local_azure.certificates import Certificates
from local_azure.clock import Clock
from local_azure.faults import Fault, Faults
from local_azure.identity.access import Access
from local_azure.identity.roles import BUILT_IN_ROLES
from local_azure.identity.tokens import Principal, TokenAuthority
from local_azure.page_limit import DEFAULT_PAGE_LIMIT, PageLimit
from local_azure.store import Store, Table

if TYPE_CHECKING:
    from local_azure.batch.jobs import Jobs
    from local_azure.identity.imds import Imds
    from local_azure.nodes import Nodes

_AUTHORIZATION = "Microsoft.Authorization"


@dataclass(frozen=True)
class Options:
    """The flags of `python -m local_azure`; its `--help` explains each."""

    state: Path
    catalog: Path | None = None
    stac_upstream: str | None = None
    demo_items: int = 1000
    geocatalog_rate: int | None = None
    geocatalog_limit: PageLimit = DEFAULT_PAGE_LIMIT
    geocatalog_delay_ms: int = 0
    nodes: int | None = None
    core_quota: int = 100
    job_quota: int = 100
    token_life: int = 3600
    role_delay: float = 0
    shared_keys: bool = False
    instant: bool = False
    record: Path | None = None
    faults: list[Fault] = field(default_factory=list)


@dataclass
class Addresses:
    """Root URLs of the services, without a trailing slash; an account is at `<root>/<account>`."""

    arm: str
    identity: str
    batch: str
    blob: str
    geocatalog: str
    imds: str


class Cloud:
    """One subscription of one tenant on loopback."""

    imds: "Imds"
    jobs: "Jobs"
    nodes: "Nodes"
    # Set by the server when it puts the services together.

    def __init__(self, options: Options, addresses: Addresses) -> None:
        self.options = options
        self.addresses = addresses
        self.store = Store(options.state)
        self.clock = Clock(instant=options.instant)
        self.faults = Faults(options.faults)
        self.certificates = Certificates(options.state / "certificates")
        ids = self.store.table("ids")
        self.tenant_id = _remembered(ids, "tenant")
        self.subscription_id = _remembered(ids, "subscription")
        self.tokens = TokenAuthority(
            options.state / "token-key.pem", self.store.table("principals"), self.tenant_id, options.token_life
        )
        self.role_assignments = self.store.table("roleAssignments")
        self.access = Access(self.role_assignments, BUILT_IN_ROLES, self.clock, options.role_delay)
        self.operator = self._operator()

    @property
    def subscription_scope(self) -> str:
        """ARM id of the subscription."""
        return f"/subscriptions/{self.subscription_id}"

    def _operator(self) -> Principal:
        """Who works with this cloud from outside: Owner of the subscription, with no data action."""
        known = self.tokens.find("operator")
        if known:
            return known
        operator = self.tokens.add("operator", "ManagedIdentity")
        owner = next(role for role in BUILT_IN_ROLES.values() if role.name == "Owner")
        self.assign_role(operator, owner.guid, self.subscription_scope, in_force=True)
        return operator

    def assign_role(self, principal: Principal, role: str, scope: str, *, in_force: bool = False) -> None:
        """Seed a role assignment, as if somebody had made it before this cloud was met."""
        name = str(uuid.uuid5(uuid.NAMESPACE_URL, f"{scope}|{principal.object_id}|{role}"))
        assignment_id = f"{scope}/providers/{_AUTHORIZATION}/roleAssignments/{name}"
        created = "2020-01-01T00:00:00.0000000Z" if in_force else self.clock.now().isoformat()
        self.role_assignments[assignment_id.lower()] = {
            "id": assignment_id,
            "name": name,
            "type": f"{_AUTHORIZATION}/roleAssignments",
            "properties": {
                "roleDefinitionId": f"{self.subscription_scope}/providers/{_AUTHORIZATION}/roleDefinitions/{role}",
                "principalId": principal.object_id,
                "principalType": "ServicePrincipal" if principal.kind != "User" else "User",
                "scope": scope,
                "condition": None,
                "conditionVersion": None,
                "createdOn": created,
                "updatedOn": created,
                "createdBy": None,
                "updatedBy": None,
                "delegatedManagedIdentityResourceId": None,
                "description": None,
            },
        }


def _remembered(ids: Table, name: str) -> str:
    """An id that is made at the first start and kept."""
    if name not in ids:
        ids[name] = {"id": str(uuid.uuid4())}
    return str(ids[name]["id"])
