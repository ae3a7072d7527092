"""A clean environment for every test, and stand-ins started for them."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import hypothesis
import pytest

hypothesis.settings.register_profile(
    "same every time",
    derandomize=True,
    deadline=None,
    suppress_health_check=[hypothesis.HealthCheck.too_slow],  # a busy machine is no failure
)
hypothesis.settings.load_profile("same every time")

pytest_plugins = ("flow_runs", "serving", "fault_report", "generations")

_OURS = ("SPATIOBATCH_", "AZURE_", "LOCAL_AZURE_", "PREFECT_", "IDENTITY_", "MSI_")


def pytest_addoption(parser: pytest.Parser) -> None:
    """`--images FOLDER` keeps pictures of the pages that tests look at."""
    parser.addoption("--images", help="folder for pictures of the pages of Prefect's UI that tests look at")


def read_env_file(file: Path) -> dict[str, str]:
    """The `KEY=VALUE` lines that local_azure writes."""
    return dict(line.split("=", 1) for line in file.read_text().splitlines())


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in os.environ:
        if name.startswith(_OURS):
            monkeypatch.delenv(name)


@pytest.fixture(scope="session", autouse=True)
def _signals_as_in_a_terminal() -> None:
    """`nohup` has this process and all that it starts ignore that their terminal closed."""
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


@contextmanager
def running_azure(folder: Path, *flags: str) -> Iterator[dict[str, str]]:
    """A local_azure of its own process; yields what its env file says, ends it afterwards."""
    env_file = folder / "azure.env"
    log = folder / "azure.log"
    command = [sys.executable, "-m", "local_azure", "--env-file", env_file, "--state", folder / "state", *flags]
    environment = {name: value for name, value in os.environ.items() if not name.startswith(_OURS)}
    with log.open("ab") as output, subprocess.Popen(command, env=environment, stderr=output) as process:
        try:
            deadline = time.monotonic() + 60
            while not env_file.exists():
                assert process.poll() is None, log.read_text()
                assert time.monotonic() < deadline, log.read_text()
                time.sleep(0.05)
            yield read_env_file(env_file)
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(timeout=30)
            env_file.unlink(missing_ok=True)


@pytest.fixture
def start_azure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., dict[str, str]]]:
    """`start_azure("--flag", …)` starts a fresh stand-in, points the clients at it, and returns its settings."""
    with ExitStack() as stack:

        def start(*flags: str) -> dict[str, str]:
            settings = stack.enter_context(running_azure(tmp_path, *flags))
            for name, value in settings.items():
                monkeypatch.setenv(name, value)
            return settings

        yield start


@pytest.fixture(scope="module")
def shared_azure(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """One stand-in for all tests of a module that do not disturb each other."""
    with running_azure(tmp_path_factory.mktemp("azure")) as settings:
        yield settings


@pytest.fixture
def azure(shared_azure: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """The module's stand-in, with the clients pointed at it."""
    for name, value in shared_azure.items():
        monkeypatch.setenv(name, value)
    return shared_azure
