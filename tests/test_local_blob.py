"""local_azure's blob storage, met through azure-storage-blob."""

import os
import socket
import ssl
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import requests
from azure.core import MatchConditions
from azure.core.exceptions import HttpResponseError, ResourceExistsError, ResourceModifiedError, ResourceNotFoundError
from azure.identity import ManagedIdentityCredential
from azure.storage.blob import BlobBlock, BlobServiceClient, ContainerClient, ContentSettings
from conftest import running_azure
from storage_accounts import create_account

MIB = 2**20
IDENTITY = "AZURE_POD_IDENTITY_AUTHORITY_HOST"


@pytest.fixture(scope="module")
def account_url(shared_azure: dict[str, str]) -> Iterator[str]:
    """An account on which the operator may do everything with blobs."""
    with pytest.MonkeyPatch.context() as environment:
        for name, value in shared_azure.items():
            environment.setenv(name, value)
        yield create_account(shared_azure, "blobtests")


@pytest.fixture
def service(account_url: str, azure: dict[str, str]) -> Iterator[BlobServiceClient]:
    with (
        ManagedIdentityCredential() as credential,
        BlobServiceClient(account_url, credential, max_single_put_size=MIB, max_block_size=MIB) as client,
    ):
        yield client


@pytest.fixture
def container(service: BlobServiceClient) -> ContainerClient:
    """A fresh container."""
    return service.create_container(f"c{uuid.uuid4().hex}")


@pytest.fixture
def token(azure: dict[str, str]) -> dict[str, str]:
    """Headers of the operator, for requests that the SDK would not send."""
    with ManagedIdentityCredential() as credential:
        bearer = credential.get_token("https://storage.azure.com/.default").token
    return {"Authorization": f"Bearer {bearer}", "x-ms-version": "2026-10-06"}


def code_of(error: pytest.ExceptionInfo[HttpResponseError]) -> str:
    return str(error.value.response.headers["x-ms-error-code"])


def test_blob_comes_back_with_its_bytes_metadata_and_headers(container: ContainerClient) -> None:
    settings = ContentSettings(content_type="text/plain", cache_control="no-store")
    blob = container.upload_blob("a/b.txt", b"hello", metadata={"origin": "test"}, content_settings=settings)
    downloaded = blob.download_blob()
    assert downloaded.readall() == b"hello"
    assert downloaded.properties.metadata == {"origin": "test"}
    assert downloaded.properties.content_settings.content_type == "text/plain"
    assert downloaded.properties.content_settings.cache_control == "no-store"


def test_large_blob_goes_up_in_blocks_and_comes_back_in_parallel_ranges(container: ContainerClient) -> None:
    content = os.urandom(3 * MIB + 5)
    blob = container.upload_blob("big", content, max_concurrency=4)
    committed, uncommitted = blob.get_block_list("all")
    assert [block.size for block in committed] == [MIB, MIB, MIB, 5]
    assert uncommitted == []
    assert blob.download_blob(max_concurrency=4).readall() == content
    assert blob.download_blob(offset=MIB - 3, length=MIB + 6).readall() == content[MIB - 3 : 2 * MIB + 3]


def test_range_is_verified_by_its_own_md5(container: ContainerClient) -> None:
    blob = container.upload_blob("x", b"0123456789")
    assert blob.download_blob(offset=2, length=3, validate_content=True).readall() == b"234"


def test_range_behind_the_end_is_refused_with_the_size(container: ContainerClient, token: dict[str, str]) -> None:
    blob = container.upload_blob("x", b"123")
    answer = requests.get(blob.url, headers={**token, "Range": "bytes=3-"}, timeout=10)
    assert (answer.status_code, answer.headers["Content-Range"]) == (416, "bytes */3")
    assert container.upload_blob("empty", b"").download_blob().readall() == b""


def test_blocks_are_invisible_until_their_list_is_committed(container: ContainerClient) -> None:
    blob = container.get_blob_client("staged")
    for part in ("one", "two"):
        blob.stage_block(part, part.encode())
    assert not blob.exists()
    assert [entry.name for entry in container.list_blobs(include=["uncommittedblobs"])] == ["staged"]
    blob.commit_block_list([BlobBlock("two"), BlobBlock("one")])
    assert blob.download_blob().readall() == b"twoone"
    assert [entry.name for entry in container.list_blobs()] == ["staged"]


def test_committed_blocks_can_be_listed_again(container: ContainerClient) -> None:
    blob = container.get_blob_client("grown")
    blob.stage_block("one", b"1")
    blob.commit_block_list([BlobBlock("one")])
    blob.stage_block("two", b"2")
    blob.commit_block_list([BlobBlock("one"), BlobBlock("two")])
    assert blob.download_blob().readall() == b"12"


def test_list_of_an_unknown_block_is_refused(container: ContainerClient) -> None:
    with pytest.raises(HttpResponseError) as error:
        container.get_blob_client("x").commit_block_list([BlobBlock("nothing")])
    assert code_of(error) == "InvalidBlockList"


def test_upload_without_overwrite_finds_the_name_taken(container: ContainerClient) -> None:
    container.upload_blob("x", b"first")
    with pytest.raises(ResourceExistsError) as error:
        container.upload_blob("x", b"second")
    assert code_of(error) == "BlobAlreadyExists"


def test_only_one_of_many_creators_wins(container: ContainerClient) -> None:
    def create(number: int) -> int | None:
        try:
            container.upload_blob("latest", str(number).encode())
        except ResourceExistsError:
            return None
        return number

    with ThreadPoolExecutor(8) as pool:
        winners = [number for number in pool.map(create, range(8)) if number is not None]
    assert [str(number).encode() for number in winners] == [container.download_blob("latest").readall()]


def test_stale_etag_cannot_overwrite(container: ContainerClient) -> None:
    blob = container.upload_blob("x", b"first")
    stale = blob.get_blob_properties().etag
    blob.upload_blob(b"second", overwrite=True)
    with pytest.raises(ResourceModifiedError) as error:
        blob.upload_blob(b"third", etag=stale, match_condition=MatchConditions.IfNotModified, overwrite=True)
    assert code_of(error) == "ConditionNotMet"


def test_version_that_the_client_has_is_not_sent_again(container: ContainerClient, token: dict[str, str]) -> None:
    blob = container.upload_blob("x", b"1")
    headers = {**token, "If-None-Match": blob.get_blob_properties().etag}
    assert requests.get(blob.url, headers=headers, timeout=10).status_code == 304


def test_leased_blob_is_written_only_with_the_lease(container: ContainerClient) -> None:
    blob = container.upload_blob("x", b"1")
    lease = blob.acquire_lease(15)
    with pytest.raises(HttpResponseError) as error:
        blob.upload_blob(b"2", overwrite=True)
    assert code_of(error) == "LeaseIdMissing"
    with pytest.raises(HttpResponseError) as error:
        blob.delete_blob(lease=str(uuid.uuid4()))
    assert code_of(error) == "LeaseIdMismatchWithBlobOperation"
    blob.upload_blob(b"2", overwrite=True, lease=lease)
    lease.renew()
    lease.release()
    blob.delete_blob()


def test_lease_is_held_by_one_until_it_is_broken(container: ContainerClient) -> None:
    blob = container.upload_blob("x", b"1")
    lease = blob.acquire_lease(-1)
    with pytest.raises(ResourceExistsError) as error:
        blob.acquire_lease(15)
    assert code_of(error) == "LeaseAlreadyPresent"
    lease.change(str(uuid.uuid4()))
    assert lease.break_lease(0) == 0
    assert blob.get_blob_properties().lease.state == "broken"
    blob.acquire_lease(15).release()


def test_leased_container_is_not_deleted_without_the_lease(container: ContainerClient) -> None:
    lease = container.acquire_lease(15)
    with pytest.raises(HttpResponseError) as error:
        container.delete_container()
    assert code_of(error) == "LeaseIdMissing"
    container.delete_container(lease=lease)


def test_listing_by_delimiter_shows_each_directory_once(container: ContainerClient) -> None:
    for name in ("a/1", "a/2", "b/c/3", "d"):
        container.upload_blob(name, b"")
    assert [entry.name for entry in container.walk_blobs()] == ["a/", "b/", "d"]
    assert [entry.name for entry in container.walk_blobs("b/")] == ["b/c/"]


def test_listing_pages_through_all_names(container: ContainerClient) -> None:
    names = [f"{number:02}" for number in range(7)]
    for name in names:
        container.upload_blob(name, b"", metadata={"n": name})
    pages = container.list_blobs(results_per_page=3, include=["metadata"]).by_page()
    assert [[entry.metadata["n"] for entry in page] for page in pages] == [names[:3], names[3:6], names[6:]]


def test_names_are_kept_as_they_are(container: ContainerClient) -> None:
    names = ["A", "a", "%2e%2e/%2F", "ü €/+&?#=.txt", "back\\slash", "control\x01", "x" * 1024]
    for name in names:
        container.upload_blob(name, name.encode())
    assert {entry.name for entry in container.list_blobs()} == set(names)
    assert all(container.download_blob(name).readall() == name.encode() for name in names)


def test_name_cannot_leave_the_state_folder(
    account_url: str, azure: dict[str, str], token: dict[str, str], container: ContainerClient
) -> None:
    address = urlsplit(account_url)
    path = f"{address.path}/{container.container_name}/%2e%2e/%2e%2e/escaped"
    prepared = requests.Request(
        "PUT", account_url, headers={**token, "x-ms-blob-type": "BlockBlob"}, data=b"1"
    ).prepare()
    prepared.url = f"{address.scheme}://{address.netloc}{path}"
    with requests.Session() as session:
        assert session.send(prepared, verify=azure["REQUESTS_CA_BUNDLE"], timeout=10).status_code == 201
    assert not list(_state(azure).parent.rglob("escaped"))


def _state(azure: dict[str, str]) -> Path:
    return Path(azure["REQUESTS_CA_BUNDLE"]).parents[1]


def test_name_of_a_deleted_container_stays_taken_for_a_while(container: ContainerClient) -> None:
    container.delete_container()
    with pytest.raises(ResourceNotFoundError) as missing:
        container.get_container_properties()
    assert code_of(missing) == "ContainerNotFound"
    with pytest.raises(ResourceExistsError) as error:
        container.create_container()
    assert code_of(error) == "ContainerBeingDeleted"


def test_containers_are_listed_with_metadata(service: BlobServiceClient, container: ContainerClient) -> None:
    container.set_container_metadata({"purpose": "test"})
    found = list(service.list_containers(container.container_name, include_metadata=True))
    assert [(entry.name, entry.metadata) for entry in found] == [(container.container_name, {"purpose": "test"})]


def test_copy_keeps_content_and_metadata_of_its_source(container: ContainerClient) -> None:
    source = container.upload_blob("source", b"content", metadata={"k": "v"})
    copy = container.get_blob_client("copy")
    assert copy.start_copy_from_url(source.url)["copy_status"] == "success"
    source.delete_blob()
    assert copy.download_blob().readall() == b"content"
    assert copy.get_blob_properties().metadata == {"k": "v"}


def test_batch_deletes_what_is_there_and_reports_the_rest(container: ContainerClient) -> None:
    container.upload_blob("here", b"")
    parts = container.delete_blobs("here", "missing", raise_on_any_failure=False)
    assert [part.status_code for part in parts] == [202, 404]
    assert not list(container.list_blobs())


def test_body_that_differs_from_its_md5_is_refused(container: ContainerClient, token: dict[str, str]) -> None:
    headers = {**token, "x-ms-blob-type": "BlockBlob", "Content-MD5": "AAAAAAAAAAAAAAAAAAAAAA=="}
    answer = requests.put(container.get_blob_client("x").url, b"body", headers=headers, timeout=10)
    assert (answer.status_code, answer.headers["x-ms-error-code"]) == (400, "Md5Mismatch")


def test_broken_upload_leaves_nothing(container: ContainerClient, azure: dict[str, str], token: dict[str, str]) -> None:
    files = _state(azure) / "blobs"
    before = len(list(files.iterdir()))
    url = urlsplit(container.get_blob_client("half").url)
    lines = [f"PUT {url.path} HTTP/1.1", f"Host: {url.netloc}", "Content-Length: 1000", "x-ms-blob-type: BlockBlob"]
    head = "\r\n".join([*lines, *(f"{name}: {value}" for name, value in token.items()), "", ""])
    context = ssl.create_default_context(cafile=azure["REQUESTS_CA_BUNDLE"])
    with (
        socket.create_connection((url.hostname or "", url.port or 0)) as plain,
        context.wrap_socket(plain, server_hostname=url.hostname) as connection,
    ):
        connection.sendall(head.encode() + b"x" * 500)
    assert not container.get_blob_client("half").exists()
    assert len(list(files.iterdir())) == before


def test_operation_that_is_missing_is_a_501(container: ContainerClient) -> None:
    with pytest.raises(HttpResponseError) as error:
        container.upload_blob("log", b"line", blob_type="AppendBlob")
    assert error.value.status_code == 501


def test_owner_makes_containers_but_touches_no_blob(azure: dict[str, str]) -> None:
    url = create_account(azure, "ownersonly", role="")
    with ManagedIdentityCredential() as credential, BlobServiceClient(url, credential) as service:
        container = service.create_container("mine")
        with pytest.raises(HttpResponseError) as error:
            container.upload_blob("x", b"")
    assert (error.value.status_code, code_of(error)) == (403, "AuthorizationPermissionMismatch")


def test_request_without_token_is_told_where_to_get_one(container: ContainerClient) -> None:
    answer = requests.get(f"{container.url}/x", headers={"x-ms-version": "2026-10-06"}, timeout=10)
    assert (answer.status_code, answer.headers["x-ms-error-code"]) == (401, "NoAuthenticationInformation")
    assert "resource_id=https://storage.azure.com" in answer.headers["WWW-Authenticate"]


def test_token_for_another_service_is_refused(container: ContainerClient, token: dict[str, str]) -> None:
    with ManagedIdentityCredential() as credential:
        foreign = credential.get_token("https://management.azure.com/.default").token
    answer = requests.get(f"{container.url}/x", headers={**token, "Authorization": f"Bearer {foreign}"}, timeout=10)
    assert (answer.status_code, answer.headers["x-ms-error-code"]) == (401, "InvalidAuthenticationInfo")


def test_blobs_outlive_the_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with running_azure(tmp_path) as settings:
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", settings["REQUESTS_CA_BUNDLE"])
        monkeypatch.setenv(IDENTITY, settings[IDENTITY])
        url = create_account(settings, "kept")
        with ManagedIdentityCredential() as credential, BlobServiceClient(url, credential) as service:
            service.create_container("results").upload_blob("x", b"kept")
    with running_azure(tmp_path) as settings:
        monkeypatch.setenv(IDENTITY, settings[IDENTITY])
        url = f"{settings['LOCAL_AZURE_BLOB_URL']}/kept"
        with ManagedIdentityCredential() as credential, BlobServiceClient(url, credential) as service:
            assert service.get_blob_client("results", "x").download_blob().readall() == b"kept"
