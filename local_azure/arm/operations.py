"""Long-running operations: 202 with a `Location` to poll, then the result.

https://learn.microsoft.com/azure/azure-resource-manager/management/async-operations

Difference from Azure: an operation is forgotten when the stand-in ends.
"""

import asyncio
import uuid
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from starlette.responses import Response

from local_azure.arm.gate import Call
from local_azure.clock import ticks
from local_azure.cloud import Cloud
from local_azure.errors import ApiError

_LEAST_SECONDS = 1


@dataclass
class _Operation:
    resource: str
    address: str
    work: asyncio.Task[None]
    result: Callable[[], Response]
    retry_after: bool
    changing: bool


async def nothing() -> None:
    """The work of an operation that only takes its time."""


class Operations:
    """What is under way."""

    def __init__(self, cloud: Cloud) -> None:
        self._cloud = cloud
        self._operations: dict[str, _Operation] = {}

    def under_way(self, resource: str) -> bool:
        """Whether an operation on the resource has not ended."""
        return any(
            operation.resource == resource.lower() and not operation.work.done()
            for operation in self._operations.values()
        )

    def begin(
        self,
        call: Call,
        resource: str,
        collection: str,
        result: Callable[[], Response],
        work: Callable[[], Awaitable[None]] = nothing,
        *,
        retry_after: bool = True,
        changing: bool = False,
    ) -> Response:
        """Start an operation on a resource, and accept the request.

        Args:
            call: the request to accept.
            resource: ARM id of what it acts on.
            collection: path under which the operation is polled.
            result: composes the final answer.
            work: what the operation does at its end.
            retry_after: whether the client is told how long to wait between two polls.
            changing: whether each poll is sent to another `Location`.
        """
        key = str(uuid.uuid4())
        address = f"{self._cloud.addresses.arm}{collection}/{key}?api-version={call.version}"
        task = asyncio.create_task(self._run(work))
        operation = _Operation(resource.lower(), address, task, result, retry_after, changing)
        self._operations[key] = operation
        return self._accepted(operation)

    async def poll(self, call: Call) -> Response:
        """How far an operation is."""
        operation = self._operations.get(call["operation"].lower())
        if operation is None:
            raise ApiError(404, "NotFound", f"The operation '{call['operation']}' was not found.")
        if not operation.work.done():
            return self._accepted(operation)
        operation.work.result()
        return operation.result()

    async def _run(self, work: Callable[[], Awaitable[None]]) -> None:
        await self._cloud.clock.sleep(_LEAST_SECONDS)
        await work()

    def _accepted(self, operation: _Operation) -> Response:
        address = operation.address
        if operation.changing:
            address += f"&t={ticks(self._cloud.clock.now())}"
        headers = {"Location": address} | ({"Retry-After": "1"} if operation.retry_after else {})
        return Response(status_code=202, headers=headers)
