"""Ways in that are none: forged tokens, signatures stretched, paths bent, doors of somebody else."""

import base64
import contextlib
import hashlib
import hmac
import uuid
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from urllib.parse import parse_qsl, urlencode

import jwt
import pytest
import requests
from azure.core.exceptions import HttpResponseError
from azure.storage.blob import ContainerClient, UserDelegationKey, generate_blob_sas, generate_container_sas
from world import ARM, BATCH, BLOB, GEOCATALOG, GRAPH, World, send, send_as_it_is, small_world


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with pytest.MonkeyPatch.context() as patch, small_world(tmp_path_factory.mktemp("world"), patch.setenv) as made:
        yield made


@pytest.fixture
def world(cloud: World, monkeypatch: pytest.MonkeyPatch) -> World:
    for name, value in cloud.settings.items():
        monkeypatch.setenv(name, value)
    return cloud


@pytest.fixture
def container(world: World) -> Iterator[ContainerClient]:
    with world.container() as made:
        yield made


@pytest.fixture
def key(world: World) -> UserDelegationKey:
    with world.service() as service:
        return service.get_user_delegation_key(_minutes(-5), _minutes(30))


def _minutes(count: float) -> datetime:
    return datetime.now(UTC) + timedelta(minutes=count)


def _container_sas(container: ContainerClient, key: UserDelegationKey, permission: str = "rwdl") -> str:
    name = container.container_name
    return generate_container_sas(
        "delegated", name, user_delegation_key=key, permission=permission, expiry=_minutes(10)
    )


def test_parameter_that_nobody_signed_does_not_open_the_container_itself(
    container: ContainerClient, key: UserDelegationKey
) -> None:
    sas = f"{_container_sas(container, key)}&ss=b&srt=sco"
    refused = send("DELETE", f"{container.url}?restype=container&{sas}")
    assert refused == (403, "AuthorizationPermissionMismatch")
    assert container.exists()


def test_copy_of_a_blob_takes_more_than_the_look_of_a_shared_key(
    world: World, container: ContainerClient, key: UserDelegationKey
) -> None:
    with world.container("keyed") as secret:
        headers = {
            "x-ms-copy-source": f"{secret.url}/x",
            "x-ms-copy-source-authorization": "SharedKey keyed:any",
            "Authorization": "SharedKey keyed:any",
            "x-ms-version": "2023-11-03",
        }
        refused = send("PUT", f"{container.url}/stolen?{_container_sas(container, key)}", headers=headers)
    assert (refused.status, refused.code) == (403, "CannotVerifyCopySource")
    assert not container.get_blob_client("stolen").exists()


def test_delegation_key_does_not_outlive_its_week_by_a_line_break_in_its_request(world: World) -> None:
    start, later = f"{_minutes(-5):%Y-%m-%dT%H:%M:%SZ}", "2099-01-01T00:00:00Z"
    smuggled = "\n".join([start, later, "b", "2023-11-03", ""])
    body = (
        f"<KeyInfo><Start>{start}</Start><Expiry>{_minutes(10):%Y-%m-%dT%H:%M:%SZ}</Expiry>"
        f"<DelegatedUserTid>{smuggled}</DelegatedUserTid></KeyInfo>"
    )
    headers = {"Authorization": f"Bearer {world.operator(BLOB)}", "x-ms-version": "2023-11-03"}
    url = f"{world.blobs['delegated']}/?restype=service&comp=userdelegationkey"
    answer = requests.post(url, body, headers=headers, timeout=10)
    assert (answer.status_code, answer.headers.get("x-ms-error-code")) == (400, "InvalidXmlNodeValue")


def test_sas_value_with_a_line_break_is_refused(container: ContainerClient, key: UserDelegationKey) -> None:
    values = dict(parse_qsl(_container_sas(container, key, "r")))
    values["sp"] = "r\n"
    assert send("GET", f"{container.url}/x?{urlencode(values)}") == (403, "AuthenticationFailed")


@pytest.mark.parametrize("version", ["9999", "2026-04-06x", "zzzz", "2018-03-28", ""])
def test_sas_of_a_version_that_is_none_is_refused(
    container: ContainerClient, key: UserDelegationKey, version: str
) -> None:
    values = {**dict(parse_qsl(_container_sas(container, key))), "sv": version}
    assert send("GET", f"{container.url}/x?{urlencode(values)}") == (403, "AuthenticationFailed")


def test_directory_sas_is_refused_where_there_are_no_directories(
    container: ContainerClient, key: UserDelegationKey
) -> None:
    values = {**dict(parse_qsl(_container_sas(container, key))), "sr": "d", "sdd": "0"}
    assert send("GET", f"{container.url}/x?{urlencode(values)}") == (403, "AuthenticationFailed")


def test_blob_sas_lists_nothing(container: ContainerClient, key: UserDelegationKey) -> None:
    sas = generate_blob_sas(
        "delegated", container.container_name, "x", user_delegation_key=key, permission="rl", expiry=_minutes(10)
    )
    assert send("GET", f"{container.url}?restype=container&comp=list&{sas}").status == 403


@pytest.mark.parametrize(
    "bent",
    [
        "{open}/../{shut}/x",
        "{open}/%2e%2e/{shut}/x",
        "{open}%2F..%2F{shut}/x",
        "{open}//{shut}/x",
        "{shut}%2Fx",
        "{SHUT}/x",
        "./{shut}/x",
        "/{shut}/x",
    ],
)
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_sas_of_one_container_reaches_no_other_by_any_path(
    world: World, key: UserDelegationKey, bent: str, method: str
) -> None:
    with world.container() as opened, world.container() as shut:
        names = {"open": opened.container_name, "shut": shut.container_name, "SHUT": shut.container_name.upper()}
        target = f"/delegated/{bent.format(**names)}?{_container_sas(opened, key)}"
        assert send_as_it_is(method, world.blobs["delegated"], target, {}).status in (400, 403, 404, 501)


@pytest.mark.parametrize("name", ["%ff%fe", "%00", "%E2%80%AEx", "x" * 1025])
def test_odd_name_is_no_failure(world: World, container: ContainerClient, name: str) -> None:
    headers = {"Authorization": f"Bearer {world.operator(BLOB)}", "x-ms-version": "2023-11-03"}
    target = f"/delegated/{container.container_name}/{name}"
    assert send_as_it_is("GET", container.url, target, headers).status in (400, 404)


@pytest.mark.parametrize("resource", [ARM, BATCH, BLOB, GEOCATALOG])
@pytest.mark.parametrize("lack", ["aud", "exp", "oid"])
def test_token_that_lacks_a_claim_is_refused(world: World, resource: str, lack: str) -> None:
    claims = jwt.decode(world.operator(resource), options={"verify_signature": False})
    del claims[lack]
    forged = jwt.encode(claims, (world.state / "token-key.pem").read_bytes(), algorithm="RS256")
    headers = {"Authorization": f"Bearer {forged}", "x-ms-version": "2023-11-03"}
    address = {
        ARM: f"{world.settings['LOCAL_AZURE_ARM_URL']}/subscriptions?api-version=2022-12-01",
        BATCH: f"{world.batch_root}/jobs?api-version=2025-06-01",
        BLOB: f"{world.blobs['delegated']}/?comp=list",
        GEOCATALOG: f"{world.settings['LOCAL_AZURE_GEOCATALOG_URL']}/stac/collections?api-version=2026-04-15",
    }[resource]
    assert send("GET", address, headers=headers).status == 401


def test_name_of_somebody_is_not_his_identity(world: World) -> None:
    forged = world.forged(ARM, oid="operator")
    assert world.arm("GET", "/subscriptions", "2022-12-01", by=forged).status == 401


def test_identity_without_a_right_on_the_directory_changes_nothing_in_it(world: World) -> None:
    headers = {"Authorization": f"Bearer {world.somebody().token(GRAPH)}"}
    root = f"{world.settings['LOCAL_AZURE_LOGIN_URL']}/v1.0"
    found = requests.get(f"{root}/applications", headers=headers, timeout=10).json()["value"][0]
    for method, path in [
        ("POST", f"applications/{found['id']}/addPassword"),
        ("DELETE", f"applications/{found['id']}"),
        ("DELETE", f"servicePrincipals/{world.operator_id}"),
        ("POST", "servicePrincipals"),
    ]:
        refused = send(method, f"{root}/{path}", json={}, headers=headers)
        assert refused == (403, "Authorization_RequestDenied"), path


def test_identity_endpoint_gives_tokens_for_known_resources_only(world: World) -> None:
    url = f"{world.settings['AZURE_POD_IDENTITY_AUTHORITY_HOST']}/metadata/identity/oauth2/token"
    query = {"api-version": "2018-02-01", "resource": "https://elsewhere.example"}
    refused = send("GET", url, params=query, headers={"Metadata": "true"})
    assert refused == (400, "invalid_resource")


def test_basic_credentials_that_are_no_base64_are_a_refusal_and_no_failure(world: World) -> None:
    url = f"{world.settings['LOCAL_AZURE_LOGIN_URL']}/{world.settings['LOCAL_AZURE_TENANT_ID']}/oauth2/v2.0/token"
    form = {"grant_type": "client_credentials", "scope": f"{ARM}/.default"}
    assert send("POST", url, data=form, headers={"Authorization": "Basic ö!".encode("latin-1")}).status in (400, 401)


@pytest.mark.parametrize("scope", ["resourceGroups/blobs/../nodes", "resourceGroups//nodes", "resourceGroups/blobsx"])
def test_role_on_one_group_opens_no_other_by_any_path(world: World, scope: str) -> None:
    owner = "8e3af657-a8ff-443c-a75c-2fe8c4bcb635"
    somebody = world.somebody(owner, f"{world.subscription}/resourceGroups/blobs")
    target = f"{world.subscription}/{scope}/providers/Microsoft.Batch/batchAccounts/doors?api-version=2025-06-01"
    headers = {"Authorization": f"Bearer {somebody.token(ARM)}"}
    assert send_as_it_is("GET", world.settings["LOCAL_AZURE_ARM_URL"], target, headers).status in (403, 404, 501)


def test_role_that_was_assigned_by_a_bent_path_reaches_nothing(world: World) -> None:
    owner = "8e3af657-a8ff-443c-a75c-2fe8c4bcb635"
    mine = f"{world.subscription}/resourceGroups/blobs"
    somebody = world.somebody(owner, mine)
    name, principal = uuid.uuid4(), somebody.object_id
    body = (
        f'{{"properties": {{"roleDefinitionId": "{mine}/providers/Microsoft.Authorization/roleDefinitions/{owner}",'
        f' "principalId": "{principal}"}}}}'
    ).encode()
    headers = {"Authorization": f"Bearer {somebody.token(ARM)}", "Content-Type": "application/json"}
    target = f"{mine}/../nodes/providers/Microsoft.Authorization/roleAssignments/{name}?api-version=2022-04-01"
    send_as_it_is("PUT", world.settings["LOCAL_AZURE_ARM_URL"], target, headers, body)
    refused = world.arm("GET", f"{world.subscription}/resourceGroups/nodes", "2025-04-01", by=somebody.token(ARM))
    assert refused == (403, "AuthorizationFailed")


def test_host_that_the_client_claims_decides_nothing(world: World) -> None:
    mine = f"{world.subscription}/resourceGroups/blobs"
    somebody = world.somebody("8e3af657-a8ff-443c-a75c-2fe8c4bcb635", mine)
    headers = {"Authorization": f"Bearer {somebody.token(ARM)}", "Host": f"127.0.0.1{mine}?"}
    target = f"{world.subscription}/resourceGroups/nodes?api-version=2025-04-01"
    assert send_as_it_is("GET", world.settings["LOCAL_AZURE_ARM_URL"], target, headers).status in (400, 403)


@pytest.mark.parametrize("header", ["X-HTTP-Method-Override", "X-HTTP-Method", "X-Method-Override"])
def test_method_that_a_header_claims_is_not_carried_out(world: World, header: str) -> None:
    with world.container() as container:
        headers = {"Authorization": f"Bearer {world.operator(BLOB)}", "x-ms-version": "2023-11-03", header: "DELETE"}
        send("POST", f"{container.url}/x", headers=headers)
        send("GET", f"{container.url}/x", headers=headers)
        assert container.get_blob_client("x").exists()


@pytest.mark.parametrize("path", ["/collections/x/items/search", "/collections/search", "/search/../collections"])
def test_reader_writes_nothing_by_a_path_that_ends_like_a_search(world: World, path: str) -> None:
    target = f"/stac{path}?api-version=2026-04-15"
    headers = {"Authorization": f"Bearer {world.operator(GEOCATALOG)}", "Content-Type": "application/json"}
    refused = send_as_it_is("POST", world.settings["LOCAL_AZURE_GEOCATALOG_URL"], target, headers, b"{}")
    assert refused == (403, "AuthorizationFailed")


def _signed(world: World, sign: Callable[[str], str], date: str) -> int:
    url = f"{world.settings['LOCAL_AZURE_BATCH_URL']}/withkeys/jobs"
    headers = {"ocp-date": date, "Authorization": f"SharedKey withkeys:{sign(date)}"}
    return send("GET", url, params={"api-version": "2025-06-01"}, headers=headers).status


def test_batch_request_that_was_signed_long_ago_is_not_played_again(world: World) -> None:
    account = f"{world.subscription}/resourceGroups/nodes/providers/Microsoft.Batch/batchAccounts/withkeys"
    body = {"location": "westeurope", "properties": {"allowedAuthenticationModes": ["AAD", "SharedKey"]}}
    world.arm("PUT", account, "2025-06-01", json=body)
    headers = {"Authorization": f"Bearer {world.operator(ARM)}"}
    url = f"{world.settings['LOCAL_AZURE_ARM_URL']}{account}/listKeys?api-version=2025-06-01"
    while not (answer := requests.post(url, headers=headers, timeout=10)).ok:
        continue
    secret = base64.b64decode(answer.json()["primary"])

    def sign(date: str) -> str:
        text = "GET" + "\n" * 12 + f"ocp-date:{date}\n/withkeys/withkeys/jobs\napi-version:2025-06-01"
        return base64.b64encode(hmac.digest(secret, text.encode(), hashlib.sha256)).decode()

    assert _signed(world, sign, format_datetime(_minutes(0), usegmt=True)) == 200
    assert _signed(world, sign, format_datetime(_minutes(-16), usegmt=True)) == 403
    assert _signed(world, sign, "") == 403


@pytest.mark.parametrize("condition", ["yesterday", "Tue, 24 Nov 2020 00:00:00 -0000"])
def test_condition_that_is_no_date_is_a_refusal_and_no_failure(world: World, condition: str) -> None:
    with world.jobs() as client:
        name = f"job-{uuid.uuid4().hex[:8]}"
        client.create_job({"id": name, "poolInfo": {"poolId": "nowhere"}})
        answer = world.batch("GET", f"/jobs/{name}", headers={"If-Modified-Since": condition})
        client.begin_delete_job(name, polling_interval=0.1).result()
    assert answer.status in (200, 400)


def test_batch_of_blobs_deletes_no_blob_for_its_snapshot(container: ContainerClient) -> None:
    with contextlib.suppress(HttpResponseError):
        container.delete_blobs({"name": "x", "snapshot": "2020-01-01T00:00:00.0000000Z"}, "y")
    assert container.get_blob_client("x").exists()
