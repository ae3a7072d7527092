"""Connections are used again also when Azure is out of order: what nobody reads to its end keeps one open."""

from collections.abc import Callable
from pathlib import Path

import pytest
import requests
from conftest import running_azure
from fault_matrix import hurried
from storage_accounts import create_account

from spatiobatch.settings import load_settings
from tasks.clients import AzureClients


def test_an_answer_that_is_asked_for_again_leaves_its_connection_to_the_next(
    start_azure: Callable[..., dict[str, str]], caplog: pytest.LogCaptureFixture
) -> None:
    endpoint = create_account(
        start_azure("--fault", "service=blob,method=GET,path=/kept/a$,status=503,times=3"), "busy"
    )
    container = AzureClients(load_settings()).blobs(endpoint).create_container("kept")
    container.upload_blob("a", b"stored")
    with caplog.at_level("DEBUG", "urllib3.connectionpool"), hurried() as pauses:
        assert container.download_blob("a").readall() == b"stored"
    assert len(pauses) == 3
    assert "Starting new HTTPS connection" not in caplog.text


def test_an_empty_blob_leaves_its_connection_to_the_next(
    start_azure: Callable[..., dict[str, str]], caplog: pytest.LogCaptureFixture
) -> None:
    endpoint = create_account(start_azure(), "busy")
    container = AzureClients(load_settings()).blobs(endpoint).create_container("kept")
    container.upload_blob("a", b"")
    with caplog.at_level("DEBUG", "urllib3.connectionpool"):
        assert [container.download_blob("a").readall() for _ in range(3)] == [b""] * 3
    assert "Starting new HTTPS connection" not in caplog.text


def test_local_azure_waits_for_no_client_that_only_keeps_its_connection(tmp_path: Path) -> None:
    with requests.Session() as client, running_azure(tmp_path) as azure:
        client.get(azure["LOCAL_AZURE_ARM_URL"], verify=azure["REQUESTS_CA_BUNDLE"], timeout=10)
    assert "graceful shutdown exceeded" not in (tmp_path / "azure.log").read_text()
