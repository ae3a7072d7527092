"""local_azure answers in the shapes in which live Batch accounts were recorded to answer."""

import time
from collections.abc import Callable, Iterator
from copy import deepcopy
from typing import Any

import pytest
from azure.core.exceptions import HttpResponseError
from azure.core.rest import HttpRequest, HttpResponse
from conftest import running_azure
from local_pools import GROUP, Batch, batch_account, until
from recorded_shapes import RECORDED, differences

DATA_PLANE = "2024-02-01.19.0"
CHANGED_LATELY = "Thu, 24 Oct 2024 01:15:18 GMT"
FORMULA = "$TargetLowPriorityNodes=3"
OF_THE_WAY = {
    "date", "server", "content-length", "transfer-encoding", "connection", "keep-alive", "vary",
}  # fmt: skip
"""Headers of a connection, not of the service."""
CUT_FROM_RECORDINGS = {"x-ms-request-id", "x-ms-correlation-request-id"}
"""Headers of ARM that azure-cli's recorder takes out."""
_SINCE = "a newer api-version has it, and api-versions are not told apart"
_RETIRED = "certificates have left the service"
_LINUX = "files of Linux have a mode; the recorded nodes run Windows"
KEPT = {
    ("list nodes", "-.value.certificateReferences"): _RETIRED,
    ("get a replaced pool", "-.certificateReferences"): _RETIRED,
    ("get a replaced pool", "-.targetNodeCommunicationMode"): "there is one mode since the classic one has retired",
    ("download a task's file", "header +.ocp-batch-file-mode"): _LINUX,
    ("download a part of a task's file", "header +.ocp-batch-file-mode"): _LINUX,
    ("download a node's file", "header +.ocp-batch-file-mode"): _LINUX,
    ("download a part of a node's file", "header +.ocp-batch-file-mode"): _LINUX,
    ("list nodes", "-.value.endpointConfiguration"): "nothing reaches a local node from outside",
    ("count nodes", "+.value.dedicated.deallocated"): _SINCE,
    ("count nodes", "+.value.dedicated.deallocating"): _SINCE,
    ("count nodes", "+.value.lowPriority.deallocated"): _SINCE,
    ("count nodes", "+.value.lowPriority.deallocating"): _SINCE,
    ("poll a Batch account", "+.systemData"): _SINCE,
    ("get a Batch account", "+.systemData"): _SINCE,
    ("give a Batch account an identity", "+.systemData"): _SINCE,
    ("give a Batch account a storage account", "+.systemData"): _SINCE,
    ("put an identity", "+.systemData"): _SINCE,
    ("get a storage account", "header .content-type"): "ARM names the character set for every provider here",
    ("get a storage account", "-.properties.primaryEndpoints.queue"): "of storage there are blobs alone",
    ("get a storage account", "-.properties.primaryEndpoints.table"): "as above",
    ("get a storage account", "-.properties.primaryEndpoints.file"): "as above",
}
"""Differences from the recordings that stay, and why."""


class Conversation:
    """Asks what azure-cli asked when it was recorded, and keeps the answers."""

    def __init__(self, batch: Batch) -> None:
        self.batch = batch
        self.answers: dict[str, HttpResponse] = {}

    @property
    def subscription(self) -> str:
        """ARM's address of the subscription."""
        settings = self.batch.settings
        return f"{settings['LOCAL_AZURE_ARM_URL']}/subscriptions/{settings['LOCAL_AZURE_SUBSCRIPTION_ID']}"

    def ask(self, what: str, method: str, path: str, body: Any = None, **headers: str) -> HttpResponse:
        """Call the account's data plane."""
        address = f"{path}{'&' if '?' in path else '?'}api-version={DATA_PLANE}"
        names = {name.replace("_", "-"): text for name, text in headers.items()}
        request = HttpRequest(method, address, json=body, headers=names)
        try:
            self.answers[what] = self.batch.client.send_request(request)
        except HttpResponseError as refusal:
            self.answers[what] = refusal.response
        return self.answers[what]

    def ask_arm(self, what: str, method: str, path: str, version: str, body: Any = None) -> HttpResponse:
        """Call ARM on something in the account's resource group, or on an address."""
        inside = f"{self.subscription}/resourceGroups/{path}?api-version={version}"
        address = path if path.startswith("https:") else inside
        self.answers[what] = self.batch.management.send_request(HttpRequest(method, address, json=body))
        return self.answers[what]


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, HttpResponse]]:
    with (
        pytest.MonkeyPatch.context() as patch,
        running_azure(tmp_path_factory.mktemp("azure"), "--shared-keys", "on") as settings,
    ):
        for name, value in settings.items():
            patch.setenv(name, value)
        with batch_account(settings) as batch:
            conversation = Conversation(batch)
            talk_of_pools(conversation)
            talk_of_jobs(conversation)
            talk_of_nodes(conversation, batch.pool(startTask={"commandLine": "/bin/bash -c 'echo test'"}))
            talk_of_resources(conversation)
            yield conversation.answers


def talk_of_pools(talk: Conversation) -> None:
    """A pool without nodes, resized, scaled and changed."""
    image = {"publisher": "canonical", "offer": "ubuntu-24_04-lts", "sku": "server"}
    machine = {"imageReference": image, "nodeAgentSKUId": "batch.node.ubuntu 24.04"}
    pool = {"id": "empty", "vmSize": "Standard_A1_v2", "virtualMachineConfiguration": machine}
    talk.ask("create a pool", "POST", "/pools", pool)
    wrong = {**machine, "imageReference": {**image, "sku": "none"}}
    talk.ask("create a pool of no image", "POST", "/pools", {**pool, "id": "w", "virtualMachineConfiguration": wrong})
    steady(talk.batch)
    talk.ask("get a pool", "GET", "/pools/empty")
    talk.ask("list pools", "GET", "/pools")
    talk.ask("select of a pool", "GET", "/pools/empty?$select=enableAutoScale")
    talk.ask("count nodes", "GET", "/nodecounts")
    talk.ask("list images", "GET", "/supportedimages")
    talk.ask("resize a pool", "POST", "/pools/empty/resize", {"targetDedicatedNodes": 0, "targetLowPriorityNodes": 3})
    talk.ask("stop a resize", "POST", "/pools/empty/stopresize")
    steady(talk.batch)
    start_task = {"startTask": {"commandLine": "new_value"}}
    talk.ask("patch a pool", "PATCH", "/pools/empty", start_task)
    talk.ask("get a patched start task", "GET", "/pools/empty?$select=startTask")
    replaced = {**start_task, "certificateReferences": [], "applicationPackageReferences": [], "metadata": []}
    talk.ask("replace a pool's properties", "POST", "/pools/empty/updateproperties", replaced)
    talk.ask("get a replaced pool", "GET", "/pools/empty")
    talk.ask("enable autoscale", "POST", "/pools/empty/enableautoscale", {"autoScaleFormula": FORMULA})
    talk.ask("evaluate autoscale", "POST", "/pools/empty/evaluateautoscale", {"autoScaleFormula": FORMULA})
    talk.ask("disable autoscale", "POST", "/pools/empty/disableautoscale")


def steady(batch: Batch) -> None:
    """Wait for the pool's nodes to be as they shall be."""
    until(lambda: batch.client.get_pool("empty").allocation_state, lambda state: state == "steady")


def talk_of_jobs(talk: Conversation) -> None:
    """A job with a manager that finds no node, and a task in another one."""
    manager = {"id": "JobManager", "commandLine": "true", "environmentSettings": [{"name": "a", "value": "b"}]}
    job = {"id": "managed", "poolInfo": {"poolId": "nowhere"}, "constraints": {"maxTaskRetryCount": 5}}
    metadata = [{"name": "test", "value": "value"}]
    talk.ask("create a job", "POST", "/jobs", {**job, "jobManagerTask": manager, "metadata": metadata})
    talk.ask("get a job", "GET", "/jobs/managed")
    talk.ask("list jobs", "GET", "/jobs")
    patched = {"onAllTasksComplete": "terminatejob", "constraints": {"maxWallClockTime": "P3Y6M4DT12H30M5S"}}
    talk.ask("patch a job", "PATCH", "/jobs/managed", patched)
    talk.ask("get a patched job", "GET", "/jobs/managed")
    replaced = {"poolInfo": {"poolId": "nowhere"}, "onAllTasksComplete": "terminatejob"}
    late = {"If_Unmodified_Since": CHANGED_LATELY}
    talk.ask("replace a job that has changed", "PUT", "/jobs/managed", replaced, **late)
    talk.ask("replace a job", "PUT", "/jobs/managed", replaced)
    talk.ask("get a replaced job", "GET", "/jobs/managed")
    talk.batch.client.create_job({**job, "id": "plain"})
    talk.ask("create a task", "POST", "/jobs/plain/tasks", {"id": "aaa", "commandLine": "true"})
    talk.ask("get a task", "GET", "/jobs/plain/tasks/aaa")
    talk.ask("count tasks", "GET", "/jobs/plain/taskcounts")
    talk.ask("delete a task", "DELETE", "/jobs/plain/tasks/aaa")
    talk.ask("delete a job", "DELETE", "/jobs/plain")
    talk.ask("delete a pool", "DELETE", "/pools/empty")


def talk_of_nodes(talk: Conversation, pool: str) -> None:
    """A pool with a node, and what ran on it."""
    talk.batch.client.create_job({"id": "run", "poolInfo": {"poolId": pool}})
    tasks = [{"id": f"task{number}", "commandLine": "/bin/bash -c 'echo hello'"} for number in (3, 2, 1)]
    talk.ask("create a collection of tasks", "POST", "/jobs/run/addtaskcollection", {"value": tasks})
    for task in tasks:
        talk.batch.ended("run", task["id"])
    (node,) = talk.batch.nodes(pool, 1, "idle")
    talk.ask("list nodes", "GET", f"/pools/{pool}/nodes")
    task_file = "/jobs/run/tasks/task1/files/stdout.txt"
    talk.ask("download a task's file", "GET", task_file)
    talk.ask("download a part of a task's file", "GET", task_file, ocp_range="bytes=1-2")
    node_file = f"/pools/{pool}/nodes/{node.id}/files/startup%2Fstdout.txt"
    talk.ask("download a node's file", "GET", node_file)
    talk.ask("download a part of a node's file", "GET", node_file, ocp_range="bytes=1-2")


def talk_of_resources(talk: Conversation) -> None:
    """What ARM answers of the account, its group, an identity and a storage account."""
    account, version = f"{GROUP}/providers/Microsoft.Batch/batchAccounts/recorded", "2024-02-01"
    begun = talk.ask_arm("put a Batch account", "PUT", account, version, {"location": "westeurope"})
    poll(talk, "poll a Batch account", begun.headers["location"])
    talk.ask_arm("get a Batch account", "GET", account, version)
    talk.ask_arm("list a Batch account's keys", "POST", f"{account}/listKeys", version)
    talk.ask_arm("renew a Batch account's key", "POST", f"{account}/regenerateKeys", version, {"keyName": "Primary"})
    talk.ask_arm("get a resource group", "GET", GROUP, "2022-09-01")
    identity = f"{GROUP}/providers/Microsoft.ManagedIdentity/userAssignedIdentities/recorded"
    made = talk.ask_arm("put an identity", "PUT", identity, "2023-01-31", {"location": "westeurope"})
    given = {"identity": {"type": "UserAssigned", "userAssignedIdentities": {made.json()["id"]: {}}}}
    talk.ask_arm("give a Batch account an identity", "PATCH", account, version, given)
    storage, version = f"{GROUP}/providers/Microsoft.Storage/storageAccounts/recorded", "2023-01-01"
    body = {"location": "westeurope", "kind": "Storage", "sku": {"name": "Standard_LRS"}}
    begun = talk.ask_arm("put a storage account", "PUT", storage, version, body)
    poll(talk, "poll a storage account", begun.headers["location"])
    kept = talk.ask_arm("get a storage account", "GET", storage, version).json()
    talk_of_an_end(talk, account, {"properties": {"autoStorage": {"storageAccountId": kept["id"]}}})


def talk_of_an_end(talk: Conversation, account: str, stored: dict[str, Any]) -> None:
    """An account is given storage, and deleted."""
    version = "2022-10-01"
    talk.ask_arm(
        "give a Batch account a storage account", "PATCH", account, version, {"identity": {"type": "None"}, **stored}
    )
    talk.ask_arm("synchronize a Batch account's storage keys", "POST", f"{account}/syncAutoStorageKeys", version)
    begun = talk.ask_arm("delete a Batch account", "DELETE", account, version)
    poll(talk, "poll a deleted Batch account", begun.headers["location"])
    sizes = (
        f"{talk.subscription}/providers/Microsoft.Batch/locations/westeurope/virtualMachineSkus?api-version={version}"
    )
    talk.ask_arm("list VM sizes", "GET", sizes, "")


def poll(talk: Conversation, what: str, address: str) -> None:
    """Follow an operation to its end."""
    deadline = time.monotonic() + 30
    while (answer := talk.ask_arm(what, "GET", address, "")).status_code == 202:
        assert time.monotonic() < deadline
        address = answer.headers["location"]
        time.sleep(0.1)


def found_differences(what: str, answer: HttpResponse) -> set[str]:
    """Where an answer differs from the recorded one: its status, `header …`, or a place in its body."""
    recorded = RECORDED[what]
    own = {name.lower(): text for name, text in answer.headers.items()}
    headers = {name: text for name, text in own.items() if name not in OF_THE_WAY | CUT_FROM_RECORDINGS}
    found = {f"header {place}" for place in differences(headers, recorded.headers)}
    if answer.status_code != recorded.status:
        found.add(f"status {answer.status_code}: {answer.text()}")
    if recorded.body is not None:
        found |= differences(answer.json(), recorded.body)
    elif "file" not in what and answer.content:
        found.add("a body")
    return found


@pytest.mark.parametrize("what", RECORDED)
def test_answer_has_the_recorded_status_headers_and_shape(what: str, answers: dict[str, HttpResponse]) -> None:
    kept = {place for call, place in KEPT if call == what}
    assert found_differences(what, answers[what]) == kept


def test_parts_of_files_are_what_was_asked_for(answers: dict[str, HttpResponse]) -> None:
    assert answers["download a task's file"].content == b"hello\n"
    assert answers["download a part of a task's file"].content == b"el"
    assert answers["download a part of a node's file"].content == b"es"


@pytest.mark.parametrize(
    ("spoil", "place"),
    [
        (lambda body: body.update(color="red"), "+.color"),
        (lambda body: body.pop("priority"), "-.priority"),
        (lambda body: body.update(state="Active"), ".state"),
        (lambda body: body["executionInfo"].update(startTime="now"), ".executionInfo.startTime"),
    ],
)
def test_another_shape_is_a_difference(
    spoil: Callable[[dict[str, Any]], Any], place: str, answers: dict[str, HttpResponse]
) -> None:
    body = deepcopy(answers["get a job"].json())
    spoil(body)
    assert differences(body, RECORDED["get a job"].body) == {place}
