"""A reader of the local GeoCatalog, for the tests of its STAC API."""

import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import jwt
import pytest
import requests
from azure.core.exceptions import ResourceExistsError
from azure.identity import ManagedIdentityCredential
from azure.mgmt.authorization import AuthorizationManagementClient

READER_ROLE = "b7b8f583-43d0-40ae-b147-6b46f53661c1"
SCOPE = "https://geocatalog.spatio.azure.com/.default"
API_VERSION = "2026-04-15"


class StacSession(requests.Session):
    """Calls paths below `/stac` with the api-version, and absolute addresses as they are."""

    def __init__(self, settings: dict[str, str], token: str) -> None:
        super().__init__()
        self.root = settings["LOCAL_AZURE_GEOCATALOG_URL"] + "/stac"
        self.trust_env = False  # the environment's CA bundle would override ours
        self.verify = settings["REQUESTS_CA_BUNDLE"]
        self.headers["Authorization"] = f"Bearer {token}"

    def request(self, method: Any, url: Any, *args: Any, **kwargs: Any) -> requests.Response:
        """Send one request."""
        if url.startswith("https:"):
            return super().request(method, url, *args, **kwargs)
        params = {"api-version": API_VERSION, **(kwargs.pop("params", None) or {})}
        return super().request(method, self.root + url, *args, params=params, **kwargs)

    def pages(self, method: str, path: str, query: dict[str, Any]) -> Iterator[dict[str, Any]]:
        """The pages of a search, by its next links."""
        answer = self.get(path, params=query) if method == "GET" else self.post(path, json=query)
        while True:
            answer.raise_for_status()
            page = answer.json()
            yield page
            following = [link for link in page["links"] if link["rel"] == "next"]
            if not following:
                return
            answer = self.request(method, following[0]["href"], json=following[0].get("body"))

    def items(self, method: str = "GET", path: str = "/search", **query: Any) -> list[dict[str, Any]]:
        """All items of a search."""
        return [item for page in self.pages(method, path, query) for item in page["features"]]

    def ids(self, **query: Any) -> list[str]:
        """The ids that a search finds."""
        return [item["id"] for item in self.items(**query)]


def token(settings: dict[str, str], scope: str = SCOPE) -> str:
    """A token of the operator's identity."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AZURE_POD_IDENTITY_AUTHORITY_HOST", settings["AZURE_POD_IDENTITY_AUTHORITY_HOST"])
        with ManagedIdentityCredential() as credential:
            return credential.get_token(scope).token


def object_id(access_token: str) -> str:
    """Whose token it is."""
    return str(jwt.decode(access_token, options={"verify_signature": False})["oid"])


def grant(settings: dict[str, str], role: str) -> None:
    """Give the operator a role on the GeoCatalog."""
    scope, subscription = settings["LOCAL_AZURE_GEOCATALOG_ID"], settings["LOCAL_AZURE_SUBSCRIPTION_ID"]
    principal = object_id(token(settings))
    definition = f"/subscriptions/{subscription}/providers/Microsoft.Authorization/roleDefinitions/{role}"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AZURE_POD_IDENTITY_AUTHORITY_HOST", settings["AZURE_POD_IDENTITY_AUTHORITY_HOST"])
        with (
            ManagedIdentityCredential() as credential,
            AuthorizationManagementClient(
                credential,
                subscription,
                base_url=settings["LOCAL_AZURE_ARM_URL"],
                credential_scopes=["https://management.azure.com/.default"],
                connection_verify=settings["REQUESTS_CA_BUNDLE"],
            ) as client,
            suppress(ResourceExistsError),
        ):
            client.role_assignments.create(
                scope,
                str(uuid.uuid5(uuid.NAMESPACE_URL, f"{scope}|{principal}|{role}")),
                {"role_definition_id": definition, "principal_id": principal, "principal_type": "ServicePrincipal"},
            )


@contextmanager
def reader(settings: dict[str, str]) -> Iterator[StacSession]:
    """A session of the operator, who becomes GeoCatalog Reader."""
    grant(settings, READER_ROLE)
    with StacSession(settings, token(settings)) as session:
        yield session
