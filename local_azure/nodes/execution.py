"""One run of a command on a node: files in, process, files out. Start tasks and tasks alike.

https://learn.microsoft.com/azure/batch/jobs-and-tasks and `--fault service=node,…`.
"""

import asyncio
import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from local_azure.batch.exits import FAILURE_EXIT_CODE
from local_azure.nodes.failure import TaskFailureError
from local_azure.nodes.files import Transfers
from local_azure.nodes.host import Host
from local_azure.nodes.processes import Process
from local_azure.nodes.work import Work
from local_azure.store import Document


@dataclass(frozen=True)
class Outcome:
    """How a run ended: an exit code, a failure that is not one, or both."""

    exit_code: int | None = None
    failure: Document | None = None

    @property
    def succeeded(self) -> bool:
        """Whether Azure calls it a success."""
        return self.exit_code == 0 and self.failure is None

    def result(self) -> Document:
        """The part of `startTaskInfo` that tells it."""
        failure = self.failure
        if failure is None and self.exit_code:
            failure = FAILURE_EXIT_CODE
        code = {} if self.exit_code is None else {"exitCode": self.exit_code}
        return code | ({"result": "failure", "failureInfo": failure} if failure else {"result": "success"})


class Execution:
    """Runs work with the files of one pool.

    Args:
        host: starts the process.
        transfers: moves the files.
        preempt: takes the node away, when a fault says so.
    """

    def __init__(self, host: Host, transfers: Transfers, preempt: Callable[[], None]) -> None:
        self._host = host
        self._transfers = transfers
        self._preempt = preempt

    async def run(self, work: Work, started: Callable[[], None]) -> Outcome:
        """Run it to its end; `started` is called when its files are there."""
        try:
            for resource_file in work.resource_files:
                await self._transfers.fetch(resource_file, work.command.folder / "wd")
            started()
            outcome = await self._run_process(work)
        except TaskFailureError as failure:
            return Outcome(failure=failure.info())
        return await self._upload(work, outcome)

    async def _run_process(self, work: Work) -> Outcome:
        async with self._host.launcher.launch(work.command) as process:
            with self._fault(work, process):
                try:
                    return Outcome(await process.exit_code(work.limit_seconds))
                except TaskFailureError as failure:
                    return Outcome(failure=failure.info())

    async def _upload(self, work: Work, outcome: Outcome) -> Outcome:
        conditions = ("taskcompletion", "tasksuccess" if outcome.succeeded else "taskfailure")
        try:
            for file in work.output_files:
                if file["uploadOptions"]["uploadCondition"].lower() in conditions:
                    await self._transfers.upload(file, work.command.folder, work.command.environment)
        except TaskFailureError as failure:
            return Outcome(outcome.exit_code, failure.info())
        return outcome

    @contextlib.contextmanager
    def _fault(self, work: Work, process: Process) -> Iterator[None]:
        """Let a fault strike: a killed process must still be there, a node can be preempted after it."""
        fault = self._host.cloud.faults.strike("node", "", work.name)
        if fault is None:
            yield
            return
        loop = asyncio.get_running_loop()
        if fault.action == "preempt":
            loop.call_later(fault.delay, self._preempt)
            yield
            return
        timer = loop.call_later(fault.delay, process.kill)
        try:
            yield
        finally:
            timer.cancel()
