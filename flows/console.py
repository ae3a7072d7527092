"""What the command line needs around a flow: a stand-in, a story while it runs, one sentence when it fails."""

import logging
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any

from rich.console import Console

from spatiobatch.errors import ProvisioningError, SpatiobatchError
from spatiobatch.settings import ENVIRONMENT_VARIABLE

_START_SECONDS = 60
_ENGINE_MODULES = {"flow_engine", "task_engine", "engine", "flows", "tasks"}
"""Prefect's own modules that log through a run's logger; what they say is said better elsewhere."""

err = Console(stderr=True, soft_wrap=True, highlight=False)


class Terminated(Exception):
    """SIGTERM came."""


class StandIn:
    """A `local_azure` for the time of a `with`, where one is needed; its state outlives it."""

    def __init__(self, root: Path, *, needed: bool, fresh: bool) -> None:
        self._root = root
        self._home = root / ".spatiobatch"
        self._needed = needed
        self._fresh = fresh
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> None:
        """Start it and point this process at it."""
        if not self._needed:
            return
        state, env_file, log = self._home / "local", self._home / "local.env", self._home / "local_azure.log"
        if self._fresh:
            shutil.rmtree(state, ignore_errors=True)
        self._home.mkdir(exist_ok=True)
        env_file.unlink(missing_ok=True)
        command = [sys.executable, "-m", "local_azure", "--env-file", str(env_file), "--state", str(state)]
        with log.open("wb") as output:
            # A session of its own: Ctrl-C is for this process, which then ends the stand-in.
            self._process = subprocess.Popen(command, cwd=self._root, stderr=output, start_new_session=True)  # noqa: S603
        self._wait(env_file, log)
        for line in env_file.read_text().splitlines():
            name, _, value = line.partition("=")
            os.environ[name] = value
        os.environ.setdefault(ENVIRONMENT_VARIABLE, str(self._root / "deployments" / "local.toml"))

    def _wait(self, env_file: Path, log: Path) -> None:
        assert self._process is not None  # noqa: S101  # started by the caller
        deadline = time.monotonic() + _START_SECONDS
        while not env_file.exists():
            if self._process.poll() is not None or time.monotonic() > deadline:
                self._end()
                said = log.read_text(errors="replace").strip().splitlines()
                raise ProvisioningError(f"local_azure did not start: {said[-1] if said else 'it said nothing'}")
            time.sleep(0.05)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """End it."""
        self._end()

    def _end(self) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.wait(timeout=30)


class _StoryHandler(logging.Handler):
    """Shows a run's last words beside a spinner, and warnings for good."""

    def __init__(self, status: Any) -> None:
        super().__init__(logging.INFO)
        self._status = status

    def emit(self, record: logging.LogRecord) -> None:
        """Show one record."""
        if record.module in _ENGINE_MODULES or not record.name.startswith(("prefect.flow_runs", "prefect.task_runs")):
            return
        if record.levelno >= logging.WARNING:
            err.print(f"warning: {record.getMessage()}", markup=False)
        else:
            self._status.update(record.getMessage())


@contextmanager
def story(title: str) -> Iterator[None]:
    """Progress on stderr while a flow runs; quiet where that is no terminal."""
    logger = logging.getLogger("prefect")
    with err.status(title) as status:
        handler = _StoryHandler(status)
        logger.addHandler(handler)
        try:
            yield
        finally:
            logger.removeHandler(handler)


def guarded(action: Callable[[], Any]) -> int:
    """Run a command; its exit code, with one sentence on stderr where that is not 0."""
    _quiet_prefect()
    signal.signal(signal.SIGTERM, _terminate)
    try:
        action()
    except SystemExit as end:
        return int(end.code or 0)
    except SpatiobatchError as error:
        return _failed(error.exit_code, str(error))
    except KeyboardInterrupt:
        return _failed(130, "interrupted")
    except Terminated:
        return _failed(143, "terminated")
    except Exception as error:  # noqa: BLE001  # the last place where an error can become a sentence
        return _failed(1, _sentence(error))
    return 0


def _failed(code: int, sentence: str) -> int:
    err.print(f"spatiobatch: {sentence}", markup=False)
    return code


def _terminate(_number: int, _frame: FrameType | None) -> None:
    raise Terminated


def _sentence(error: Exception) -> str:
    """What Azure or Prefect said; an error that is neither is a fault of ours and keeps its traceback."""
    from azure.core.exceptions import AzureError, ClientAuthenticationError, HttpResponseError  # noqa: PLC0415
    from prefect.exceptions import PrefectException  # noqa: PLC0415

    if isinstance(error, ClientAuthenticationError):
        return (
            "Azure does not know who you are: run az login, or set AZURE_TENANT_ID, AZURE_CLIENT_ID and "
            f"AZURE_CLIENT_SECRET. ({error.message.splitlines()[0]})"
        )
    if isinstance(error, HttpResponseError):
        request = error.response.request if error.response is not None else None
        asked = f"{request.method} {request.url.split('?')[0]}" if request else "a request"
        return f"Azure answered {asked} with {error.status_code}: {error.message}"
    if isinstance(error, AzureError):
        return f"Azure cannot be reached: {error.message}"
    if isinstance(error, PrefectException):
        return f"Prefect failed: {error}"
    raise error


def _quiet_prefect() -> None:
    """Prefect's own console log is for workers; a laptop has `story`."""
    os.environ.setdefault("PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL", "CRITICAL")
    os.environ.setdefault("PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS", "90")
    os.environ.setdefault("PREFECT_SERVER_ANALYTICS_ENABLED", "false")
