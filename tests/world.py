"""A small cloud with something to refuse in each service, and everybody who might ask for it.

Whoever wants to send what no SDK sends (a forged token, a path that clients would tidy up) finds a way here.
"""

import http.client
import json
import os
import ssl
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import jwt
import requests
from azure.batch import BatchClient
from azure.core.exceptions import HttpResponseError
from azure.identity import ClientSecretCredential, ManagedIdentityCredential
from azure.storage.blob import BlobServiceClient, ContainerClient
from conftest import running_azure
from local_pools import batch_account
from stac_session import API_VERSION, READER_ROLE, grant, object_id, token
from storage_accounts import account_key, create_account
from test_local_login import new_application

ARM = "https://management.azure.com"
BATCH = "https://batch.core.windows.net/"
BLOB = "https://storage.azure.com"
GEOCATALOG = "https://geocatalog.spatio.azure.com"
GRAPH = "https://graph.microsoft.com"
READER = "acdd72a7-3385-48ef-bd42-f606fba81ae7"
CONTRIBUTOR = "b24988ac-6180-42a0-ab88-20f7382dd24c"
JOB_SUBMITTER = "48e5e92e-a480-4e71-aa9c-2778f4c13781"
BLOB_READER = "2a2b9908-6ea1-4ae2-8e65-a410df84e7d1"
JOB_QUOTA = 40
CALLS_PER_SECOND = 20


class Answer(NamedTuple):
    """What a service said, as far as a refusal is told by it."""

    status: int
    code: str


@dataclass(frozen=True)
class Somebody:
    """An application that signs in with a secret, without any role to begin with."""

    settings: dict[str, str]
    client_id: str
    secret: str
    object_id: str

    def credential(self) -> ClientSecretCredential:
        """For the SDKs."""
        return ClientSecretCredential(
            self.settings["LOCAL_AZURE_TENANT_ID"],
            self.client_id,
            self.secret,
            authority=self.settings["LOCAL_AZURE_LOGIN_URL"],
            disable_instance_discovery=True,
        )

    def token(self, resource: str) -> str:
        """A token for raw requests."""
        with self.credential() as credential:
            return credential.get_token(f"{resource}/.default").token


@dataclass(frozen=True)
class World:
    """The cloud; its storage accounts are `delegated` (without shared keys) and `keyed`, its Batch account `doors`."""

    settings: dict[str, str]
    state: Path
    blobs: dict[str, str]
    """Blob endpoints by account."""

    @cached_property
    def subscription(self) -> str:
        """ARM id of the subscription."""
        return f"/subscriptions/{self.settings['LOCAL_AZURE_SUBSCRIPTION_ID']}"

    @cached_property
    def batch_root(self) -> str:
        """Address of the Batch account."""
        return f"{self.settings['LOCAL_AZURE_BATCH_URL']}/doors"

    @cached_property
    def batch_id(self) -> str:
        """ARM id of the Batch account."""
        return f"{self.subscription}/resourceGroups/nodes/providers/Microsoft.Batch/batchAccounts/doors"

    def storage_id(self, account: str, container: str = "") -> str:
        """ARM id of a storage account, or of a container in it."""
        scope = f"{self.subscription}/resourceGroups/blobs/providers/Microsoft.Storage/storageAccounts/{account}"
        return f"{scope}/blobServices/default/containers/{container}" if container else scope

    def operator(self, resource: str) -> str:
        """A token of the operator."""
        return token(self.settings, f"{resource}/.default")

    def somebody(self, role: str = "", scope: str = "") -> Somebody:
        """A new application, with one role or none."""
        found = Somebody(self.settings, *new_application(f"somebody-{uuid.uuid4().hex[:8]}"))
        if role:
            assert self.assign(role, scope, found.object_id).status == 201
        return found

    def assign(self, role: str, scope: str, principal: str, *, by: str = "", name: str = "") -> Answer:
        """Assign a role as the operator, or with somebody's token."""
        definition = f"{self.subscription}/providers/Microsoft.Authorization/roleDefinitions/{role}"
        path = f"{scope}/providers/Microsoft.Authorization/roleAssignments/{name or uuid.uuid4()}"
        body = {"properties": {"roleDefinitionId": definition, "principalId": principal}}
        return self.arm("PUT", path, "2022-04-01", by=by, json=body)

    def arm(self, method: str, path: str, version: str, *, by: str = "", **more: Any) -> Answer:
        """A request to Azure Resource Manager, by the operator unless told otherwise."""
        headers = {"Authorization": f"Bearer {by or self.operator(ARM)}", **more.pop("headers", {})}
        url = f"{self.settings['LOCAL_AZURE_ARM_URL']}{path}"
        return send(method, url, params={"api-version": version} if version else {}, headers=headers, **more)

    def batch(self, method: str, path: str, *, by: str = "", **more: Any) -> Answer:
        """A request to the Batch account, by the operator unless told otherwise."""
        headers = {"Authorization": f"Bearer {by or self.operator(BATCH)}", **more.pop("headers", {})}
        return send(method, self.batch_root + path, params={"api-version": "2025-06-01"}, headers=headers, **more)

    def stac(self, method: str, path: str, *, by: str = "", **more: Any) -> Answer:
        """A call of the GeoCatalog, by the operator, who is its reader, unless told otherwise."""
        headers = {"Authorization": f"Bearer {by or self.operator(GEOCATALOG)}", **more.pop("headers", {})}
        params = {"api-version": API_VERSION, **more.pop("params", {})}
        return send(
            method, f"{self.settings['LOCAL_AZURE_GEOCATALOG_URL']}/stac{path}", params=params, headers=headers, **more
        )

    def forged(self, resource: str, key: Any = None, algorithm: str = "RS256", **claims: Any) -> str:
        """A token of the operator's with other claims, signed by this cloud's key or another."""
        true = jwt.decode(self.operator(resource), options={"verify_signature": False})
        secret = key if key is not None else (self.state / "token-key.pem").read_bytes()
        return jwt.encode({**true, **claims}, secret, algorithm=algorithm, headers={"kid": "local_azure"})

    @contextmanager
    def service(self, account: str = "delegated", by: Somebody | None = None) -> Iterator[BlobServiceClient]:
        """The SDK on a storage account."""
        with (
            by.credential() if by else ManagedIdentityCredential() as credential,
            BlobServiceClient(self.blobs[account], credential, retry_total=0) as client,
        ):
            yield client

    @contextmanager
    def container(self, account: str = "delegated") -> Iterator[ContainerClient]:
        """A fresh container with the blob `x`."""
        with self.service(account) as service:
            made = service.create_container(f"c{uuid.uuid4().hex}")
            made.upload_blob("x", b"content")
            yield made

    @contextmanager
    def jobs(self, by: Somebody | None = None, account: str = "doors") -> Iterator[BatchClient]:
        """The SDK on a Batch account."""
        endpoint = f"{self.settings['LOCAL_AZURE_BATCH_URL']}/{account}"
        with (
            by.credential() if by else ManagedIdentityCredential() as credential,
            BatchClient(endpoint, credential, credential_scopes=[f"{BATCH}/.default"]) as client,
        ):
            yield client

    def storage_key(self) -> str:
        """A key of the account `keyed`."""
        return account_key(self.settings, "keyed")

    @property
    def operator_id(self) -> str:
        """Object id of the operator."""
        return object_id(self.operator(ARM))


@contextmanager
def small_world(folder: Path, environment: Callable[[str, str], None]) -> Iterator[World]:
    """A stand-in with the accounts of a `World`; `environment` sets a variable for as long as it is needed."""
    flags = ("--demo-items", "5", "--job-quota", str(JOB_QUOTA), "--geocatalog-rate", str(CALLS_PER_SECOND))
    with running_azure(folder, *flags) as settings:
        for name, value in settings.items():
            environment(name, value)
        blobs = {
            "delegated": create_account(settings, "delegated"),
            "keyed": create_account(settings, "keyed", shared_keys=True),
        }
        grant(settings, READER_ROLE)
        with batch_account(settings, "doors"):
            yield World(settings, folder / "state", blobs)


def send(method: str, url: str, session: requests.Session | None = None, **options: Any) -> Answer:
    """Send a request; a token may be any text, and no redirect is followed."""
    answer = (session or requests).request(method, url, timeout=20, allow_redirects=False, **options)
    return Answer(answer.status_code, _code(answer.headers, answer.text))


def send_as_it_is(method: str, url: str, target: str, headers: dict[str, str], body: bytes = b"") -> Answer:
    """Send a request target that clients would tidy up, such as one with dots, to the server of a URL."""
    parts = urlsplit(url)
    context = ssl.create_default_context(cafile=os.environ["REQUESTS_CA_BUNDLE"])
    connection = http.client.HTTPSConnection(parts.netloc, timeout=20, context=context)
    try:
        connection.putrequest(method, target, skip_host="Host" in headers)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            connection.putheader(name, value)
        connection.endheaders(body)
        answer = connection.getresponse()
        return Answer(answer.status, _code(answer.headers, answer.read().decode(errors="replace")))
    finally:
        connection.close()


def refused_by(call: Callable[[], Any]) -> Answer:
    """The refusal that a call of an SDK ends with; 200 where it does not."""
    try:
        call()
    except HttpResponseError as error:
        code = getattr(error, "error_code", None) or getattr(error.error, "code", "")
        return Answer(error.status_code or 0, str(getattr(code, "value", code)))
    return Answer(200, "")


def _code(headers: Any, text: str) -> str:
    if headers.get("x-ms-error-code"):
        return str(headers["x-ms-error-code"])
    try:
        body = json.loads(text)
    except ValueError:
        return ""
    if "error_codes" in body:
        return f"AADSTS{body['error_codes'][0]}"
    error = body.get("error", body)
    return str(error.get("code", "")) if isinstance(error, dict) else str(error)


def until(look: Callable[[], bool]) -> None:
    """Wait for something that comes about by itself."""
    deadline = time.monotonic() + 30
    while not look():
        assert time.monotonic() < deadline
        time.sleep(0.05)
