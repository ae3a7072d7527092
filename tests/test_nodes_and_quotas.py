"""What keeps a pool from having nodes is said in a sentence; what passes is tried again."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from azure.mgmt.batch.models import VirtualMachineFamilyCoreQuota
from flow_runs import Site, running_site

from spatiobatch.changes import Outcome
from spatiobatch.errors import NodeError, ProbeError, QuotaTooSmallError, ServiceError
from tasks.batch_account import check_quota

pytestmark = pytest.mark.usefixtures("prefect_server")


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory, prefect_server: None) -> Iterator[Site]:
    """A subscription whose Batch accounts may have two cores."""
    flags = ("--clock", "instant", "--core-quota", "2")
    with running_site(tmp_path_factory.mktemp("small"), *flags, pool_scaling="fixed") as site:
        site.provision()
        yield site


def account_of(site: Site) -> Any:
    settings = site.azure.settings
    return site.azure.batch_management.batch_account.get(settings.resource_group, settings.batch_account_name)


def pools_of(site: Site) -> list[str]:
    settings = site.azure.settings
    pools = site.azure.batch_management.pool.list_by_batch_account(settings.resource_group, settings.batch_account_name)
    return [pool.name for pool in pools]


@pytest.mark.parametrize(("spot", "what"), [("false", "dedicated cores"), ("true", "Spot cores")])
def test_quota_that_is_too_small_is_one_sentence_before_a_pool_is_made(small: Site, spot: str, what: str) -> None:
    sentence = (
        rf"^The pool needs 6 {what} but Batch account \w+ has a quota of 2: request an increase to at least 6 {what}"
    )
    with pytest.raises(QuotaTooSmallError, match=sentence):
        small.with_(pool="large", pool_nodes="3", pool_spot=spot).provision()
    assert "large" not in pools_of(small)


def test_quota_of_zero_is_one_sentence(tmp_path: Path) -> None:
    with running_site(tmp_path, "--clock", "instant", "--core-quota", "0") as site:
        with pytest.raises(QuotaTooSmallError, match=r"needs 2 dedicated cores .* quota of 0: request an increase"):
            site.provision()
        assert pools_of(site) == []


@pytest.mark.parametrize("quotas", [[("standardDSv3Family", 1)], [("standardDv3Family", 100)]], ids=["small", "none"])
def test_quota_of_the_vm_family_is_counted_where_it_is_enforced(small: Site, quotas: list[tuple[str, int]]) -> None:
    account = account_of(small)
    account.properties.dedicated_core_quota_per_vm_family = [
        VirtualMachineFamilyCoreQuota({"name": name, "coreQuota": cores}) for name, cores in quotas
    ]
    with pytest.raises(QuotaTooSmallError, match="needs 2 cores of the standardDSv3Family family"):
        check_quota.fn(small.azure, account)
    account.properties.dedicated_core_quota_per_vm_family_enforced = False
    check_quota.fn(small.azure, account)


def test_account_without_quotas_of_its_own_is_not_asked(small: Site) -> None:
    account = account_of(small)
    account.properties.dedicated_core_quota = None  # UserSubscription mode
    account.properties.dedicated_core_quota_per_vm_family_enforced = False
    check_quota.fn(small.azure, account)


def test_resize_error_surfaces_and_a_later_provision_goes_on(small: Site) -> None:
    second = small.with_(pool="second")
    with pytest.raises(NodeError, match=r"Pool second has no node .*: AccountCoreQuotaReached: The specified account"):
        second.provision()
    small.with_(pool_nodes="0").provision()
    second.provision()
    small.with_(pool="second", pool_nodes="0").provision()
    small.provision()


def test_start_task_that_fails_is_told_with_the_nodes_own_stderr(small: Site) -> None:
    small.with_(pool_nodes="0").provision()
    azure = small.azure
    where = (azure.settings.resource_group, azure.settings.batch_account_name)
    ours = azure.batch_management.pool.get(*where, "spatiobatch")
    identities = {name: {} for name in ours.identity.user_assigned_identities}
    command = "/bin/bash -c 'echo fetching; echo there is no disk left >&2; exit 3'"
    body = {
        "identity": {"type": "UserAssigned", "userAssignedIdentities": identities},
        "properties": {
            "vmSize": "Standard_D2s_v3",
            "deploymentConfiguration": ours.properties.deployment_configuration.as_dict(),
            "scaleSettings": {"fixedScale": {"targetDedicatedNodes": 1}},
            "startTask": {"commandLine": command, "waitForSuccess": True},
        },
    }
    azure.batch_management.pool.create(*where, "broken", body)
    with pytest.raises(NodeError, match=r"the start task of tvmps_\w+ failed with exit code 3") as caught:
        small.with_(pool="broken").provision()
    assert str(caught.value).endswith("Its stderr ends:\nthere is no disk left")
    azure.batch_management.pool.begin_delete(*where, "broken").result()
    small.provision()


def test_start_task_of_ours_that_is_killed_is_told(tmp_path: Path) -> None:
    flags = ("--clock", "instant", "--fault", "service=node,path=start,action=kill,times=inf")
    with running_site(tmp_path, *flags) as site, pytest.raises(NodeError, match=r"the start task of tvmps_.* failed"):
        site.provision()


def test_nodes_that_are_not_ready_in_time_are_told_with_their_states(tmp_path: Path) -> None:
    with (
        running_site(tmp_path, "--clock", "instant", pool_scaling="fixed", node_timeout_minutes="0.0001") as site,
        pytest.raises(NodeError, match=r"after 0.0001 minutes its nodes are still: (none|creating|start|waiting)"),
    ):
        site.provision()


def test_pool_without_nodes_is_not_probed(small: Site) -> None:
    asked = small.now
    small.with_(pool="empty", pool_nodes="0").provision()
    assert not [line for line in small.writes(since=asked) if "/jobs?" in line]


STEPS = {
    "storage": "service=arm,method=PUT,path=storageAccounts/[^/]+$",
    "identity": "service=arm,method=PUT,path=userAssignedIdentities/",
    "batch": "service=arm,method=PUT,path=batchAccounts/[^/]+$",
    "container": "service=arm,method=PUT,path=containers/results",
    "role": "service=arm,method=PUT,path=roleAssignments/",
    "pool": "service=arm,method=PUT,path=pools/",
    "group": "service=arm,method=PUT,path=resourcegroups/[^/]+$",
    "name": "service=arm,method=POST,path=checkNameAvailability",
    "read": "service=arm,method=GET,path=pools/",
    "blob": "service=blob,method=PUT,path=scripts/",
    "job": "service=batch,method=POST,path=jobs$",
}


def test_503_at_any_step_is_tried_again(tmp_path: Path) -> None:
    faults = [flag for step in STEPS.values() for flag in ("--fault", f"{step},status=503")]
    with running_site(tmp_path, "--clock", "instant", *faults) as site:
        outcomes = {change.outcome for change in site.provision()}
        struck = [request for request in site.requests() if request["status"] == 503]
    assert outcomes <= {Outcome.created, Outcome.unchanged}
    assert len(struck) == len(STEPS)


@pytest.fixture(scope="module")
def faulty(tmp_path_factory: pytest.TempPathFactory, prefect_server: None) -> Iterator[Site]:
    """After a provision that met a long burst of 503 at its second step and was refused at the third."""
    burst = "service=arm,method=PUT,path=resourcegroups/[^/]+$,status=503,times=5"
    refusal = "service=arm,method=PUT,path=storageAccounts/[^/]+$,status=403,times=inf"
    flags = ("--clock", "instant", "--fault", burst, "--fault", refusal)
    with running_site(tmp_path_factory.mktemp("faulty"), *flags) as site:
        with pytest.raises(ServiceError, match="with 403: Forbidden"):
            site.provision()
        yield site


def statuses(site: Site, path: str) -> list[int]:
    """What the PUT requests on that path were answered."""
    return [found["status"] for found in site.requests() if found["method"] == "PUT" and re.search(path, found["url"])]


def test_burst_that_outlasts_the_sdks_patience_is_tried_again(faulty: Site) -> None:
    assert statuses(faulty, r"resourcegroups/[^/]+\?") == [503] * 5 + [201]


def test_403_is_not_tried_again(faulty: Site) -> None:
    assert statuses(faulty, r"storageAccounts/[^/]+\?") == [403]


def test_probe_that_was_killed_runs_again(tmp_path: Path) -> None:
    flags = ("--clock", "instant", "--fault", "service=node,path=probe-,action=kill,times=2")
    with running_site(tmp_path, *flags) as site:
        assert site.provision()
        assert not any(change.changed for change in site.provision())


def test_probe_that_is_always_killed_is_told(tmp_path: Path) -> None:
    flags = ("--clock", "instant", "--fault", "service=node,path=probe-,action=kill,times=inf")
    with running_site(tmp_path, *flags) as site, pytest.raises(ProbeError, match="exit code 137"):
        site.provision()
