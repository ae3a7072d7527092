"""What the stand-in prints when it is up: lines that work as they are, and no secret."""

import os
import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import requests
from azure.batch import BatchClient
from azure.identity import ManagedIdentityCredential
from azure.mgmt.resource.resources import ResourceManagementClient
from azure.storage.blob import BlobServiceClient
from conftest import running_azure
from local_pools import batch_account, until
from storage_accounts import create_account


@dataclass(frozen=True)
class Printed:
    """What a running stand-in has printed, and the settings in its env file."""

    text: str
    settings: dict[str, str]

    def line(self, beginning: str) -> str:
        """The one line that is to be copied and begins so."""
        (found,) = re.findall(rf"^    ({re.escape(beginning)}.*)$", self.text, re.MULTILINE)
        return str(found)


@pytest.fixture(scope="module")
def printed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Printed]:
    folder: Path = tmp_path_factory.mktemp("directions")
    with running_azure(folder, "--clock", "instant") as settings:
        log = until((folder / "azure.log").read_text, lambda text: "curl line" in text)
        yield Printed(log.split("local_azure: ")[1], settings)


def client(printed: Printed, monkeypatch: pytest.MonkeyPatch, kind: type, account: str = "") -> Any:
    """The SDK's client as it is printed, for one account."""
    for name, value in printed.settings.items():
        monkeypatch.setenv(name, value)
    names = {"credential": ManagedIdentityCredential(), kind.__name__: kind, "os": os}
    return eval(printed.line(kind.__name__).replace("<account>", account), names)  # noqa: S307  # the promise is that this line works


def test_printed_settings_reach_a_shell(printed: Printed) -> None:
    script = f"{printed.line('set -a')}; env"
    variables = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=True).stdout.splitlines()
    assert {f"{name}={value}" for name, value in printed.settings.items()} <= set(variables)


def test_printed_management_client_works(printed: Printed, monkeypatch: pytest.MonkeyPatch) -> None:
    with client(printed, monkeypatch, ResourceManagementClient) as resources:
        assert "geocatalog" in {group.name for group in resources.resource_groups.list()}


def test_printed_batch_client_works(printed: Printed, monkeypatch: pytest.MonkeyPatch) -> None:
    with client(printed, monkeypatch, BatchClient, "printed") as batch, batch_account(printed.settings, "printed"):
        assert list(batch.list_pools()) == []


def test_printed_blob_client_works(printed: Printed, monkeypatch: pytest.MonkeyPatch) -> None:
    with client(printed, monkeypatch, BlobServiceClient, "printed") as blobs:
        create_account(printed.settings, "printed")
        assert list(blobs.list_containers()) == []


def test_printed_addresses_answer_whoever_trusts_the_printed_authority(printed: Printed) -> None:
    (authority,) = re.findall(r"the authority in (.*);", printed.text)
    addresses = re.findall(r"^    (https://.*)$", printed.text, re.MULTILINE)
    assert [requests.get(address, verify=authority, timeout=10).status_code for address in addresses] == [200, 200]


def test_no_secret_is_printed(printed: Printed) -> None:
    door = printed.settings["AZURE_POD_IDENTITY_AUTHORITY_HOST"].rsplit("/", 1)[1]
    assert door not in printed.text
    assert not re.search(r"eyJ|sig=|AccountKey", printed.text)
