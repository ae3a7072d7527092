"""Honest clocks: an instant one spares every wait that the service would wait for by itself, and no expiry."""

import asyncio
import itertools
from collections.abc import Callable
from datetime import timedelta

from azure.core.rest import HttpRequest
from local_pools import Batch, batch_account, fixed

from local_azure.clock import Clock

LONG_SECONDS = 3600.0


def waited(clock: Clock, seconds: float) -> bool:
    """Whether a wait takes any time."""

    async def wait() -> None:
        async with asyncio.timeout(0.2):
            await clock.sleep(seconds)

    try:
        asyncio.run(wait())
    except TimeoutError:
        return True
    return False


def test_only_a_real_clock_waits() -> None:
    assert waited(Clock(), LONG_SECONDS)
    assert not waited(Clock(instant=True), LONG_SECONDS)


def test_only_with_an_instant_clock_has_time_passed_at_once() -> None:
    clock, instant = Clock(), Clock(instant=True)
    assert instant.elapsed(instant.now(), LONG_SECONDS)
    assert not clock.elapsed(clock.now(), LONG_SECONDS)
    assert clock.elapsed(clock.now() - timedelta(seconds=LONG_SECONDS), LONG_SECONDS)


def test_with_an_instant_clock_an_operation_is_over_when_one_looks_again(
    start_azure: Callable[..., dict[str, str]],
) -> None:
    with batch_account(start_azure("--clock", "instant", "--role-delay", str(LONG_SECONDS))) as batch:
        job = batch.job("nowhere")  # By a role that was assigned just now.
        assert looks_until(batch, job, "disable", {"disableTasks": "requeue"}, "disabled") <= 2
        assert looks_until(batch, job, "enable", None, "active") <= 2
        assert looks_until(batch, job, "terminate", None, "completed") <= 2
        pool = batch.pool(scaleSettings=fixed(2))
        assert looks(lambda: [node.state for node in batch.client.list_nodes(pool)] == ["idle", "idle"]) <= 3


def looks_until(batch: Batch, job: str, action: str, body: dict[str, str] | None, state: str) -> int:
    """How often one has to look at a job until an action has brought it into a state."""
    batch.client.send_request(HttpRequest("POST", f"/jobs/{job}/{action}?api-version=2025-06-01", json=body))
    return looks(lambda: batch.client.get_job(job).state == state)


def looks(over: Callable[[], bool]) -> int:
    """How often one has to look until something is over."""
    return next(count for count in itertools.count(1) if over() or count > 10)
