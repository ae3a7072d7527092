"""Processes of tasks: each in a session of its own, none left behind.

Differences from Azure: a process that a signal ended has the exit code that a shell gives it, 128 plus
the signal; every process of the task's session ends with the task, daemons of a start task too.
"""

import asyncio
import contextlib
import os
import shlex
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

from local_azure.nodes import guard
from local_azure.nodes.failure import TaskFailureError

_GRACE_SECONDS = 1.0
"""Between SIGTERM and SIGKILL."""


@dataclass(frozen=True)
class Command:
    """A command line and where it runs; `stdout.txt` and `stderr.txt` go to `folder`, it starts in `folder/wd`."""

    line: str
    folder: Path
    environment: dict[str, str]


class Process:
    """A running command with all its descendants."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    @property
    def group(self) -> int:
        """Process group, which is the id of its first process."""
        return self._process.pid

    async def exit_code(self, limit_seconds: float | None) -> int:
        """Wait for the end.

        Raises:
            TaskFailureError: the time limit passed; the process is still there.
        """
        try:
            async with asyncio.timeout(limit_seconds):
                code = await self._process.wait()
        except TimeoutError:
            raise TaskFailureError(
                "TaskEnded", "Task Was Ended by User Request", "The maximum wall clock time passed."
            ) from None
        return code if code >= 0 else 128 - code

    def kill(self) -> None:
        """End the whole group without a chance to react."""
        self._signal(signal.SIGKILL)

    async def end(self) -> None:
        """End the whole group: asked first, then forced."""
        if self._process.returncode is None:
            self._signal(signal.SIGTERM)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_GRACE_SECONDS):
                    await self._process.wait()
        self.kill()
        await self._process.wait()

    def _signal(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.group, number)


class Launcher:
    """Starts processes, and has a guard end them if this process dies first."""

    def __init__(self) -> None:
        self._running: set[Process] = set()
        self._guard = subprocess.Popen(  # noqa: S603  # a fixed program of this package
            [sys.executable, "-I", guard.__file__], stdin=subprocess.PIPE, start_new_session=True
        )

    @contextlib.asynccontextmanager
    async def launch(self, command: Command) -> AsyncIterator[Process]:
        """Run a command for as long as the block lasts.

        Raises:
            TaskFailureError: it cannot be started.
        """
        process = Process(await _start(command))
        self._running.add(process)
        self._tell(f"+{process.group}")
        try:
            yield process
        finally:
            await process.end()
            self._running.discard(process)
            self._tell(f"-{process.group}")

    def kill_all(self) -> None:
        """End every process at once."""
        for process in self._running:
            process.kill()

    def close(self) -> None:
        """Dismiss the guard."""
        self._guard.communicate()

    def _tell(self, line: str) -> None:
        assert self._guard.stdin  # noqa: S101  # it was started with a pipe
        self._guard.stdin.write(line.encode() + b"\n")
        self._guard.stdin.flush()


async def _start(command: Command) -> asyncio.subprocess.Process:
    try:
        arguments = shlex.split(command.line)
    except ValueError as error:
        raise _launch_failed(f"{command.line}: {error}") from error
    with (command.folder / "stdout.txt").open("wb") as out, (command.folder / "stderr.txt").open("wb") as err:
        try:
            return await asyncio.create_subprocess_exec(
                *arguments,
                cwd=command.folder / "wd",
                env=command.environment,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                start_new_session=True,
            )
        except FileNotFoundError as error:
            raise TaskFailureError(
                "CommandProgramNotFound",
                "The specified command program is not found",
                f"{arguments[0]}: {error.strerror}",
            ) from error
        except OSError as error:
            raise _launch_failed(f"{arguments[0]}: {error.strerror}") from error


def _launch_failed(detail: str) -> TaskFailureError:
    return TaskFailureError("CommandLaunchFailed", "Failed to launch the specified command line", detail)
