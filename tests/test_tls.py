"""Certificates are verified everywhere, and one of another authority is refused with a sentence that says so."""

import re
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import stac_stub
import trustme
from azure.core.exceptions import ClientAuthenticationError, ServiceRequestError
from conftest import running_azure
from flow_runs import Site
from node_scripts import CLIENT_ID, HURRY, SCRIPTS, Server, page, run, serving, tool_folder

from spatiobatch.settings import load_settings
from tasks.clients import _PATIENCE, AzureClients, transient
from tasks.resource_group import ensure_resource_group

_ROOT = Path(__file__).parents[1]
_ROOMS = ("flows", "tasks", "spatiobatch", "task_scripts", "deployments", "local_azure", "benchmarks")
_UNVERIFIED = re.compile(
    r"verify\s*=\s*False|CERT_NONE|_create_unverified_context|check_hostname\s*=\s*False|disable_warnings"
    r"|--insecure|connection_verify\s*=\s*False|AZURE_CLI_DISABLE_CONNECTION_VERIFICATION|PYTHONHTTPSVERIFY"
    r"|curl\b.*\s-[a-zA-Z]*k[a-zA-Z]*\s"
)


@pytest.fixture(scope="module")
def foreign(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file of an authority that has signed nothing here."""
    file = tmp_path_factory.mktemp("foreign") / "ca.pem"
    trustme.CA(organization_name="somebody else").cert_pem.write_to_path(file)
    return file


@pytest.fixture(scope="module")
def azure(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    with running_azure(tmp_path_factory.mktemp("azure"), "--demo-items", "1") as settings:
        yield settings


@pytest.mark.parametrize("room", _ROOMS)
def test_no_room_leaves_a_certificate_unverified(room: str) -> None:
    files = [file for file in (_ROOT / room).rglob("*") if file.suffix in (".py", ".sh", ".toml")]
    assert files
    for file in files:
        assert not _UNVERIFIED.search(file.read_text()), file


@pytest.mark.parametrize(
    "text", ["get(url, verify=False)", "curl -sk https://x", "curl --insecure x", "context.verify_mode = ssl.CERT_NONE"]
)
def test_the_search_finds_what_it_looks_for(text: str) -> None:
    assert _UNVERIFIED.search(text)


@pytest.mark.parametrize("named_by", ["SPATIOBATCH_CA_FILE", "REQUESTS_CA_BUNDLE"])
def test_operator_refuses_a_certificate_of_another_authority(
    azure: dict[str, str], foreign: Path, named_by: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(_PATIENCE, "retry_total", 0)
    variables = {**azure, "REQUESTS_CA_BUNDLE": str(foreign)}
    del variables["SPATIOBATCH_CA_FILE"]
    with Site({**variables, named_by: str(foreign)}, foreign).environment():
        clients = AzureClients(load_settings())
        with pytest.raises(ServiceRequestError, match="certificate verify failed") as caught:
            ensure_resource_group.fn(clients)
        assert not transient(caught.value)
        with pytest.raises(ServiceRequestError, match="certificate verify failed"):
            list(clients.blobs(f"{azure['LOCAL_AZURE_BLOB_URL']}/any").list_containers())
        with pytest.raises(ServiceRequestError, match="certificate verify failed"):
            list(clients.batch(f"{azure['LOCAL_AZURE_BATCH_URL']}/any".removeprefix("https://")).list_jobs())


def test_secret_is_not_sent_to_a_login_of_another_authority(azure: dict[str, str], foreign: Path) -> None:
    signed_in = {"AZURE_TENANT_ID": azure["LOCAL_AZURE_TENANT_ID"], "AZURE_CLIENT_ID": CLIENT_ID}
    variables = {**azure, **signed_in, "AZURE_CLIENT_SECRET": "s", "SPATIOBATCH_CA_FILE": str(foreign)}
    with Site(variables, foreign).environment():
        clients = AzureClients(load_settings())
        with pytest.raises(ClientAuthenticationError, match="certificate verify failed"):
            clients.credential.get_token(clients.cloud.arm_scope)


def test_command_line_says_in_a_sentence_that_the_certificate_is_not_trusted(
    azure: dict[str, str], foreign: Path, tmp_path: Path
) -> None:
    environment = {**azure, "SPATIOBATCH_CA_FILE": str(foreign), "PREFECT_HOME": str(tmp_path), "PATH": "/usr/bin:/bin"}
    finished = subprocess.run(
        [sys.executable, str(_ROOT / "flows" / "run.py"), "status"],
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert finished.returncode == 1
    assert "certificate" in finished.stderr
    assert "SPATIOBATCH_CA_FILE" in finished.stderr
    assert "Traceback" not in finished.stderr


@contextmanager
def _behind_tls(server: Server, authority: trustme.CA) -> Iterator[str]:
    """The stub behind a certificate of that authority; yields its address."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    secure = Server()
    secure.answers = server.answers
    secure.handle_error = lambda *_: None  # type: ignore[method-assign]  # a handshake that the client gives up
    secure.socket = context.wrap_socket(secure.socket, server_side=True)
    thread = threading.Thread(target=secure.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield f"https://127.0.0.1:{secure.server_port}"
    finally:
        secure.shutdown()
        secure.server_close()
        thread.join()


def _command(script: str) -> list[str]:
    path = str(SCRIPTS / script)
    return ["bash", path] if script.endswith(".sh") else [sys.executable, "-I", "-c", HURRY, path]


@pytest.mark.parametrize("script", ["list_collections.py", "list_collections.sh", "probe.py"])
def test_node_script_trusts_the_configured_authority_and_no_other(tmp_path: Path, foreign: Path, script: str) -> None:
    ours, file = trustme.CA(), tmp_path / "ours.pem"
    ours.cert_pem.write_to_path(file)
    tools = tool_folder(tmp_path / "bin", "python3")
    with serving() as imds, _behind_tls(imds, ours) as address:
        imds.answers[:] = [page("a")]
        variables = {
            "PATH": str(tools),
            "GEOCATALOG_URL": address,
            "GEOCATALOG_API_VERSION": "2026-04-15",
            "AZURE_CLIENT_ID": CLIENT_ID,
            "AZURE_POD_IDENTITY_AUTHORITY_HOST": imds.origin,
            "PROBE_RESULT_URL": f"{imds.origin}/results/result.json",
        }
        trusting = run(_command(script), tmp_path, {**variables, **_bundle(file)})
        refusing = run(_command(script), tmp_path, {**variables, **_bundle(foreign)})
    said = (refusing.stdout + refusing.stderr).lower()
    assert '"a"' in trusting.stdout or '"geocatalog": "ok"' in trusting.stdout, trusting.stderr
    assert refusing.returncode != 0
    assert "certificate" in said
    assert "traceback" not in said
    assert "secret" not in said


def _bundle(file: Path) -> dict[str, str]:
    return {"REQUESTS_CA_BUNDLE": str(file), "CURL_CA_BUNDLE": str(file)}


@pytest.mark.parametrize("name", ["GEOCATALOG_URL", "RESULTS_URL"])
def test_item_script_trusts_no_other_authority_with_its_tokens(
    azure: dict[str, str], tmp_path: Path, foreign: Path, name: str
) -> None:
    elsewhere = {
        "GEOCATALOG_URL": azure["LOCAL_AZURE_GEOCATALOG_URL"],
        "RESULTS_URL": f"{azure['LOCAL_AZURE_BLOB_URL']}/any/results",
    }
    with stac_stub.serving() as server:
        done = stac_stub.harvest(server, tmp_path, {name: elsewhere[name], **_bundle(foreign)})
    assert done.finished.returncode != 0
    assert "certificate verify failed" in done.finished.stderr
    assert "REQUESTS_CA_BUNDLE" in done.finished.stderr
