"""Local blob storage and Azurite, Microsoft's own emulator, answer azure-storage-blob alike.

Where Azurite is behind Azure's documentation, the test says which page the local one keeps to.
"""

import base64
import hashlib
import secrets
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import requests
from azure.core import MatchConditions
from azure.core.exceptions import HttpResponseError
from azure.identity import ManagedIdentityCredential
from azure.storage.blob import (
    AccountSasPermissions,
    BlobBlock,
    BlobClient,
    BlobLeaseClient,
    BlobServiceClient,
    ContainerClient,
    ContentSettings,
    ResourceTypes,
    UserDelegationKey,
    generate_account_sas,
    generate_blob_sas,
    generate_container_sas,
)
from azurite import MISSING, running_azurite
from storage_accounts import account_key, create_account

ACCOUNT = "agreement"
MIB = 2**20
Refusal = tuple[int, str]


@dataclass(frozen=True)
class Store:
    """An account with keys on one of the two."""

    name: str
    url: str
    key: str
    bundle: str
    """File of the authorities that vouch for it."""

    @property
    def unauthenticated(self) -> Refusal:
        """How it answers a SAS that does not hold.

        https://learn.microsoft.com/rest/api/storageservices/common-rest-api-error-codes has AuthenticationFailed
        for it; AuthorizationFailure is the answer of a firewall.
        """
        return 403, {"local_azure": "AuthenticationFailed", "azurite": "AuthorizationFailure"}[self.name]


@pytest.fixture(
    scope="module",
    params=["local_azure", pytest.param("azurite", marks=pytest.mark.skipif(bool(MISSING), reason=MISSING))],
)
def store(
    request: pytest.FixtureRequest, shared_azure: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Store]:
    if request.param == "azurite":
        key = secrets.token_bytes(64)
        with running_azurite(tmp_path_factory.mktemp("azurite"), ACCOUNT, key) as (url, authority):
            yield Store(request.param, url, base64.b64encode(key).decode(), str(authority))
        return
    with pytest.MonkeyPatch.context() as environment:
        for name, value in shared_azure.items():
            environment.setenv(name, value)
        url = create_account(shared_azure, ACCOUNT, shared_keys=True)
        yield Store(request.param, url, account_key(shared_azure, ACCOUNT), shared_azure["REQUESTS_CA_BUNDLE"])


@pytest.fixture
def service(store: Store, azure: dict[str, str]) -> Iterator[BlobServiceClient]:
    """A client of the stand-in's operator, whose token Azurite takes as well as any."""
    sizes = {"max_single_put_size": MIB, "max_block_size": MIB, "max_single_get_size": MIB, "max_chunk_get_size": MIB}
    with (
        ManagedIdentityCredential() as credential,
        BlobServiceClient(store.url, credential, connection_verify=store.bundle, **sizes) as client,
    ):
        yield client


@pytest.fixture
def container(service: BlobServiceClient) -> ContainerClient:
    return service.create_container(f"c{uuid.uuid4().hex}")


@pytest.fixture
def blob(container: ContainerClient) -> BlobClient:
    """The blob `x` of ten bytes."""
    return container.upload_blob("x", b"0123456789")


@pytest.fixture
def delegation(service: BlobServiceClient) -> UserDelegationKey:
    return service.get_user_delegation_key(minutes(-5), minutes(30))


def minutes(count: float) -> datetime:
    return datetime.now(UTC) + timedelta(minutes=count)


def refusal(call: Callable[..., Any], *args: Any, **kwargs: Any) -> Refusal:
    """Status and code of what must be refused."""
    with pytest.raises(HttpResponseError) as error:
        call(*args, **kwargs)
    assert error.value.response is not None
    return error.value.response.status_code, error.value.response.headers["x-ms-error-code"]


def names(container: ContainerClient, **asked: Any) -> list[str]:
    return [entry.name for entry in container.list_blobs(**asked)]


def test_a_container_is_made_once(service: BlobServiceClient, container: ContainerClient) -> None:
    assert refusal(container.create_container) == (409, "ContainerAlreadyExists")
    missing = service.get_container_client("missing")
    assert refusal(missing.get_container_properties) == (404, "ContainerNotFound")
    assert refusal(missing.delete_container) == (404, "ContainerNotFound")
    assert refusal(missing.upload_blob, "x", b"") == (404, "ContainerNotFound")
    assert refusal(list, missing.list_blobs()) == (404, "ContainerNotFound")


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("ab", "OutOfRangeInput"),
        ("a" * 64, "OutOfRangeInput"),
        ("Upper", "InvalidResourceName"),
        ("-dash", "InvalidResourceName"),
        ("two--dashes", "InvalidResourceName"),
        ("under_score", "InvalidResourceName"),
    ],
)
def test_a_container_has_a_proper_name(service: BlobServiceClient, name: str, code: str) -> None:
    assert refusal(service.create_container, name) == (400, code)


def test_containers_are_listed_by_prefix_with_their_metadata(
    service: BlobServiceClient, container: ContainerClient
) -> None:
    container.set_container_metadata({"purpose": "test"})
    found = list(service.list_containers(container.container_name, include_metadata=True))
    assert [(entry.name, entry.metadata) for entry in found] == [(container.container_name, {"purpose": "test"})]
    assert container.get_container_properties().metadata == {"purpose": "test"}


def test_a_blob_keeps_bytes_headers_metadata_and_md5(container: ContainerClient) -> None:
    settings = ContentSettings("text/plain", "identity", "de", "attachment", "no-store")
    blob = container.upload_blob("a/b.txt", b"hello", metadata={"origin": "test"}, content_settings=settings)
    downloaded = blob.download_blob()
    assert (downloaded.readall(), downloaded.properties.metadata) == (b"hello", {"origin": "test"})
    kept = downloaded.properties.content_settings
    assert {**kept, "content_md5": None} == {**settings, "content_md5": None}
    assert kept.content_md5 == bytearray(hashlib.md5(b"hello", usedforsecurity=False).digest())
    assert (downloaded.properties.size, downloaded.properties.blob_type) == (5, "BlockBlob")


def test_headers_and_metadata_are_replaced_whole(blob: BlobClient) -> None:
    blob.set_http_headers(ContentSettings(content_type="text/plain", cache_control="no-store"))
    blob.set_http_headers(ContentSettings(content_language="de"))
    blob.set_blob_metadata({"first": "1"})
    blob.set_blob_metadata({"second": "2"})
    found = blob.get_blob_properties()
    assert (found.content_settings.cache_control, found.content_settings.content_language) == (None, "de")
    assert found.metadata == {"second": "2"}


def test_every_change_makes_a_new_version(blob: BlobClient) -> None:
    tags = [blob.get_blob_properties().etag]
    for change in (
        lambda: blob.set_blob_metadata({"a": "1"}),
        lambda: blob.set_http_headers(ContentSettings(content_type="text/plain")),
        lambda: blob.upload_blob(b"new", overwrite=True),
    ):
        change()
        tags.append(blob.get_blob_properties().etag)
    assert len(set(tags)) == 4


def test_a_large_upload_goes_in_blocks_and_comes_in_ranges(container: ContainerClient) -> None:
    content = secrets.token_bytes(9 * MIB + 1)
    blob = container.upload_blob("large", content, max_concurrency=4)
    committed, uncommitted = blob.get_block_list("all")
    assert ([block.size for block in committed], uncommitted) == ([MIB] * 9 + [1], [])
    assert blob.download_blob(max_concurrency=4, validate_content=True).readall() == content


def test_blocks_are_staged_listed_and_committed_in_order(container: ContainerClient) -> None:
    blob = container.get_blob_client("x")
    blob.stage_block("one", b"1")
    blob.stage_block("two", b"22")
    assert not blob.exists()
    committed, staged = blob.get_block_list("all")
    assert (committed, sorted((block.id, block.size) for block in staged)) == ([], [("one", 1), ("two", 2)])
    blob.commit_block_list([BlobBlock("two"), BlobBlock("one"), BlobBlock("two")])
    assert blob.download_blob().readall() == b"22122"
    blob.stage_block("one", b"changed")
    assert blob.download_blob().readall() == b"22122"
    blob.commit_block_list([BlobBlock("one")])
    assert blob.download_blob().readall() == b"changed"


def test_an_unknown_block_is_not_committed(container: ContainerClient, blob: BlobClient) -> None:
    assert refusal(blob.commit_block_list, [BlobBlock("none")]) == (400, "InvalidBlockList")
    assert refusal(container.get_blob_client("new").commit_block_list, [BlobBlock("none")]) == (400, "InvalidBlockList")
    assert blob.download_blob().readall() == b"0123456789"


def test_a_blob_without_blocks_has_no_block_list(container: ContainerClient, blob: BlobClient) -> None:
    assert blob.get_block_list("all") == ([], [])
    assert refusal(container.get_blob_client("none").get_block_list) == (404, "BlobNotFound")


def test_an_upload_takes_the_place_of_committed_and_staged_blocks(container: ContainerClient) -> None:
    blob = container.get_blob_client("x")
    blob.stage_block("one", b"1")
    blob.commit_block_list([BlobBlock("one")])
    blob.stage_block("two", b"2")
    blob.upload_blob(b"whole", overwrite=True)
    assert blob.download_blob().readall() == b"whole"
    assert blob.get_block_list("committed") == ([], [])
    assert refusal(blob.commit_block_list, [BlobBlock("one")]) == (400, "InvalidBlockList")


@pytest.mark.parametrize(
    ("offset", "length", "expected"),
    [(0, 1, b"0"), (3, 4, b"3456"), (9, 1, b"9"), (8, 100, b"89"), (5, None, b"56789"), (0, 10, b"0123456789")],
)
def test_a_range_is_read(blob: BlobClient, offset: int, length: int | None, expected: bytes) -> None:
    assert blob.download_blob(offset, length).readall() == expected


def test_a_range_behind_the_end_is_refused(container: ContainerClient, blob: BlobClient) -> None:
    assert refusal(blob.download_blob, 11, 1) == (416, "InvalidRange")
    empty = container.upload_blob("empty", b"")
    assert empty.download_blob().readall() == b""


@pytest.mark.parametrize("asked", ["bytes=5-2", "bytes=1-2,4-5"])
def test_a_range_that_is_none_is_not_heard(
    blob: BlobClient, delegation: UserDelegationKey, store: Store, asked: str
) -> None:
    assert answer(store, signed(blob, delegation), headers={"Range": asked}) == (200, "0123456789")


def test_a_listing_comes_in_pages(container: ContainerClient) -> None:
    every = [f"{number:02}" for number in range(7)]
    for name in every:
        container.upload_blob(name, b"", metadata={"n": name})
    pages = container.list_blobs(results_per_page=3, include=["metadata"]).by_page()
    assert [[entry.metadata["n"] for entry in page] for page in pages] == [every[:3], every[3:6], every[6:]]


def test_a_listing_goes_on_from_a_marker(container: ContainerClient) -> None:
    for name in "abcd":
        container.upload_blob(name, b"")
    first = container.list_blobs(results_per_page=2).by_page()
    assert [entry.name for entry in next(first)] == ["a", "b"]
    container.delete_blob("c")
    rest = container.list_blobs(results_per_page=2).by_page(first.continuation_token)
    assert [entry.name for page in rest for entry in page] == ["d"]


def test_a_listing_is_narrowed_by_prefix_and_rolled_up_by_delimiter(container: ContainerClient) -> None:
    for name in ("a", "a/1", "a/2", "b/c/3", "b/d"):
        container.upload_blob(name, b"")
    assert names(container, name_starts_with="a/") == ["a/1", "a/2"]
    assert names(container, name_starts_with="none") == []
    assert [entry.name for entry in container.walk_blobs()] == ["a/", "b/", "a"]  # the SDK's order
    assert [entry.name for entry in container.walk_blobs("b/")] == ["b/c/", "b/d"]


def test_pages_of_a_rolled_up_listing_repeat_no_directory(container: ContainerClient) -> None:
    for name in ("a/1", "a/2", "a/3", "b", "c/1", "c/2"):
        container.upload_blob(name, b"")
    pages = container.walk_blobs(results_per_page=1).by_page()
    assert [entry.name for page in pages for entry in page] == ["a/", "b", "c/"]


def test_staged_blobs_are_listed_for_who_asks(container: ContainerClient) -> None:
    container.get_blob_client("staged").stage_block("one", b"1")
    assert names(container) == []
    assert names(container, include=["uncommittedblobs"]) == ["staged"]


def test_names_are_kept_as_they_are(container: ContainerClient) -> None:
    every = ["A", "a", "%2e%2e/%2F", "ü €/+&?#=.txt", "x" * 1024, "a b", "a+b"]
    for name in every:
        container.upload_blob(name, name.encode())
    assert set(names(container)) == set(every)
    assert all(container.download_blob(name).readall() == name.encode() for name in every)


def test_an_upload_without_overwrite_finds_the_name_taken(container: ContainerClient, blob: BlobClient) -> None:
    assert refusal(container.upload_blob, "x", b"") == (409, "BlobAlreadyExists")


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        (lambda found: {"etag": found.etag, "match_condition": MatchConditions.IfNotModified}, None),
        (lambda found: {"etag": '"0x1"', "match_condition": MatchConditions.IfNotModified}, (412, "ConditionNotMet")),
        (lambda found: {"etag": found.etag, "match_condition": MatchConditions.IfModified}, (304, "ConditionNotMet")),
        (lambda found: {"etag": '"0x1"', "match_condition": MatchConditions.IfModified}, None),
        (lambda found: {"match_condition": MatchConditions.IfPresent}, None),
        (lambda found: {"if_modified_since": found.last_modified}, (304, "ConditionNotMet")),
        (lambda found: {"if_modified_since": found.last_modified - timedelta(seconds=1)}, None),
        (lambda found: {"if_unmodified_since": found.last_modified}, None),
        (
            lambda found: {"if_unmodified_since": found.last_modified - timedelta(seconds=1)},
            (412, "ConditionNotMet"),
        ),
    ],
    ids=["same", "stale", "new", "changed", "present", "newer", "older", "unmodified", "modified"],
)
def test_a_read_keeps_to_its_conditions(
    blob: BlobClient, condition: Callable[[Any], dict[str, Any]], expected: Refusal | None
) -> None:
    asked = condition(blob.get_blob_properties())
    if expected is None:
        assert blob.download_blob(**asked).readall() == b"0123456789"
        assert blob.get_blob_properties(**asked).size == 10
    else:
        assert refusal(blob.download_blob, **asked) == expected


@pytest.mark.parametrize(
    "condition",
    [
        lambda found: {"etag": '"0x1"', "match_condition": MatchConditions.IfNotModified},
        lambda found: {"etag": found.etag, "match_condition": MatchConditions.IfModified},
        lambda found: {"if_modified_since": found.last_modified},
        lambda found: {"if_unmodified_since": found.last_modified - timedelta(seconds=1)},
    ],
    ids=["stale", "new", "newer", "modified"],
)
def test_a_write_keeps_to_its_conditions(blob: BlobClient, condition: Callable[[Any], dict[str, Any]]) -> None:
    asked = condition(blob.get_blob_properties())
    not_met = (412, "ConditionNotMet")
    assert refusal(blob.upload_blob, b"new", overwrite=True, **asked) == not_met
    assert refusal(blob.set_blob_metadata, {"a": "1"}, **asked) == not_met
    assert refusal(blob.delete_blob, **asked) == not_met
    blob.stage_block("one", b"1")
    assert refusal(blob.commit_block_list, [BlobBlock("one")], **asked) == not_met
    assert blob.download_blob().readall() == b"0123456789"


def test_a_write_with_a_version_needs_the_blob(container: ContainerClient) -> None:
    asked: dict[str, Any] = {"etag": '"0x1"', "match_condition": MatchConditions.IfNotModified}
    assert refusal(container.upload_blob, "none", b"", overwrite=True, **asked) == (412, "ConditionNotMet")


def test_what_is_not_there_is_not_deleted(container: ContainerClient, blob: BlobClient) -> None:
    blob.delete_blob()
    for call in (blob.delete_blob, blob.download_blob, blob.get_blob_properties, blob.acquire_lease):
        assert refusal(call) == (404, "BlobNotFound")


def test_a_lease_keeps_others_from_writing(blob: BlobClient) -> None:
    lease = blob.acquire_lease(15)
    assert refusal(blob.upload_blob, b"2", overwrite=True) == (412, "LeaseIdMissing")
    assert refusal(blob.delete_blob, lease=str(uuid.uuid4())) == (412, "LeaseIdMismatchWithBlobOperation")
    assert refusal(blob.acquire_lease, 15) == (409, "LeaseAlreadyPresent")
    blob.upload_blob(b"2", overwrite=True, lease=lease)
    lease.renew()
    former = BlobLeaseClient(blob, lease.id)
    lease.release()
    assert refusal(former.renew) == (409, "LeaseIdMismatchWithLeaseOperation")
    assert blob.get_blob_properties().lease.state == "available"
    blob.delete_blob()


def test_a_broken_lease_is_free_to_take(blob: BlobClient) -> None:
    lease = blob.acquire_lease(-1)
    lease.change(str(uuid.uuid4()))
    assert lease.break_lease(0) == 0
    assert blob.get_blob_properties().lease.state == "broken"
    assert refusal(lease.renew) == (409, "LeaseIsBrokenAndCannotBeRenewed")
    blob.acquire_lease(15).release()


def test_a_copy_has_content_headers_and_metadata_of_its_source(container: ContainerClient) -> None:
    settings = ContentSettings(content_type="text/plain")
    source = container.upload_blob("source", b"content", metadata={"k": "v"}, content_settings=settings)
    copy = container.get_blob_client("copy")
    assert copy.start_copy_from_url(source.url)["copy_status"] == "success"
    source.delete_blob()
    found = copy.download_blob()
    assert (found.readall(), found.properties.metadata) == (b"content", {"k": "v"})
    assert found.properties.content_settings.content_type == "text/plain"
    assert (found.properties.copy.status, found.properties.copy.progress) == ("success", "7/7")


def test_a_copy_may_bear_metadata_of_its_own(container: ContainerClient) -> None:
    source = container.upload_blob("source", b"content", metadata={"k": "v"})
    copy = container.get_blob_client("copy")
    copy.start_copy_from_url(source.url, metadata={"other": "1"})
    assert copy.get_blob_properties().metadata == {"other": "1"}


def test_a_copy_keeps_to_conditions_on_its_source(store: Store, container: ContainerClient, blob: BlobClient) -> None:
    asked: dict[str, Any] = {"source_etag": '"0x1"', "source_match_condition": MatchConditions.IfNotModified}
    copy = container.get_blob_client("copy")
    # https://learn.microsoft.com/rest/api/storageservices/blob-service-error-codes tells the two apart.
    code = {"local_azure": "SourceConditionNotMet", "azurite": "ConditionNotMet"}[store.name]
    assert refusal(copy.start_copy_from_url, blob.url, **asked) == (412, code)
    assert not copy.exists()


def test_a_batch_deletes_what_is_there_and_reports_the_rest(container: ContainerClient, blob: BlobClient) -> None:
    parts = container.delete_blobs("x", "missing", raise_on_any_failure=False)
    assert [part.status_code for part in parts] == [202, 404]
    assert names(container) == []


def signed(blob: BlobClient, key: UserDelegationKey, **more: Any) -> str:
    """The blob's address with a user-delegation SAS, to read it for ten minutes unless told otherwise."""
    options = {"permission": "r", "expiry": minutes(10), **more}
    sas = generate_blob_sas(ACCOUNT, blob.container_name, blob.blob_name, user_delegation_key=key, **options)
    return f"{blob.url}?{sas}"


def answer(store: Store, url: str, method: str = "GET", **more: Any) -> tuple[int, str]:
    """Status, and the error's code or the content."""
    got = requests.request(method, url, verify=store.bundle, timeout=10, **more)
    return got.status_code, got.headers.get("x-ms-error-code") or got.text


def test_a_delegated_sas_reads_its_blob(store: Store, blob: BlobClient, delegation: UserDelegationKey) -> None:
    assert answer(store, signed(blob, delegation)) == (200, "0123456789")


def test_a_delegated_sas_gives_no_more_than_its_permission(
    store: Store, blob: BlobClient, delegation: UserDelegationKey
) -> None:
    refused = (403, "AuthorizationPermissionMismatch")
    assert answer(store, signed(blob, delegation), "DELETE") == refused
    assert answer(store, signed(blob, delegation, permission="w")) == refused
    assert answer(store, signed(blob, delegation, permission="d"), "DELETE") == (202, "")


@pytest.mark.parametrize(
    ("start", "expiry"), [(minutes(-10), minutes(-1)), (minutes(5), minutes(10))], ids=["expired", "not-yet"]
)
def test_a_delegated_sas_holds_for_its_time_alone(
    store: Store, blob: BlobClient, delegation: UserDelegationKey, start: datetime, expiry: datetime
) -> None:
    assert answer(store, signed(blob, delegation, start=start, expiry=expiry)) == store.unauthenticated


@pytest.mark.parametrize(
    "tamper",
    [
        lambda url: url.replace("sp=r&", "sp=rd&"),
        lambda url: url.replace("/x?", "/y?"),
        lambda url: url[:-8] + "AAAAA%3D",
    ],
    ids=["permission", "blob", "signature"],
)
def test_a_tampered_sas_opens_nothing(
    store: Store,
    container: ContainerClient,
    blob: BlobClient,
    delegation: UserDelegationKey,
    tamper: Callable[[str], str],
) -> None:
    container.upload_blob("y", b"other")
    url = signed(blob, delegation)
    assert tamper(url) != url
    assert answer(store, tamper(url)) == store.unauthenticated


def test_a_delegated_sas_for_a_container_opens_what_is_in_it(
    store: Store, container: ContainerClient, blob: BlobClient, delegation: UserDelegationKey
) -> None:
    options = {"user_delegation_key": delegation, "permission": "rwdl", "expiry": minutes(10)}
    sas = generate_container_sas(ACCOUNT, container.container_name, **options)
    with ContainerClient.from_container_url(f"{container.url}?{sas}", connection_verify=store.bundle) as client:
        client.upload_blob("y", b"1")
        assert names(client) == ["x", "y"]
        client.delete_blob("x")
        assert refusal(client.delete_container)[0] == 403


def test_create_permission_does_not_replace_a_blob(
    store: Store, blob: BlobClient, delegation: UserDelegationKey
) -> None:
    url = signed(blob, delegation, permission="c")
    with BlobClient.from_blob_url(url, connection_verify=store.bundle) as client:
        assert refusal(client.upload_blob, b"1", overwrite=True)[0] == 403
        blob.delete_blob()
        client.upload_blob(b"1")


def test_a_sas_sets_headers_of_the_answer(store: Store, blob: BlobClient, delegation: UserDelegationKey) -> None:
    url = signed(blob, delegation, content_type="text/markdown")
    assert requests.get(url, verify=store.bundle, timeout=10).headers["Content-Type"] == "text/markdown"


def test_a_key_lives_a_week_at_most(store: Store, service: BlobServiceClient) -> None:
    # Azurite gives one for longer: https://learn.microsoft.com/rest/api/storageservices/get-user-delegation-key
    if store.name == "azurite":
        assert service.get_user_delegation_key(minutes(0), minutes(8 * 24 * 60))
    else:
        assert refusal(service.get_user_delegation_key, minutes(0), minutes(8 * 24 * 60))[0] == 400
    assert service.get_user_delegation_key(minutes(0), minutes(7 * 24 * 60 - 1))


def account_sas(store: Store, **more: Any) -> str:
    """A SAS of the account's key, to read any blob for ten minutes unless told otherwise."""
    options = {
        "resource_types": ResourceTypes(object=True),
        "permission": AccountSasPermissions(read=True),
        "expiry": minutes(10),
        **more,
    }
    return generate_account_sas(ACCOUNT, store.key, **options)


def test_an_account_sas_is_held_to_types_and_permissions(
    store: Store, container: ContainerClient, blob: BlobClient
) -> None:
    sas = account_sas(store)
    assert answer(store, f"{blob.url}?{sas}") == (200, "0123456789")
    assert answer(store, f"{blob.url}?{sas}", "DELETE") == (403, "AuthorizationPermissionMismatch")
    listing = f"{container.url}?restype=container&comp=list&{sas}"
    assert answer(store, listing) == (403, "AuthorizationResourceTypeMismatch")


def test_an_account_sas_holds_for_its_time_and_key_alone(store: Store, blob: BlobClient) -> None:
    assert answer(store, f"{blob.url}?{account_sas(store, expiry=minutes(-1))}") == store.unauthenticated
    assert answer(store, f"{blob.url}?{account_sas(store)}".replace("sp=r&", "sp=rd&")) == store.unauthenticated


def test_a_service_sas_reads_its_blob_alone(store: Store, container: ContainerClient, blob: BlobClient) -> None:
    options = {"account_key": store.key, "permission": "r", "expiry": minutes(10)}
    sas = generate_blob_sas(ACCOUNT, container.container_name, "x", **options)
    container.upload_blob("y", b"other")
    assert answer(store, f"{blob.url}?{sas}") == (200, "0123456789")
    assert answer(store, f"{container.url}/y?{sas}") == store.unauthenticated


def test_an_account_key_signs_requests(store: Store, container: ContainerClient) -> None:
    credential = {"account_name": ACCOUNT, "account_key": store.key}
    with BlobServiceClient(store.url, credential, connection_verify=store.bundle) as client:
        signing = client.get_container_client(container.container_name)
        signing.upload_blob("ü b", b"content", metadata={"a_b": "1", "ab": "2"})
        assert signing.download_blob("ü b", offset=1, length=2).readall() == b"on"
        assert names(signing, name_starts_with="ü") == ["ü b"]


def test_a_wrong_account_key_is_refused(store: Store, container: ContainerClient) -> None:
    wrong = {"account_name": ACCOUNT, "account_key": base64.b64encode(b"wrong").decode()}
    with BlobServiceClient(store.url, wrong, connection_verify=store.bundle) as client:
        stranger = client.get_container_client(container.container_name)
        status, code = refusal(stranger.get_container_properties)
    # https://learn.microsoft.com/rest/api/storageservices/common-rest-api-error-codes
    expected = {"local_azure": (403, "AuthenticationFailed"), "azurite": (400, "InvalidAuthenticationInfo")}
    assert (status, code) == expected[store.name]


def test_a_body_that_differs_from_its_md5_is_refused(
    store: Store, blob: BlobClient, delegation: UserDelegationKey
) -> None:
    headers = {"x-ms-blob-type": "BlockBlob", "Content-MD5": base64.b64encode(bytes(16)).decode()}
    url = signed(blob, delegation, permission="w")
    assert answer(store, url, "PUT", headers=headers, data=b"body") == (400, "Md5Mismatch")


def test_metadata_has_names_of_identifiers(container: ContainerClient) -> None:
    assert refusal(container.upload_blob, "x", b"", metadata={"1a": "1"}) == (400, "InvalidMetadata")
