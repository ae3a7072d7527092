"""Entra's token endpoint and Graph, as the SDKs and the Azure CLI talk to them."""

import os

import jwt
import pytest
import requests
from azure.core.exceptions import ClientAuthenticationError
from azure.identity import ClientSecretCredential, ManagedIdentityCredential

ARM_SCOPE = "https://management.azure.com/.default"


def graph(method: str, path: str, **arguments: object) -> requests.Response:
    """A Graph request of the operator."""
    token = ManagedIdentityCredential().get_token("https://graph.microsoft.com/.default").token
    url = f"{os.environ['LOCAL_AZURE_LOGIN_URL']}/v1.0/{path}"
    headers = {"Authorization": f"Bearer {token}"}
    return requests.request(method, url, headers=headers, timeout=10, **arguments)  # type: ignore[arg-type]  # passed on as they are


def new_application(name: str) -> tuple[str, str, str]:
    """Client id, secret and object id of a new application with a service principal."""
    application = graph("POST", "applications", json={"displayName": name}).json()
    principal = graph("POST", "servicePrincipals", json={"appId": application["appId"]}).json()
    password = graph("POST", f"applications/{application['id']}/addPassword", json={}).json()
    return application["appId"], password["secretText"], principal["id"]


def credential(azure: dict[str, str], client_id: str, secret: str) -> ClientSecretCredential:
    """The SDK's credential of an application."""
    return ClientSecretCredential(
        azure["LOCAL_AZURE_TENANT_ID"],
        client_id,
        secret,
        authority=azure["LOCAL_AZURE_LOGIN_URL"],
        disable_instance_discovery=True,
    )


def test_application_with_its_secret_gets_a_token_in_its_name(azure: dict[str, str]) -> None:
    client_id, secret, object_id = new_application("harvester")
    token = credential(azure, client_id, secret).get_token(ARM_SCOPE).token
    claims = jwt.decode(token, options={"verify_signature": False})
    assert (claims["oid"], claims["aud"]) == (object_id, "https://management.azure.com")


def test_wrong_secret_is_refused_as_entra_does(azure: dict[str, str]) -> None:
    client_id, _, _ = new_application("mistyped")
    with pytest.raises(ClientAuthenticationError, match="AADSTS7000215"):
        credential(azure, client_id, "wrong").get_token(ARM_SCOPE)


def test_unknown_application_is_refused_as_entra_does(azure: dict[str, str]) -> None:
    with pytest.raises(ClientAuthenticationError, match="AADSTS700016"):
        credential(azure, "00000000-0000-0000-0000-000000000000", "any").get_token(ARM_SCOPE)


def test_unknown_resource_is_refused_as_entra_does(azure: dict[str, str]) -> None:
    client_id, secret, _ = new_application("curious")
    with pytest.raises(ClientAuthenticationError, match="AADSTS500011"):
        credential(azure, client_id, secret).get_token("https://elsewhere.example/.default")


def test_managed_identity_has_no_secret_that_could_be_guessed(azure: dict[str, str]) -> None:
    operator = jwt.decode(ManagedIdentityCredential().get_token(ARM_SCOPE).token, options={"verify_signature": False})
    with pytest.raises(ClientAuthenticationError, match="AADSTS7000215"):
        credential(azure, operator["appid"], "any").get_token(ARM_SCOPE)


def test_version_one_endpoint_names_the_audience_by_resource(azure: dict[str, str]) -> None:
    client_id, secret, _ = new_application("old client")
    form = {
        "grant_type": "client_credentials",
        "client_id": client_id,
        "client_secret": secret,
        "resource": "https://storage.azure.com/",
    }
    url = f"{azure['LOCAL_AZURE_LOGIN_URL']}/{azure['LOCAL_AZURE_TENANT_ID']}/oauth2/token"
    answer = requests.post(url, data=form, timeout=10).json()
    claims = jwt.decode(answer["access_token"], options={"verify_signature": False})
    assert (claims["aud"], answer["resource"]) == ("https://storage.azure.com/", "https://storage.azure.com/")


def test_published_key_verifies_the_tokens(azure: dict[str, str]) -> None:
    root = f"{azure['LOCAL_AZURE_LOGIN_URL']}/{azure['LOCAL_AZURE_TENANT_ID']}"
    configuration = requests.get(f"{root}/v2.0/.well-known/openid-configuration", timeout=10).json()
    keys = jwt.PyJWKSet.from_dict(requests.get(configuration["jwks_uri"], timeout=10).json())
    token = ManagedIdentityCredential().get_token(ARM_SCOPE).token
    claims = jwt.decode(token, keys["local_azure"].key, algorithms=["RS256"], audience="https://management.azure.com")
    assert claims["tid"] == azure["LOCAL_AZURE_TENANT_ID"]


def test_service_principal_is_found_by_client_id_and_by_object_id(azure: dict[str, str]) -> None:
    client_id, _, object_id = new_application("assignee")
    text = f"servicePrincipalNames/any(c:c eq '{client_id}')"
    by_client = graph("GET", "servicePrincipals", params={"$filter": text}).json()["value"]
    by_object = graph("POST", "directoryObjects/getByIds", json={"ids": [object_id]}).json()["value"]
    assert [found["id"] for found in by_client + by_object] == [object_id, object_id]


def test_operator_is_found_by_the_name_that_az_gives_to_a_managed_identity(azure: dict[str, str]) -> None:
    text = "servicePrincipalNames/any(c:c eq 'systemAssignedIdentity')"
    (found,) = graph("GET", "servicePrincipals", params={"$filter": text}).json()["value"]
    claims = jwt.decode(ManagedIdentityCredential().get_token(ARM_SCOPE).token, options={"verify_signature": False})
    assert found["id"] == claims["oid"]


def test_graph_wants_a_token_for_graph(azure: dict[str, str]) -> None:
    token = ManagedIdentityCredential().get_token(ARM_SCOPE).token
    url = f"{azure['LOCAL_AZURE_LOGIN_URL']}/v1.0/servicePrincipals"
    answer = requests.get(url, headers={"Authorization": f"Bearer {token}"}, timeout=10)
    assert (answer.status_code, answer.json()["error"]["code"]) == (401, "AuthenticationFailed")


def test_deleted_application_gets_no_token(azure: dict[str, str]) -> None:
    client_id, secret, _ = new_application("gone")
    application = graph("GET", "applications", params={"$filter": f"appId eq '{client_id}'"}).json()["value"][0]
    graph("DELETE", f"applications/{application['id']}")
    with pytest.raises(ClientAuthenticationError, match="AADSTS700016"):
        credential(azure, client_id, secret).get_token(ARM_SCOPE)
