"""The environment gives proxies and certificates, never credentials: a .netrc is for other programs."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import requests
import stac_stub
from azure.core.exceptions import AzureError, HttpResponseError
from flow_runs import Site
from node_scripts import Server, environment, list_collections, page, serving
from test_local_login import new_application

from benchmarks.live_check import _check_reach
from spatiobatch.errors import without_secrets
from spatiobatch.settings import load_settings
from tasks.clients import _PATIENCE, AzureClients
from tasks.failure import sentence_of


@pytest.fixture(params=["HOME", "NETRC"])
def netrc(request: pytest.FixtureRequest, tmp_path: Path) -> dict[str, str]:
    """Variables that lead to a file with a stranger's password for every host."""
    file = tmp_path / ".netrc"
    file.write_text("machine 127.0.0.1 login stranger password hunter2\ndefault login stranger password hunter2\n")
    file.chmod(0o600)
    return {"HOME": str(tmp_path)} if request.param == "HOME" else {"NETRC": str(file)}


@contextmanager
def sent() -> Iterator[list[str]]:
    """Scheme of the Authorization header of each request that this process sends meanwhile."""
    seen: list[str] = []
    send = requests.adapters.HTTPAdapter.send

    def watching(adapter: Any, request: requests.PreparedRequest, **options: Any) -> requests.Response:
        seen.append(str(request.headers.get("Authorization", "none")).split()[0])
        return send(adapter, request, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(requests.adapters.HTTPAdapter, "send", watching)
        yield seen


def test_operator_sends_its_token_whatever_a_netrc_holds(
    azure: dict[str, str], netrc: dict[str, str], tmp_path: Path
) -> None:
    with Site({**azure, **netrc}, tmp_path).environment(), sent() as schemes:
        clients = AzureClients(load_settings())
        list(clients.resources.resource_groups.list())
        list(clients.storage.storage_accounts.list())
        list(clients.authorization.role_definitions.list(f"/subscriptions/{clients.settings.subscription_id}"))
        list(clients.identities.user_assigned_identities.list_by_subscription())
        list(clients.batch_management.batch_account.list())
        with pytest.raises(HttpResponseError):
            list(clients.blobs(f"{azure['LOCAL_AZURE_BLOB_URL']}/nobody").list_containers())
        with pytest.raises(HttpResponseError):
            list(clients.batch(f"{azure['LOCAL_AZURE_BATCH_URL']}/nobody".removeprefix("https://")).list_jobs())
        _check_reach(clients.cloud)
    assert set(schemes) == {"Bearer", "none"}
    assert schemes.count("Bearer") >= 7


def test_sign_in_sends_its_own_secret_whatever_a_netrc_holds(
    azure: dict[str, str], netrc: dict[str, str], tmp_path: Path
) -> None:
    client_id, secret, _ = new_application("somebody")
    signed_in = {"AZURE_CLIENT_ID": client_id, "AZURE_CLIENT_SECRET": secret}
    tenant = {"AZURE_TENANT_ID": azure["LOCAL_AZURE_TENANT_ID"]}
    with Site({**azure, **netrc}, tmp_path).as_(**netrc, **tenant, **signed_in).environment(), sent() as schemes:
        clients = AzureClients(load_settings())
        assert clients.credential.get_token(clients.cloud.arm_scope).token
    assert set(schemes) == {"none"}


@pytest.fixture
def server() -> Iterator[Server]:
    with serving() as running:
        running.answers = [page("a")]
        yield running


@pytest.mark.parametrize("runtime", ["python", "bash"])
def test_collections_scripts_send_their_token_whatever_a_netrc_holds(
    runtime: str, server: Server, netrc: dict[str, str], tmp_path: Path
) -> None:
    (tmp_path / ".curlrc").write_text("netrc\n")
    finished = list_collections(runtime, tmp_path, environment(server, **netrc))
    assert (finished.returncode, server.tokens) == (0, ["Bearer secret-1"]), finished.stderr


def test_item_script_sends_its_token_whatever_a_netrc_holds(netrc: dict[str, str], tmp_path: Path) -> None:
    with stac_stub.serving() as catalog:
        catalog.catalog.bodies = [stac_stub.item(number) for number in range(3)]
        assert len(stac_stub.harvest(catalog, tmp_path, netrc).ids) == 3


def test_user_info_of_an_address_is_in_no_message() -> None:
    said = without_secrets("no way to http://stranger:hunter2@proxy.example.com:3128/ nor to https://a:b@c, a@b.c")
    assert said == "no way to http://(secret)@proxy.example.com:3128/ nor to https://(secret)@c, a@b.c"


@pytest.mark.parametrize("port", ["1", "port"])
def test_password_of_a_proxy_is_in_no_message(
    azure: dict[str, str], tmp_path: Path, port: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(_PATIENCE, "retry_total", 0)
    variables = {**azure, "HTTPS_PROXY": f"http://stranger:hunter2@127.0.0.1:{port}", "NO_PROXY": "localhost"}
    with Site(variables, tmp_path).environment(), pytest.raises(AzureError) as caught:
        list(AzureClients(load_settings()).resources.resource_groups.list())
    said = str(sentence_of(caught.value))
    assert "cannot be reached" in said
    assert "hunter2" not in said + str(caught.value)


@pytest.mark.parametrize("runtime", ["python", "bash"])
@pytest.mark.parametrize("port", ["1", "port"])
def test_password_of_a_nodes_proxy_is_in_no_message(runtime: str, port: str, server: Server, tmp_path: Path) -> None:
    proxy = f"http://stranger:hunter2@127.0.0.1:{port}"
    variables = environment(server, GEOCATALOG_URL="https://catalog.example.com", https_proxy=proxy)
    finished = list_collections(runtime, tmp_path, variables)
    assert finished.returncode in (5, 6)
    assert "hunter2" not in finished.stderr
