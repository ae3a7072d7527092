"""What `--fault` does to a call, seen by the client; which call it is done to is in `test_faults.py`."""

from collections.abc import Callable

import pytest
import requests
from azure.batch.models import BatchJobCreateOptions, BatchPoolInfo
from azure.core.exceptions import ServiceResponseError
from azure.identity import ManagedIdentityCredential
from azure.storage.blob import BlobServiceClient
from local_pools import batch_account, fixed
from storage_accounts import create_account

Start = Callable[..., dict[str, str]]


def test_the_answer_about_a_blob_is_lost_after_it_was_stored_and_after_it_was_deleted(start_azure: Start) -> None:
    cut = "action=truncate,path=/kept/a$"
    azure = start_azure("--fault", f"service=blob,method=PUT,{cut}", "--fault", f"service=blob,method=DELETE,{cut}")
    endpoint = create_account(azure, "lost")
    with ManagedIdentityCredential() as credential, BlobServiceClient(endpoint, credential, retry_total=0) as service:
        container = service.create_container("kept")
        with pytest.raises(ServiceResponseError):
            container.upload_blob("a", b"stored")
        assert container.download_blob("a").readall() == b"stored"
        with pytest.raises(ServiceResponseError):
            container.delete_blob("a")
        assert list(container.list_blob_names()) == []


def test_the_answer_about_a_job_is_lost_after_it_was_created(start_azure: Start) -> None:
    with batch_account(start_azure("--fault", "service=batch,method=POST,path=/jobs$,action=truncate")) as batch:
        pool = BatchPoolInfo(pool_id=batch.pool(scaleSettings=fixed(0)))
        with pytest.raises(ServiceResponseError):
            batch.client.create_job(BatchJobCreateOptions(id="created", pool_info=pool))
        assert batch.client.get_job("created").state == "active"


def test_an_answer_with_a_body_ends_after_half_of_it(start_azure: Start) -> None:
    azure = start_azure("--fault", "service=arm,path=/subscriptions$,action=truncate")
    with ManagedIdentityCredential() as credential:
        token = credential.get_token("https://management.azure.com/.default").token
    with pytest.raises(requests.RequestException, match="IncompleteRead"):
        requests.get(
            f"{azure['LOCAL_AZURE_ARM_URL']}/subscriptions?api-version=2022-12-01",
            headers={"Authorization": f"Bearer {token}"},
            timeout=10,
        )
