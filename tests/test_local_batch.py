"""local_azure's Batch data plane, through the real SDKs."""

import contextlib
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import requests
from azure.batch import BatchClient
from azure.batch import models as batch
from azure.core import MatchConditions
from azure.core.credentials import AzureNamedKeyCredential
from azure.core.exceptions import HttpResponseError, ResourceNotFoundError
from azure.identity import ManagedIdentityCredential
from azure.mgmt.batch import BatchManagementClient
from azure.mgmt.resource.resources import ResourceManagementClient
from conftest import running_azure
from storage_accounts import assign_role

from local_azure.batch.durations import normal_duration
from local_azure.batch.odata import parse_filter

_ARM_SCOPE = "https://management.azure.com/.default"
_BATCH_SCOPE = "https://batch.core.windows.net//.default"
_DATA_CONTRIBUTOR = "6aaa78f1-f7de-44ca-8722-c64a23943cae"
_ACCOUNT_READER = "11076f67-66f6-4be0-8f6b-f0609fd05cc9"
_UBUNTU = {"publisher": "canonical", "offer": "ubuntu-24_04-lts", "sku": "server"}
_POOL = batch.BatchPoolInfo(pool_id="nowhere")


@contextlib.contextmanager
def _management(azure: dict[str, str]) -> Iterator[BatchManagementClient]:
    arm = {"base_url": azure["LOCAL_AZURE_ARM_URL"], "credential_scopes": [_ARM_SCOPE]}
    with ManagedIdentityCredential() as credential:
        with ResourceManagementClient(credential, azure["LOCAL_AZURE_SUBSCRIPTION_ID"], **arm) as client:
            client.resource_groups.create_or_update("batch", {"location": "westeurope"})
        with BatchManagementClient(credential, azure["LOCAL_AZURE_SUBSCRIPTION_ID"], **arm) as client:
            yield client


def _create_account(azure: dict[str, str], name: str, *, role: str = _DATA_CONTRIBUTOR, keys: bool = False) -> str:
    """Make an account through ARM, with a role for the operator; its endpoint."""
    modes = ["AAD", "SharedKey"] if keys else ["AAD"]
    body = {"location": "westeurope", "properties": {"allowedAuthenticationModes": modes}}
    with _management(azure) as client:
        account = client.batch_account.begin_create("batch", name, body, polling_interval=0.1).result()
    if role:
        assign_role(azure, account.id, role)
    return f"https://{account.properties.account_endpoint}"


@contextlib.contextmanager
def _client(endpoint: str) -> Iterator[BatchClient]:
    with (
        ManagedIdentityCredential() as credential,
        BatchClient(endpoint=endpoint, credential=credential, credential_scopes=[_BATCH_SCOPE]) as client,
    ):
        yield client


@pytest.fixture(scope="module")
def endpoint(shared_azure: dict[str, str]) -> Iterator[str]:
    """An account of this module's stand-in, on which the operator is Batch Data Contributor."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in shared_azure.items():
            patch.setenv(name, value)
        yield _create_account(shared_azure, "tests")


@pytest.fixture
def client(azure: dict[str, str], endpoint: str) -> Iterator[BatchClient]:
    """The real SDK on that account."""
    with _client(endpoint) as client:
        yield client


@pytest.fixture
def job(client: BatchClient, request: pytest.FixtureRequest) -> Iterator[str]:
    """An empty job of this test's own, on a pool that does not exist."""
    name = request.node.name.split("[")[0][-64:]
    client.create_job(batch.BatchJobCreateOptions(id=name, pool_info=_POOL))
    yield name
    with contextlib.suppress(HttpResponseError):
        client.begin_delete_job(name, polling_interval=0.1).result()


def _task(name: str, **settings: Any) -> batch.BatchTaskCreateOptions:
    return batch.BatchTaskCreateOptions(id=name, command_line="/bin/true", **settings)


@contextlib.contextmanager
def _refused(status: int, code: str) -> Iterator[None]:
    with pytest.raises(HttpResponseError) as refusal:
        yield
    assert (refusal.value.status_code, refusal.value.error.code) == (status, code)


def _raw(method: str, url: str, *, scope: str = _BATCH_SCOPE, **options: Any) -> requests.Response:
    with ManagedIdentityCredential() as credential:
        headers = {"Authorization": f"Bearer {credential.get_token(scope).token}", **options.pop("headers", {})}
    return requests.request(method, f"{url}?api-version=2025-06-01", headers=headers, timeout=10, **options)


def _until(condition: Any) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_new_job_has_the_defaults_of_azure(client: BatchClient, job: str) -> None:
    made = client.get_job(job).as_dict()
    assert made["state"] == "active"
    assert made["constraints"] == {"maxWallClockTime": "P10675199DT2H48M5.4775807S", "maxTaskRetryCount": 0}
    assert (made["priority"], made["maxParallelTasks"], made["usesTaskDependencies"]) == (0, -1, False)
    assert (made["onAllTasksComplete"], made["onTaskFailure"]) == ("noaction", "noaction")
    assert made["executionInfo"]["poolId"] == "nowhere"


def test_answers_carry_the_headers_of_the_service(azure: dict[str, str], endpoint: str, job: str) -> None:
    asked = {"client-request-id": "mine", "return-client-request-id": "true"}
    answer = _raw("GET", f"{endpoint}/jobs/{job}", headers=asked)
    assert answer.headers["DataServiceVersion"] == "3.0"
    assert answer.headers["Content-Type"] == "application/json;odata=minimalmetadata"
    assert answer.headers["ETag"] == answer.json()["eTag"]
    assert answer.headers["client-request-id"] == "mine"
    assert answer.json()["odata.metadata"] == f"{endpoint}/$metadata#jobs/@Element"


def test_error_has_the_envelope_of_the_service(azure: dict[str, str], endpoint: str) -> None:
    answer = _raw("POST", f"{endpoint}/jobs", json={"id": "not an id", "poolInfo": {"poolId": "p"}})
    error = answer.json()
    assert (answer.status_code, error["code"]) == (400, "InvalidPropertyValue")
    assert error["message"]["lang"] == "en-US"
    assert f"\nRequestId:{answer.headers['request-id']}\nTime:" in error["message"]["value"]
    assert {"key": "PropertyName", "value": "id"} in error["values"]


def test_property_that_the_service_does_not_know_is_refused(azure: dict[str, str], endpoint: str) -> None:
    body = {"id": "j", "poolInfo": {"poolId": "p"}, "poolInformation": {}}
    assert _raw("POST", f"{endpoint}/jobs", json=body).json()["code"] == "InvalidRequestBody"


def test_numbers_written_as_text_are_understood(client: BatchClient, endpoint: str, job: str) -> None:
    assert _raw("PATCH", f"{endpoint}/jobs/{job}", json={"priority": "3"}).status_code == 200
    assert client.get_job(job).priority == 3


@pytest.mark.parametrize(
    ("version", "code"),
    [("", "MissingRequiredQueryParameter"), ("?api-version=soon", "UnsupportedRequestVersion")],
)
def test_request_without_a_version_of_the_service_is_refused(
    azure: dict[str, str], endpoint: str, version: str, code: str
) -> None:
    with ManagedIdentityCredential() as credential:
        headers = {"Authorization": f"Bearer {credential.get_token(_BATCH_SCOPE).token}"}
    answer = requests.get(f"{endpoint}/jobs{version}", headers=headers, timeout=10)
    assert (answer.status_code, answer.json()["code"]) == (400, code)


def test_unknown_route_is_answered_501(azure: dict[str, str], endpoint: str) -> None:
    assert _raw("GET", f"{endpoint}/jobschedules").status_code == 501


def test_job_id_is_taken_in_any_letter_case(client: BatchClient, job: str) -> None:
    with _refused(409, "JobExists"):
        client.create_job(batch.BatchJobCreateOptions(id=job.upper(), pool_info=_POOL))


def test_update_against_a_stale_etag_is_refused(client: BatchClient, job: str) -> None:
    before = client.get_job(job).etag
    change = batch.BatchJobUpdateOptions(priority=5)
    client.update_job(job, change, etag=before, match_condition=MatchConditions.IfNotModified)
    with _refused(412, "ConditionNotMet"):
        client.update_job(job, change, etag=before, match_condition=MatchConditions.IfNotModified)


def test_replaced_job_goes_back_to_defaults(client: BatchClient, job: str) -> None:
    client.update_job(job, batch.BatchJobUpdateOptions(priority=5, max_parallel_tasks=2))
    replacement = client.get_job(job)
    replacement.priority = None
    client.replace_job(job, replacement)
    assert (client.get_job(job).priority, client.get_job(job).max_parallel_tasks) == (0, 2)


def test_terminatejob_can_not_be_taken_back(client: BatchClient, job: str) -> None:
    client.create_task(job, _task("waiting"))
    client.update_job(job, batch.BatchJobUpdateOptions(all_tasks_complete_mode="terminatejob"))
    with _refused(400, "InvalidPropertyValue"):
        client.update_job(job, batch.BatchJobUpdateOptions(all_tasks_complete_mode="noaction"))


def test_empty_job_with_terminatejob_completes_at_once(client: BatchClient, job: str) -> None:
    client.update_job(job, batch.BatchJobUpdateOptions(all_tasks_complete_mode="terminatejob"))
    assert client.get_job(job).state == "terminating"
    _until(lambda: client.get_job(job).state == "completed")
    assert client.get_job(job).execution_info.termination_reason == "AllTasksComplete"


def test_terminated_job_takes_no_tasks_and_leaves_the_queued_active(client: BatchClient, job: str) -> None:
    client.create_task(job, _task("queued"))
    client.begin_terminate_job(job, options={"terminateReason": "enough"}, polling_interval=0.1).result()
    ended = client.get_job(job)
    assert (ended.state, ended.execution_info.termination_reason) == ("completed", "enough")
    assert client.get_task(job, "queued").state == "active"
    with _refused(409, "JobCompleted"):
        client.create_task(job, _task("late"))


def test_wall_clock_ends_a_job(client: BatchClient, job: str) -> None:
    limit = batch.BatchJobConstraints(max_wall_clock_time=timedelta(seconds=1))
    client.update_job(job, batch.BatchJobUpdateOptions(constraints=limit))
    _until(lambda: client.get_job(job).state == "completed")
    assert client.get_job(job).execution_info.termination_reason == "MaxWallClockTimeExpiry"


def test_wall_clock_counts_from_the_creation_of_the_job(client: BatchClient, job: str) -> None:
    time.sleep(0.2)
    limit = batch.BatchJobConstraints(max_wall_clock_time=timedelta(milliseconds=100))
    client.update_job(job, batch.BatchJobUpdateOptions(constraints=limit))
    _until(lambda: client.get_job(job).state in ("terminating", "completed"))


def test_deleted_job_is_deleting_until_it_is_gone(client: BatchClient, job: str) -> None:
    deletion = client.begin_delete_job(job, polling_interval=0.1)
    with _refused(409, "JobBeingDeleted"):
        client.update_job(job, batch.BatchJobUpdateOptions(priority=1))
    deletion.result()
    with pytest.raises(ResourceNotFoundError):
        client.get_job(job)


def test_disabled_job_goes_on_when_it_is_enabled(client: BatchClient, job: str) -> None:
    client.begin_disable_job(job, {"disableTasks": "requeue"}, polling_interval=0.1).result()
    assert client.get_job(job).state == "disabled"
    client.begin_enable_job(job, polling_interval=0.1).result()
    assert client.get_job(job).state == "active"


def test_active_jobs_are_limited_by_the_quota(start_azure: Any) -> None:
    endpoint = _create_account(start_azure("--job-quota", "1", "--clock", "instant"), "small")
    with _client(endpoint) as client:
        client.create_job(batch.BatchJobCreateOptions(id="first", pool_info=_POOL))
        with _refused(409, "ActiveJobAndScheduleQuotaReached"):
            client.create_job(batch.BatchJobCreateOptions(id="second", pool_info=_POOL))
        client.begin_terminate_job("first", options={"terminateReason": "room"}, polling_interval=0.1).result()
        client.create_job(batch.BatchJobCreateOptions(id="second", pool_info=_POOL))


def test_job_manager_is_a_task_of_its_job(client: BatchClient, job: str) -> None:
    manager = batch.BatchJobManagerTask(id="manager", command_line="/bin/true")
    client.create_job(batch.BatchJobCreateOptions(id=f"{job[:50]}-m", pool_info=_POOL, job_manager_task=manager))
    assert client.get_job(f"{job[:50]}-m").job_manager_task.kill_job_on_completion
    assert client.get_task(f"{job[:50]}-m", "manager").state == "active"


def test_jobs_are_filtered_selected_and_paged(client: BatchClient, job: str) -> None:
    for number in range(3):
        client.create_job(batch.BatchJobCreateOptions(id=f"page-{number}", pool_info=_POOL))
    wanted = "startswith(id, 'page-') and (state eq 'active' or state eq 'disabled')"
    found = list(client.list_jobs(filter=wanted, select=["id"], max_results=2))
    assert [one.id for one in found] == ["page-0", "page-1", "page-2"]
    assert found[0].state is None


def test_each_task_of_a_collection_has_a_result_of_its_own(client: BatchClient, job: str) -> None:
    client.create_task(job, _task("known"))
    group = batch.BatchTaskGroup(task_values=[_task("new"), _task("KNOWN"), _task("no id!")])
    new, known, wrong = client.create_task_collection(job, group).result_values
    assert (new.status, new.location) == ("Success", client.get_task(job, "new").url)
    assert (known.status, known.error.code) == ("clienterror", "TaskExists")
    assert (wrong.status, wrong.error.code) == ("clienterror", "InvalidPropertyValue")


def test_collection_takes_a_hundred_tasks(client: BatchClient, job: str) -> None:
    tasks = [_task(f"t{number}") for number in range(101)]
    with _refused(400, "InvalidPropertyValue"):
        client.create_task_collection(job, batch.BatchTaskGroup(task_values=tasks))
    client.create_task_collection(job, batch.BatchTaskGroup(task_values=tasks[:100]))
    assert client.get_job_task_counts(job).task_counts.active == 100


def test_body_beyond_a_megabyte_is_refused(client: BatchClient, job: str) -> None:
    large = [batch.EnvironmentSetting(name="LARGE", value="x" * 2**20)]
    with _refused(413, "RequestBodyTooLarge"):
        client.create_task(job, _task("large", environment_settings=large))


def test_thousands_of_tasks_are_counted_and_listed_whole(client: BatchClient, job: str) -> None:
    client.create_tasks(job, [_task(f"t{number}", required_slots=2) for number in range(2500)])
    counts = client.get_job_task_counts(job)
    assert (counts.task_counts.active, counts.task_slot_counts.active) == (2500, 5000)
    assert len({task.id for task in client.list_tasks(job, select=["id"])}) == 2500


def test_new_task_has_the_defaults_of_azure(client: BatchClient, job: str) -> None:
    limits = batch.BatchJobConstraints(max_task_retry_count=3)
    client.update_job(job, batch.BatchJobUpdateOptions(constraints=limits))
    client.create_task(job, _task("plain"))
    made = client.get_task(job, "plain").as_dict()
    assert made["constraints"] == {
        "maxWallClockTime": "P10675199DT2H48M5.4775807S",
        "retentionTime": "P7D",
        "maxTaskRetryCount": 3,
    }
    assert made["executionInfo"] == {"retryCount": 0, "requeueCount": 0}
    assert made["userIdentity"] == {"autoUser": {"scope": "pool", "elevationLevel": "nonadmin"}}


def test_private_fields_of_a_document_are_never_answered(client: BatchClient, job: str) -> None:
    client.create_task(job, _task("plain"))
    assert not [name for name in {**client.get_task(job, "plain"), **client.get_job(job)} if name.startswith("_")]


def test_dependencies_need_a_job_that_uses_them(client: BatchClient, job: str) -> None:
    depends = batch.BatchTaskDependencies(task_ids=["other"])
    with _refused(400, "TaskDependenciesNotSpecifiedOnJob"):
        client.create_task(job, _task("dependent", depends_on=depends))


@pytest.mark.parametrize(
    "files",
    [
        {"resourceFiles": [{"filePath": "a.py"}]},
        {"resourceFiles": [{"httpUrl": "https://127.0.0.1/a", "storageContainerUrl": "https://127.0.0.1/b"}]},
        {"resourceFiles": [{"httpUrl": "https://127.0.0.1/a"}]},
        {"resourceFiles": [{"httpUrl": "https://127.0.0.1/a", "filePath": "a", "blobPrefix": "b"}]},
        {"outputFiles": [{"filePattern": "*.txt", "uploadOptions": {"uploadCondition": "taskcompletion"}}]},
    ],
)
def test_task_with_incomplete_files_is_refused(client: BatchClient, job: str, files: dict[str, Any]) -> None:
    with pytest.raises(HttpResponseError) as refusal:
        client.create_task(job, {"id": "task", "commandLine": "/bin/true", **files})
    assert refusal.value.status_code == 400


def test_task_that_depends_on_too_many_is_refused(client: BatchClient) -> None:
    client.create_job({"id": "depending", "poolInfo": {"poolId": "nowhere"}, "usesTaskDependencies": True})
    ids = [f"{number:064}" for number in range(1001)]
    client.create_task("depending", _task("many", depends_on=batch.BatchTaskDependencies(task_ids=ids[:1000])))
    with _refused(400, "TaskDependencyListTooLong"):
        client.create_task("depending", _task("more", depends_on=batch.BatchTaskDependencies(task_ids=ids)))


def test_job_whose_manager_is_refused_is_not_made(client: BatchClient) -> None:
    manager = {"id": "m", "commandLine": "/bin/true", "resourceFiles": [{}]}
    with _refused(400, "InvalidPropertyValue"):
        client.create_job({"id": "unmade", "poolInfo": {"poolId": "p"}, "jobManagerTask": manager})
    with _refused(404, "JobNotFound"):
        client.get_job("unmade")


def test_task_that_its_user_ends_has_failed_with_task_ended(client: BatchClient, job: str) -> None:
    client.create_task(job, _task("ended"))
    client.terminate_task(job, "ended")
    ended = client.get_task(job, "ended")
    assert (ended.state, ended.previous_state, ended.execution_info.result) == ("completed", "active", "failure")
    assert ended.execution_info.failure_info.code == "TaskEnded"
    assert client.get_job_task_counts(job).task_counts.failed == 1
    with _refused(409, "TaskCompleted"):
        client.terminate_task(job, "ended")


def test_failed_task_can_be_reactivated_until_its_job_ends(client: BatchClient, job: str) -> None:
    client.create_task(job, _task("again"))
    with _refused(409, "TaskNotCompleted"):
        client.reactivate_task(job, "again")
    client.terminate_task(job, "again")
    client.reactivate_task(job, "again")
    assert client.get_task(job, "again").state == "active"
    client.begin_terminate_job(job, options={"terminateReason": "enough"}, polling_interval=0.1).result()
    with _refused(409, "JobCompleted"):
        client.reactivate_task(job, "again")


def test_deleted_task_is_gone_and_no_longer_counted(client: BatchClient, job: str) -> None:
    client.create_task(job, _task("gone"))
    client.delete_task(job, "gone")
    with _refused(404, "TaskNotFound"):
        client.get_task(job, "gone")
    assert client.get_job_task_counts(job).task_counts.active == 0


def test_files_of_a_queued_task_can_not_be_read(client: BatchClient, job: str) -> None:
    client.create_task(job, _task("queued"))
    with _refused(409, "OperationInvalidForCurrentState"):
        list(client.list_task_files(job, "queued"))


def test_account_made_again_knows_nothing_of_the_jobs_before(azure: dict[str, str]) -> None:
    for role in (_DATA_CONTRIBUTOR, ""):  # A role assignment outlives what it was made for.
        with _client(_create_account(azure, "again", role=role)) as client:
            assert list(client.list_jobs()) == []
            client.create_job(batch.BatchJobCreateOptions(id="j", pool_info=_POOL))
            client.create_task("j", _task("t"))
            assert client.get_job_task_counts("j").task_counts.active == 1
        with _management(azure) as management:
            management.batch_account.begin_delete("batch", "again", polling_interval=0.1).result()


def test_job_actions_need_a_data_action(azure: dict[str, str]) -> None:
    endpoint = _create_account(azure, "ownersonly", role="")
    with _client(endpoint) as client:
        assert list(client.list_pools()) == []
        with _refused(403, "AuthorizationFailed"):
            list(client.list_jobs())


def test_reader_may_read_jobs_and_not_write_them(azure: dict[str, str]) -> None:
    endpoint = _create_account(azure, "readersonly", role=_ACCOUNT_READER)
    with _client(endpoint) as client:
        assert list(client.list_jobs()) == []
        with _refused(403, "AuthorizationFailed"):
            client.create_job(batch.BatchJobCreateOptions(id="j", pool_info=_POOL))


def test_token_for_another_service_is_refused(azure: dict[str, str], endpoint: str) -> None:
    answer = _raw("GET", f"{endpoint}/jobs", scope=_ARM_SCOPE)
    assert (answer.status_code, answer.json()["code"]) == (401, "AuthenticationFailed")


def test_unknown_account_is_not_found(azure: dict[str, str]) -> None:
    assert _raw("GET", f"{azure['LOCAL_AZURE_BATCH_URL']}/nobody/jobs").status_code == 404


def test_shared_key_works_where_the_account_allows_it(azure: dict[str, str]) -> None:
    endpoint = _create_account(azure, "withkeys", keys=True)
    with _management(azure) as management:
        key = management.batch_account.get_keys("batch", "withkeys").primary
    with BatchClient(endpoint=endpoint, credential=AzureNamedKeyCredential("withkeys", key)) as client:
        client.create_job(batch.BatchJobCreateOptions(id="j", pool_info=_POOL))
        assert [job.id for job in client.list_jobs(filter="id eq 'j'", max_results=5)] == ["j"]
    wrong = AzureNamedKeyCredential("withkeys", "d3Jvbmc=")
    with BatchClient(endpoint=endpoint, credential=wrong) as client, _refused(403, "AuthenticationFailed"):
        client.get_job("j")


def test_shared_key_is_refused_where_the_account_does_not_allow_it(azure: dict[str, str], endpoint: str) -> None:
    credential = AzureNamedKeyCredential("tests", "d3Jvbmc=")
    with BatchClient(endpoint=endpoint, credential=credential) as client, _refused(403, "AuthenticationFailed"):
        list(client.list_jobs())


def test_pool_of_arm_is_the_same_on_the_data_plane(azure: dict[str, str], client: BatchClient) -> None:
    machine = {"imageReference": _UBUNTU, "nodeAgentSkuId": "batch.node.ubuntu 24.04"}
    user = {"autoUser": {"scope": "Pool", "elevationLevel": "Admin"}}
    properties = {
        "vmSize": "STANDARD_D2S_V3",
        "deploymentConfiguration": {"virtualMachineConfiguration": machine},
        "scaleSettings": {"autoScale": {"formula": "$TargetDedicatedNodes = 0;", "evaluationInterval": "PT5M"}},
        "startTask": {"commandLine": "/bin/true", "userIdentity": user, "waitForSuccess": True},
        "taskSlotsPerNode": 4,
    }
    with _management(azure) as management:
        management.pool.create("batch", "tests", "from-arm", {"properties": properties})
    pool = client.get_pool("from-arm")
    assert client.pool_exists("from-arm")
    assert (pool.id, pool.state, pool.vm_size, pool.task_slots_per_node) == ("from-arm", "active", "standard_d2s_v3", 4)
    assert pool.virtual_machine_configuration.node_agent_sku_id == "batch.node.ubuntu 24.04"
    assert pool.start_task.user_identity.auto_user.elevation_level == "admin"
    assert pool.enable_auto_scale
    assert pool.auto_scale_evaluation_interval == timedelta(minutes=5)
    run = client.evaluate_pool_auto_scale(
        "from-arm", batch.BatchPoolEvaluateAutoScaleOptions(auto_scale_formula="$TargetDedicatedNodes = 3;")
    )
    assert "$TargetDedicatedNodes=3" in run.results


def test_pool_of_the_data_plane_can_be_resized_and_deleted(azure: dict[str, str], client: BatchClient) -> None:
    machine = batch.VirtualMachineConfiguration(
        image_reference=batch.BatchVmImageReference(_UBUNTU), node_agent_sku_id="batch.node.ubuntu 24.04"
    )
    made = batch.BatchPoolCreateOptions(id="plain", vm_size="standard_d2s_v3", virtual_machine_configuration=machine)
    client.create_pool(made)
    with _refused(409, "PoolExists"):
        client.create_pool(made)
    with _management(azure) as management:
        assert management.pool.get("batch", "tests", "plain").identity.type == "None"
    client.begin_resize_pool(
        "plain", batch.BatchPoolResizeOptions(target_dedicated_nodes=0), polling_interval=0.1
    ).result()
    assert [counts.dedicated.total for counts in client.list_pool_node_counts(filter="poolId eq 'plain'")] == [0]
    client.begin_delete_pool("plain", polling_interval=0.1).result()
    with _refused(404, "PoolNotFound"):
        client.get_pool("plain")


def test_node_that_does_not_exist_is_not_found(client: BatchClient) -> None:
    with _refused(404, "PoolNotFound"):
        client.get_node("nowhere", "node")


def test_supported_images_know_the_end_of_their_support(client: BatchClient) -> None:
    ends = {image.node_agent_sku_id: image.batch_support_end_of_life for image in client.list_supported_images()}
    assert ends["batch.node.ubuntu 24.04"] is None
    assert ends["batch.node.ubuntu 22.04"].date().isoformat() == "2027-06-30"
    assert ends["batch.node.ubuntu 20.04"].date().isoformat() == "2025-04-23"


def test_jobs_tasks_and_clocks_outlive_a_restart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def point_at(settings: dict[str, str]) -> None:
        for name, value in settings.items():
            monkeypatch.setenv(name, value)

    limit = batch.BatchJobConstraints(max_wall_clock_time=timedelta(seconds=1))
    with running_azure(tmp_path, "--clock", "instant") as settings:
        point_at(settings)
        endpoint = _create_account(settings, "lasting")
        with _client(endpoint) as client:
            client.create_job(batch.BatchJobCreateOptions(id="timed", pool_info=_POOL, constraints=limit))
            client.create_task("timed", _task("queued"))
    with running_azure(tmp_path) as settings:
        point_at(settings)
        with _client(f"{settings['LOCAL_AZURE_BATCH_URL']}/lasting") as client:
            assert client.get_job_task_counts("timed").task_counts.active == 1
            _until(lambda: client.get_job("timed").state == "completed")


@pytest.mark.parametrize(
    ("text", "matches"),
    [
        ("state eq 'active'", True),
        ("state ne 'active'", False),
        ("id ge 'job' and executionInfo/poolId eq 'p'", True),
        ("id eq 'it''s'", False),
        ("creationTime lt datetime'2026-01-02T00:00:00Z'", True),
        ("startswith(id, 'jo') or id gt 'z'", True),
        ("(id eq 'x' or id eq 'job') and state ne 'completed'", True),
        ("id eq 'job' or id eq 'x' and state eq 'completed'", True),
        ("creationTime ge DateTime'2026-01-01T00:00:00Z'", True),
        ("executionInfo/endTime gt datetime'2026-01-01T00:00:00Z'", False),
        ("executionInfo/endTime ne datetime'2026-01-01T00:00:00Z'", True),
    ],
)
def test_filters_mean_what_odata_says(text: str, matches: bool) -> None:
    document = {
        "id": "job",
        "state": "active",
        "creationTime": "2026-01-01T00:00:00.0000000Z",
        "executionInfo": {"poolId": "p"},
    }
    assert parse_filter(text, "jobs")(document) is matches


@pytest.mark.parametrize(
    "text",
    [
        "state eq",
        "eq 'a'",
        "state like 'a'",
        "(state eq 'a'",
        "state eq 'a' x",
        "not (state eq 'a')",
        "creationTime gt datetime'yesterday'",
        "creationTime gt '2026-01-01T00:00:00Z'",
        "id eq 5",
    ],
)
def test_filter_that_can_not_be_understood_is_refused(client: BatchClient, text: str) -> None:
    with _refused(400, "InvalidQueryParameterValue"):
        list(client.list_jobs(filter=text))


@pytest.mark.parametrize(
    ("listed", "text"),
    [
        ("jobs", "priority eq 5"),
        ("jobs", "poolInfo/poolId eq 'p'"),
        ("jobs", "state gt 'active'"),
        ("tasks", "displayName eq 'x'"),
        ("tasks", "startswith(state, 'a')"),
        ("pools", "currentDedicatedNodes gt 0"),
        ("pool_node_counts", "startswith(poolId, 'a')"),
        ("supported_images", "verificationType gt 'a'"),
    ],
)
def test_filter_by_what_the_service_does_not_filter_by_is_refused(
    client: BatchClient, job: str, listed: str, text: str
) -> None:
    where = [job] if listed == "tasks" else []
    with _refused(400, "InvalidQueryParameterValue"):
        list(getattr(client, f"list_{listed}")(*where, filter=text))


def test_only_statistics_can_be_expanded(client: BatchClient, job: str) -> None:
    assert job in [found.id for found in client.list_jobs(expand=["stats"])]
    assert client.get_job(job, expand=["stats"]).id == job
    with _refused(400, "InvalidQueryParameterValue"):
        list(client.list_tasks(job, expand=["executionInfo"]))


@pytest.mark.parametrize("most", ["0", "1001"])
def test_page_of_another_size_than_the_service_gives_is_refused(
    azure: dict[str, str], endpoint: str, most: str
) -> None:
    answer = _raw("GET", f"{endpoint}/jobs", params={"maxresults": most})
    assert (answer.status_code, answer.json()["code"]) == (400, "OutOfRangeQueryParameterValue")


@pytest.mark.parametrize(
    ("given", "kept"),
    [("P3Y6M4DT12H30M5S", "P1279DT12H30M5S"), ("PT90M", "PT1H30M"), ("P1W", "P7D"), ("PT0.5S", "PT0.5S")],
)
def test_durations_are_kept_in_days_hours_minutes_and_seconds(given: str, kept: str) -> None:
    assert normal_duration(given) == kept
