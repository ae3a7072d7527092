"""Role assignments: slow to work, never working, larger than needed, changed."""

import time
from pathlib import Path

import pytest
from flow_runs import Site, assign, running_site

from spatiobatch.errors import MissingGrantError
from tasks.roles import ROLES

pytestmark = pytest.mark.usefixtures("prefect_server")


def nodes_roles(site: Site) -> list[str]:
    """Names of the roles that the nodes' identity has on the GeoCatalog."""
    azure = site.azure
    identity = azure.identities.user_assigned_identities.get(azure.settings.resource_group, azure.settings.identity)
    names = {role_id: name for name, role_id in ROLES.items()}
    assignments = azure.authorization.role_assignments.list_for_scope(
        azure.settings.geocatalog_id, filter=f"assignedTo('{identity.principal_id}')"
    )
    return [names[assignment.role_definition_id.rsplit("/", 1)[-1]] for assignment in assignments]


def test_roles_that_take_a_while_to_work_are_waited_for(tmp_path: Path) -> None:
    with running_site(tmp_path, "--role-delay", "4") as site:
        began = time.monotonic()
        changes = site.provision()
        assert time.monotonic() - began > 4
        assert any(change.kind == "pool" and change.changed for change in changes)
        asked = site.now
        assert not [change for change in site.provision() if change.changed]
        assert site.writes(since=asked) == []


def test_grant_of_the_operator_that_never_works_is_named_after_the_window(tmp_path: Path) -> None:
    fault = "service=blob,method=HEAD,path=scripts/,status=403,times=inf"
    flags = ("--clock", "instant", "--fault", fault)
    with running_site(tmp_path, *flags, grant_timeout_minutes="0.02") as site:
        with pytest.raises(MissingGrantError, match=r"refused for 0.02 minutes: 403") as caught:
            site.provision()
        operator = site.azure.operator[0]
        (command,) = caught.value.commands.values()
        assert f'--role "Storage Blob Data Contributor" --assignee-object-id {operator} ' in command


@pytest.mark.parametrize(
    ("fault", "role", "scope"),
    [
        ("service=geocatalog,path=/stac", "GeoCatalog Reader", "/geoCatalogs/"),
        ("service=blob,method=PUT,path=result.json", "Storage Blob Data Contributor", "/containers/results"),
        ("service=blob,method=GET,path=scripts/probe", "Storage Blob Data Reader", "/containers/scripts"),
    ],
    ids=["catalog", "results", "scripts"],
)
def test_grant_of_the_nodes_that_never_works_is_named_after_the_window(
    tmp_path: Path, fault: str, role: str, scope: str
) -> None:
    flags = ("--clock", "instant", "--fault", f"{fault},status=403,times=inf")
    with running_site(tmp_path, *flags, grant_timeout_minutes="0.01") as site:
        with pytest.raises(MissingGrantError, match=r"the probe was refused for 0.01 minutes") as caught:
            site.provision()
        azure = site.azure
        nodes = azure.identities.user_assigned_identities.get("spatiobatch", "spatiobatch-nodes").principal_id
        (command,) = caught.value.commands.values()
        assert command.startswith(f'az role assignment create --role "{role}" --assignee-object-id {nodes} ')
        assert scope in command


def test_larger_role_is_given_on_request_and_taken_back_when_no_longer_asked_for(site: Site) -> None:
    site.with_(geocatalog_role="GeoCatalog Administrator").provision()
    assert nodes_roles(site) == ["GeoCatalog Administrator"]
    changes = site.provision()
    assert [change.detail for change in changes if change.changed] == ["was GeoCatalog Administrator"]
    assert nodes_roles(site) == ["GeoCatalog Reader"]


@pytest.mark.parametrize("role", ["Storage Blob Data Contributor", "Storage Blob Data Owner"])
def test_same_or_larger_role_at_a_wider_scope_is_enough(site: Site, role: str) -> None:
    azure = site.azure
    azure.resources.resource_groups.create_or_update(azure.settings.resource_group, {"location": "uksouth"})
    assign(site, role, azure.operator[0], azure.settings.arm_id())
    operators = f"Storage Blob Data Contributor of {azure.operator[0][:8]}"
    (change,) = [change for change in site.provision() if change.name.startswith(operators)]
    assert not change.changed


def test_role_that_was_taken_away_is_granted_again_and_probed(site: Site) -> None:
    site.provision()
    azure = site.azure
    catalog = azure.settings.geocatalog_id
    for assignment in list(azure.authorization.role_assignments.list_for_scope(catalog, filter="atScope()")):
        if assignment.scope.lower() == catalog.lower() and assignment.description:
            azure.authorization.role_assignments.delete(catalog, assignment.name)
    asked = site.now
    assert [c.kind for c in site.provision() if c.changed] == ["role assignment"]
    assert any("/jobs?" in line for line in site.writes(since=asked))
