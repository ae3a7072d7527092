"""What the command line needs around a flow: a stand-in, a story while it runs, one sentence when it fails."""

import logging
import os
import shutil
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from types import FrameType
from typing import Any

from rich.console import Console
from rich.status import Status
from rich.text import Text
from typer.exceptions import TyperException

from flows.children import child
from flows.prefect_server import PrefectServerLostError, prefect_home, some_server
from spatiobatch.errors import ConfigurationError, FolderError, OutputError, ProvisioningError, SpatiobatchError
from spatiobatch.interruptions import lose_none
from spatiobatch.output import check_folder, full_one, reason_of
from spatiobatch.settings import ENVIRONMENT_VARIABLE, load_settings
from spatiobatch.text import indented, plain, plain_lines, without_secrets

_START_SECONDS = 60
_ENGINE_MODULES = {"flow_engine", "task_engine", "engine", "flows", "states", "tasks"}
"""Prefect's own modules that log through a run's logger; what they say is said better elsewhere."""

_ENDS: dict[int, str] = {signal.SIGINT: "interrupted", signal.SIGTERM: "terminated", signal.SIGHUP: "hung up"}


class PlainConsole(Console):
    """A terminal or pipe on which every text is shown as text: it has no markup, and cannot forge a line."""

    def __init__(self, **options: Any) -> None:
        super().__init__(soft_wrap=True, highlight=False, markup=False, emoji=False, **options)

    def render_str(self, text: str, **options: Any) -> Text:
        """Every string comes by here, cells of tables too."""
        return super().render_str(indented(text), **options)


err = PlainConsole(stderr=True)


class Terminated(BaseException):
    """A signal came; no error that anything below may catch."""

    def __init__(self, number: int = signal.SIGTERM, kept: str = "") -> None:
        super().__init__(f"{_ENDS[number]}{f'; {kept}' if kept else ''}")
        self.number = number
        self.exit_code = 128 + number


def environment_named(file: Path | None, root: Path, *, fresh: bool = False) -> AbstractContextManager[None]:
    """The environment that a file or this process's environment names, or a `local_azure` for a while."""
    if file:
        os.environ[ENVIRONMENT_VARIABLE] = str(file.resolve())
    if not os.environ.get(ENVIRONMENT_VARIABLE) and not os.environ.get("SPATIOBATCH_SUBSCRIPTION_ID"):
        return _stand_in(root, fresh=fresh)
    load_settings()  # what is wrong with them is known before Prefect is imported
    return nullcontext()


@contextmanager
def _stand_in(root: Path, *, fresh: bool) -> Iterator[None]:
    """A `local_azure` for a while, with this process pointed at it; its state outlives it."""
    home = root / ".spatiobatch"
    env_file, log = home / "local.env", home / "local_azure.log"
    check_folder(home)
    home.mkdir(exist_ok=True)
    env_file.unlink(missing_ok=True)
    if fresh:
        shutil.rmtree(home / "local", ignore_errors=True)
    command = [sys.executable, "-m", "local_azure", "--env-file", str(env_file), "--state", str(home / "local")]
    with log.open("wb") as output, child(command, root, errors=output) as process:
        _wait_for(env_file, process, log)
        for line in env_file.read_text().splitlines():
            name, _, os.environ[name] = line.partition("=")
        os.environ.setdefault(ENVIRONMENT_VARIABLE, str(root / "deployments" / "local.toml"))
        yield


def _wait_for(env_file: Path, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while not env_file.exists():
        if process.poll() is not None or time.monotonic() > deadline:
            said = log.read_text(errors="replace").strip().splitlines()
            raise ProvisioningError(f"local_azure did not start: {said[-1] if said else 'it said nothing'}")
        time.sleep(0.05)


class _StoryHandler(logging.Handler):
    """Shows a run's last words beside a spinner, or else which step is done, and warnings for good."""

    def __init__(self, status: Status, title: str) -> None:
        super().__init__(logging.INFO)
        self._status = status
        self._title = title
        self.kept = ""

    def emit(self, record: logging.LogRecord) -> None:
        """Show one record."""
        if not record.name.startswith(("prefect.flow_runs", "prefect.task_runs")):
            return
        step = getattr(record, "task_name", None)
        if kept := getattr(record, "kept", None):  # the command line's last sentence tells it
            self.kept = kept
        elif record.module not in _ENGINE_MODULES and record.levelno >= logging.WARNING:
            err.print(f"warning: {without_secrets(record.getMessage())}")
        elif record.module not in _ENGINE_MODULES:
            self._status.update(Text(plain(f"{self._title}: {record.getMessage()}")))
        elif step and record.levelno == logging.INFO:
            self._status.update(Text(f"{self._title}: {step} is done"))


@contextmanager
def story(title: str) -> Iterator[None]:
    """Prefect's server and progress on stderr while a flow runs; quiet where that is no terminal.

    Raises:
        Terminated: a signal came; it tells which harvest is unfinished, if one had begun.
        PrefectServerLostError: Prefect's server is gone.
    """
    logger = logging.getLogger("prefect")
    with err.status(title) as status, some_server() as server:
        handler = _StoryHandler(status, title)
        logger.addHandler(handler)
        try:
            yield
        except SpatiobatchError:
            raise
        except Exception as error:
            if server.is_lost():
                raise PrefectServerLostError(server.address, handler.kept) from error
            raise
        except (KeyboardInterrupt, Terminated) as end:
            if server.ended_run():
                raise PrefectServerLostError(server.address, handler.kept) from end
            raise Terminated(getattr(end, "number", signal.SIGINT), handler.kept) from end
        finally:
            logger.removeHandler(handler)


def guarded(command_line: Callable[[], Any], home: Path) -> int:
    """Run a command line; its exit code, with one sentence on stderr where that is not 0.

    Args:
        command_line: answers an exit code, or None for 0.
        home: folder for the traceback of an error that is a fault of ours.
    """
    _quiet_prefect()
    lose_none()
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:  # as nohup has it
            signal.signal(number, _terminate)
    try:
        code = int(command_line() or 0)
        return _failed(code, _ENDS[signal.SIGINT]) if code == 130 else code  # typer's answer to Ctrl-C
    except TyperException as error:
        problem = error.format_message().replace("Value error, ", "").rstrip(".")
        return _failed(2, f"{problem}; see python flows/run.py --help")
    except KeyboardInterrupt:
        return _failed(130, _ENDS[signal.SIGINT])
    except Terminated as end:
        return _failed(end.exit_code, str(end))
    except Exception as error:  # noqa: BLE001  # the last place where an error can become a sentence
        return _failed(getattr(error, "exit_code", 1), _sentence(error, home))


def _failed(code: int, sentence: str) -> int:
    err.print(f"spatiobatch: {without_secrets(sentence)}")
    return code


def _terminate(number: int, _frame: FrameType | None) -> None:
    raise Terminated(number)


def _sentence(error: Exception, home: Path) -> str:
    if isinstance(error, ConfigurationError | FolderError | OutputError):
        return str(error)
    said = str(error) if isinstance(error, SpatiobatchError) else _told(error) or _fault(error, home)
    return f"{said}{_maybe_full(home)}"


def _told(error: Exception) -> str | None:
    from tasks.failure import sentence_of  # noqa: PLC0415  # Azure's and Prefect's errors take seconds to import

    return sentence_of(error)


def _fault(error: Exception, home: Path) -> str:
    said = str(error).strip().partition("\n")[0]
    return f"this is a fault of spatiobatch ({type(error).__name__}: {said}); {_traceback_of(error, home)}."


def _traceback_of(error: Exception, home: Path) -> str:
    file = home / "fault.txt"
    try:
        home.mkdir(exist_ok=True)
        file.write_text(plain_lines(without_secrets("".join(traceback.format_exception(error)))))
    except OSError as problem:
        return f"its traceback cannot be kept in {file} ({reason_of(problem)})"
    return f"its traceback is in {file}"


def _maybe_full(home: Path) -> str:
    """A full disk shows as any error: of whatever writes to it, and of whoever asks that."""
    folder = full_one([home, prefect_home()])
    return f" The disk of {folder} is full, which may be why: free some space there, then run again." if folder else ""


def _quiet_prefect() -> None:
    """Prefect's own console log is for workers; a laptop has `story`."""
    os.environ.setdefault("PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL", "CRITICAL")
    os.environ.setdefault("PREFECT_LOGGING_INTERNAL_LEVEL", "CRITICAL")
    os.environ.setdefault("PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS", "90")
    os.environ.setdefault("PREFECT_SERVER_ANALYTICS_ENABLED", "false")
    os.environ.setdefault("DO_NOT_TRACK", "1")
    logging.raiseExceptions = False  # else its threads write to stderr what they cannot tell its server
