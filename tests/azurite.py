"""Azurite, Microsoft's own emulator of blob storage, started for tests.

https://learn.microsoft.com/azure/storage/common/storage-use-azurite
"""

import base64
import os
import re
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import trustme

_FOLDER = Path(__file__).parent.parent / ".spatiobatch" / "azurite"
_PROGRAM = _FOLDER / "node_modules" / ".bin" / "azurite-blob"
_LISTENING = re.compile(r"successfully listen\w* (?:at|on) (https://127\.0\.0\.1:\d+)")
_START_SECONDS = 60

MISSING = (
    "" if _PROGRAM.exists() else "Azurite is not installed: npm install --prefix .spatiobatch/azurite azurite@3.37.0"
)
"""Why it cannot run here; nothing where it can."""


@contextmanager
def running_azurite(folder: Path, account: str, key: bytes) -> Iterator[tuple[str, Path]]:
    """An empty account with a key; yields its address and the authority that vouches for it.

    It takes every token that says it is for storage, whoever signed it, and knows no role assignments.
    """
    authority = trustme.CA()
    authority.cert_pem.write_to_path(folder / "ca.pem")
    server = authority.issue_cert("127.0.0.1")
    server.cert_chain_pems[0].write_to_path(folder / "cert.pem")
    server.private_key_pem.write_to_path(folder / "key.pem")
    options = ["--blobPort", "0", "--cert", "cert.pem", "--key", "key.pem", "--oauth", "basic", "--inMemoryPersistence"]
    options += ["--skipApiVersionCheck", "--disableProductStyleUrl", "--disableTelemetry", "--silent"]
    environment = {**os.environ, "AZURITE_ACCOUNTS": f"{account}:{base64.b64encode(key).decode()}"}
    log = folder / "azurite.log"
    with (
        log.open("wb") as output,
        subprocess.Popen(
            [_PROGRAM, *options], cwd=folder, env=environment, stdout=output, stderr=subprocess.STDOUT
        ) as process,
    ):
        try:
            yield f"{_address(process, log)}/{account}", folder / "ca.pem"
        finally:
            process.terminate()
            process.wait(timeout=30)


def _address(process: subprocess.Popen[bytes], log: Path) -> str:
    deadline = time.monotonic() + _START_SECONDS
    while not (found := _LISTENING.search(log.read_text())):
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.05)
    return found[1]
