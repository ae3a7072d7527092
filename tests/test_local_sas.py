"""Shared access signatures and account keys on local_azure's blob storage."""

import base64
import hashlib
import hmac
import time
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from urllib.parse import urlencode

import pytest
import requests
from azure.core.exceptions import ClientAuthenticationError, HttpResponseError
from azure.identity import ManagedIdentityCredential
from azure.storage.blob import (
    AccountSasPermissions,
    BlobClient,
    BlobServiceClient,
    ContainerClient,
    ResourceTypes,
    UserDelegationKey,
    generate_account_sas,
    generate_blob_sas,
    generate_container_sas,
)
from storage_accounts import account_key, assign_role, create_account, remove_role

DATA_READER = "2a2b9908-6ea1-4ae2-8e65-a410df84e7d1"
_DELEGATED = "delegated"
_KEYED = "keyed"


@pytest.fixture(scope="module")
def account_urls(shared_azure: dict[str, str]) -> Iterator[dict[str, str]]:
    """One account as the pipeline makes it, and one with shared keys."""
    with pytest.MonkeyPatch.context() as environment:
        for name, value in shared_azure.items():
            environment.setenv(name, value)
        yield {
            _DELEGATED: create_account(shared_azure, _DELEGATED),
            _KEYED: create_account(shared_azure, _KEYED, shared_keys=True),
        }


@pytest.fixture
def service(account_urls: dict[str, str], azure: dict[str, str]) -> Iterator[BlobServiceClient]:
    with ManagedIdentityCredential() as credential, BlobServiceClient(account_urls[_DELEGATED], credential) as client:
        yield client


@pytest.fixture
def container(service: BlobServiceClient) -> ContainerClient:
    """A fresh container with the blob `x`."""
    made = service.create_container(f"c{uuid.uuid4().hex}")
    made.upload_blob("x", b"content")
    return made


@pytest.fixture
def key(service: BlobServiceClient) -> UserDelegationKey:
    return service.get_user_delegation_key(_minutes(-5), _minutes(30))


@pytest.fixture
def keyed(account_urls: dict[str, str], azure: dict[str, str]) -> Iterator[tuple[ContainerClient, str]]:
    """A fresh container of the account with keys, and the first key."""
    secret = account_key(azure, _KEYED)
    with BlobServiceClient(account_urls[_KEYED], {"account_name": _KEYED, "account_key": secret}) as client:
        made = client.create_container(f"c{uuid.uuid4().hex}")
        made.upload_blob("x", b"content", metadata={"a_b": "1", "ab": "2"})
        yield made, secret


def _minutes(count: float) -> datetime:
    return datetime.now(UTC) + timedelta(minutes=count)


def blob_sas(container: ContainerClient, key: UserDelegationKey, **more: object) -> str:
    """A SAS for the blob `x`, to read for ten minutes unless told otherwise."""
    options = {"permission": "r", "expiry": _minutes(10), **more}
    return generate_blob_sas(_DELEGATED, container.container_name, "x", user_delegation_key=key, **options)


def answer(container: ContainerClient, sas: str, blob: str = "x", method: str = "GET") -> tuple[int, str]:
    """Status, and the content or the error's code."""
    got = requests.request(method, f"{container.url}/{blob}?{sas}", timeout=10)
    return got.status_code, got.headers.get("x-ms-error-code") or got.text


def test_delegated_sas_reads_its_blob(container: ContainerClient, key: UserDelegationKey) -> None:
    assert answer(container, blob_sas(container, key)) == (200, "content")


def test_delegated_sas_does_not_fit_another_blob(container: ContainerClient, key: UserDelegationKey) -> None:
    container.upload_blob("y", b"other")
    assert answer(container, blob_sas(container, key), "y") == (403, "AuthenticationFailed")


def test_sas_gives_no_more_than_its_permissions(container: ContainerClient, key: UserDelegationKey) -> None:
    assert answer(container, blob_sas(container, key), method="DELETE") == (403, "AuthorizationPermissionMismatch")


def test_expired_sas_is_refused_with_its_times(container: ContainerClient, key: UserDelegationKey) -> None:
    sas = blob_sas(container, key, start=_minutes(-4), expiry=_minutes(-1))
    got = requests.get(f"{container.url}/x?{sas}", timeout=10)
    assert (got.status_code, got.headers["x-ms-error-code"]) == (403, "AuthenticationFailed")
    assert "Signature not valid in the specified time frame" in got.text


def test_prolonged_sas_is_refused(container: ContainerClient, key: UserDelegationKey) -> None:
    sas = blob_sas(container, key, expiry="2026-01-01T00:00:00Z").replace("2026-01-01", "2126-01-01")
    assert answer(container, sas) == (403, "AuthenticationFailed")


def test_sas_from_elsewhere_or_over_http_only_is_refused(container: ContainerClient, key: UserDelegationKey) -> None:
    assert answer(container, blob_sas(container, key, ip="10.0.0.1")) == (403, "AuthorizationSourceIPMismatch")
    assert answer(container, blob_sas(container, key, ip="127.0.0.0-127.0.0.9", protocol="https"))[0] == 200
    assert answer(container, blob_sas(container, key, protocol="http")) == (403, "AuthorizationProtocolMismatch")


def test_sas_sets_response_headers(container: ContainerClient, key: UserDelegationKey) -> None:
    sas = blob_sas(container, key, content_type="text/markdown")
    assert requests.get(f"{container.url}/x?{sas}", timeout=10).headers["Content-Type"] == "text/markdown"


def test_sas_holds_the_caller_to_signed_headers(container: ContainerClient, key: UserDelegationKey) -> None:
    url = f"{container.url}/x?{blob_sas(container, key, request_headers={'x-ms-meta-job': 'one'})}"
    assert requests.get(url, headers={"x-ms-meta-job": "one"}, timeout=10).status_code == 200
    assert requests.get(url, headers={"x-ms-meta-job": "two"}, timeout=10).status_code == 403


def test_container_sas_opens_what_is_in_it_but_not_the_container(
    container: ContainerClient, key: UserDelegationKey
) -> None:
    sas = generate_container_sas(
        _DELEGATED, container.container_name, user_delegation_key=key, permission="rwdl", expiry=_minutes(10)
    )
    with ContainerClient.from_container_url(f"{container.url}?{sas}") as client:
        client.upload_blob("y", b"1")
        assert [entry.name for entry in client.list_blobs()] == ["x", "y"]
        assert [part.status_code for part in client.delete_blobs("x", "y")] == [202, 202]
        with pytest.raises(HttpResponseError) as error:
            client.delete_container()
    assert error.value.error_code == "AuthorizationPermissionMismatch"


def test_create_permission_cannot_replace_a_blob(container: ContainerClient, key: UserDelegationKey) -> None:
    with BlobClient.from_blob_url(f"{container.url}/x?{blob_sas(container, key, permission='c')}") as blob:
        with pytest.raises(HttpResponseError) as error:
            blob.upload_blob(b"1", overwrite=True)
        assert error.value.error_code == "AuthorizationPermissionMismatch"
        container.delete_blob("x")
        blob.upload_blob(b"1")


def test_copy_reads_its_source_by_sas(container: ContainerClient, key: UserDelegationKey) -> None:
    copy = container.get_blob_client("copy")
    copy.upload_blob_from_url(f"{container.url}/x?{blob_sas(container, key)}")
    assert copy.download_blob().readall() == b"content"
    with pytest.raises(HttpResponseError) as error:
        copy.upload_blob_from_url(f"{container.url}/x?{blob_sas(container, key, permission='w')}", overwrite=True)
    assert error.value.response.headers["x-ms-error-code"] == "CannotVerifyCopySource"


def test_sas_ends_with_the_role_of_whoever_made_it(azure: dict[str, str]) -> None:
    url = create_account(azure, "shortlived", role="")
    scope = (
        f"/subscriptions/{azure['LOCAL_AZURE_SUBSCRIPTION_ID']}/resourceGroups/blobs"
        "/providers/Microsoft.Storage/storageAccounts/shortlived"
    )
    assignment = assign_role(azure, scope, DATA_READER)
    with ManagedIdentityCredential() as credential, BlobServiceClient(url, credential) as service:
        container = service.create_container("results")
        key = service.get_user_delegation_key(_minutes(-1), _minutes(30))
    sas = generate_blob_sas("shortlived", "results", "x", user_delegation_key=key, permission="r", expiry=_minutes(5))
    assert answer(container, sas) == (404, "BlobNotFound")
    remove_role(azure, assignment)
    assert answer(container, sas) == (403, "AuthorizationPermissionMismatch")


def test_sas_ends_with_its_key(service: BlobServiceClient, container: ContainerClient) -> None:
    key = service.get_user_delegation_key(_minutes(-5), datetime.now(UTC) + timedelta(seconds=2))
    sas = blob_sas(container, key)
    assert answer(container, sas)[0] == 200
    time.sleep(2)
    assert answer(container, sas) == (403, "AuthenticationFailed")


def test_key_lives_a_week_at_most(service: BlobServiceClient) -> None:
    with pytest.raises(HttpResponseError) as error:
        service.get_user_delegation_key(_minutes(0), _minutes(8 * 24 * 60))
    assert error.value.status_code == 400


def test_sas_of_an_older_version_is_understood(container: ContainerClient, key: UserDelegationKey) -> None:
    expiry, resource = f"{_minutes(5):%Y-%m-%dT%H:%MZ}", f"/blob/{_DELEGATED}/{container.container_name}/x"
    signed_key = [key.signed_oid, key.signed_tid, key.signed_start, key.signed_expiry, "b", key.signed_version]
    fields = ["r", "", expiry, resource, *signed_key, "", "", "", "", "https", "2022-11-02", "b", *[""] * 7]
    digest = hmac.digest(base64.b64decode(key.value), "\n".join(fields).encode(), hashlib.sha256)
    names = ["sp", "se", "skoid", "sktid", "skt", "ske", "sks", "skv", "spr", "sv", "sr", "sig"]
    values = ["r", expiry, *signed_key, "https", "2022-11-02", "b", base64.b64encode(digest)]
    sas = urlencode(dict(zip(names, values, strict=True)))
    assert answer(container, sas) == (200, "content")


def test_account_without_keys_refuses_them(
    account_urls: dict[str, str], azure: dict[str, str], container: ContainerClient
) -> None:
    secret = base64.b64encode(b"any").decode()
    with (
        BlobServiceClient(account_urls[_DELEGATED], {"account_name": _DELEGATED, "account_key": secret}) as client,
        pytest.raises(HttpResponseError) as error,
    ):
        client.get_container_client(container.container_name).get_container_properties()
    assert error.value.error_code == "KeyBasedAuthenticationNotPermitted"
    sas = generate_blob_sas(
        _DELEGATED, container.container_name, "x", account_key=secret, permission="r", expiry=_minutes(5)
    )
    assert answer(container, sas) == (403, "KeyBasedAuthenticationNotPermitted")


def test_account_key_signs_requests_and_batches(keyed: tuple[ContainerClient, str]) -> None:
    container, _ = keyed
    assert container.download_blob("x", offset=1, length=2).readall() == b"on"
    container.get_blob_client("copy").start_copy_from_url(f"{container.url}/x")
    assert [part.status_code for part in container.delete_blobs("x", "copy")] == [202, 202]


def test_wrong_account_key_is_refused(account_urls: dict[str, str], keyed: tuple[ContainerClient, str]) -> None:
    wrong = base64.b64encode(b"wrong").decode()
    with (
        BlobServiceClient(account_urls[_KEYED], {"account_name": _KEYED, "account_key": wrong}) as client,
        pytest.raises(ClientAuthenticationError),
    ):
        client.get_container_client(keyed[0].container_name).get_container_properties()


def test_service_sas_reads_its_blob(keyed: tuple[ContainerClient, str]) -> None:
    container, secret = keyed
    sas = generate_blob_sas(
        _KEYED, container.container_name, "x", account_key=secret, permission="r", expiry=_minutes(5)
    )
    assert answer(container, sas) == (200, "content")
    assert answer(container, sas, "y") == (403, "AuthenticationFailed")


def test_account_sas_is_held_to_resource_types_and_permissions(keyed: tuple[ContainerClient, str]) -> None:
    container, secret = keyed
    sas = generate_account_sas(
        _KEYED, secret, ResourceTypes(object=True), AccountSasPermissions(read=True), _minutes(5)
    )
    assert answer(container, sas) == (200, "content")
    assert answer(container, sas, method="DELETE") == (403, "AuthorizationPermissionMismatch")
    listing = requests.get(f"{container.url}?restype=container&comp=list&{sas}", timeout=10)
    assert listing.headers["x-ms-error-code"] == "AuthorizationResourceTypeMismatch"
