"""A `local_azure` for one measurement, and variables for the time of one."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from spatiobatch.errors import ProvisioningError

_START_SECONDS = 90
_SIGN_IN_AND_ENVIRONMENT = ("SPATIOBATCH_", "AZURE_", "IDENTITY_", "MSI_")


@contextmanager
def local_azure(folder: Path, *flags: str) -> Iterator[dict[str, str]]:
    """A `local_azure` with its state in that folder's `local`; yields the variables of its env file.

    Raises:
        ProvisioningError: it does not start.
    """
    folder.mkdir(parents=True, exist_ok=True)
    env_file, log = folder / "local.env", folder / "local_azure.log"
    env_file.unlink(missing_ok=True)
    command = [
        sys.executable,
        "-m",
        "local_azure",
        "--env-file",
        str(env_file),
        "--state",
        str(folder / "local"),
        *flags,
    ]
    with log.open("wb") as output:
        # A session of its own: Ctrl-C is for this process, which cleans up with the stand-in's help before ending it.
        process = subprocess.Popen(command, stderr=output, start_new_session=True)  # noqa: S603  # our own command
    try:
        deadline = time.monotonic() + _START_SECONDS
        while not env_file.exists():
            if process.poll() is not None or time.monotonic() > deadline:
                said = log.read_text(errors="replace").strip().splitlines()
                raise ProvisioningError(f"local_azure did not start: {said[-1] if said else 'it said nothing'}")
            time.sleep(0.05)
        yield dict(line.split("=", 1) for line in env_file.read_text().splitlines())
    finally:
        process.terminate()
        process.wait(timeout=30)


@contextmanager
def variables(values: Mapping[str, str], *, clean: bool = False) -> Iterator[None]:
    """Environment variables of this process for the time of a `with`.

    Args:
        values: what is set.
        clean: unset whatever else says who signs in and which environment is meant.
    """
    before = dict(os.environ)
    for name in before:
        if clean and name.startswith(_SIGN_IN_AND_ENVIRONMENT):
            del os.environ[name]
    os.environ.update(values)
    try:
        yield
    finally:
        for name in os.environ.keys() - before.keys():
            del os.environ[name]
        os.environ.update(before)
