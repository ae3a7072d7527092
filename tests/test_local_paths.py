"""Files of tasks and nodes on local_azure lie in their folders, whatever their names."""

from collections.abc import Iterator
from typing import Any

import pytest
from azure.identity import ManagedIdentityCredential
from azure.storage.blob import BlobServiceClient
from local_pools import Batch, batch_account, user_identity
from storage_accounts import create_account
from world import BLOB_READER, send_as_it_is


@pytest.fixture(scope="module")
def batch(shared_azure: dict[str, str]) -> Iterator[Batch]:
    with pytest.MonkeyPatch.context() as patch:
        for name, value in shared_azure.items():
            patch.setenv(name, value)
        with batch_account(shared_azure) as account:
            yield account


@pytest.fixture(autouse=True)
def _signed_in(azure: dict[str, str]) -> None:
    """The SDKs look for whom to sign in with every request."""


@pytest.fixture(scope="module")
def ended(batch: Batch) -> tuple[str, str]:
    """A task that ended on a node, after it left a link that leads out of its folder."""
    job = batch.job(batch.pool())
    task = batch.run(job, 'echo said; ln -s / out; ln -s "$AZ_BATCH_NODE_ROOT_DIR" up')
    return job, str(task.id)


@pytest.mark.parametrize("method", ["GET", "HEAD", "DELETE"])
@pytest.mark.parametrize(
    "file",
    [
        "wd/out/etc/passwd",
        "wd/up/startup/stdout.txt",
        "../../../../startup/stdout.txt",
        "..%2F..%2F..%2F..%2Fstartup%2Fstdout.txt",
        "%2E%2E/%2E%2E/%2E%2E/%2E%2E/startup/stdout.txt",
        "%2Fetc%2Fpasswd",
        "stdout.txt%00",
        "x" * 300,
        "%ff",
        ".",
        "wd%2F..",
    ],
)
def test_file_of_a_task_is_below_its_folder_or_is_not_found(
    batch: Batch, ended: tuple[str, str], method: str, file: str
) -> None:
    with ManagedIdentityCredential() as credential:
        token = credential.get_token("https://batch.core.windows.net//.default").token
    root = f"{batch.settings['LOCAL_AZURE_BATCH_URL']}/{batch.account}"
    target = f"/{batch.account}/jobs/{ended[0]}/tasks/{ended[1]}/files/{file}?api-version=2025-06-01&recursive=true"
    answer = send_as_it_is(method, root, target, {"Authorization": f"Bearer {token}"})
    assert answer.status == 404
    assert batch.output(*ended) == "said\n"


@pytest.fixture(scope="module")
def reading(batch: Batch) -> tuple[str, dict[str, Any]]:
    """A job whose nodes may read a blob, and that blob as a resource file."""
    endpoint = create_account(batch.settings, "resources")
    with ManagedIdentityCredential() as credential, BlobServiceClient(endpoint, credential) as service:
        service.create_container("files").upload_blob("x", b"content")
    group = f"/subscriptions/{batch.settings['LOCAL_AZURE_SUBSCRIPTION_ID']}/resourceGroups/blobs"
    scope = f"{group}/providers/Microsoft.Storage/storageAccounts/resources"
    identity = user_identity(batch.settings, scope, BLOB_READER)
    job = batch.job(batch.pool(identities=[identity]))
    return job, {"httpUrl": f"{endpoint}/files/x", "identityReference": {"resourceId": identity}}


@pytest.mark.parametrize("path", ["../escaped", "/absolute/escaped", "a\0b", "x" * 300, ".", "wd/../.."])
def test_resource_file_without_a_place_fails_its_task(
    batch: Batch, reading: tuple[str, dict[str, Any]], path: str
) -> None:
    job, source = reading
    task = batch.run(job, "true", resourceFiles=[{**source, "filePath": path}])
    assert task.execution_info.failure_info.code == "ResourceFileCreateFailed"
