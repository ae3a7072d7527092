"""Why nothing runs: what keeps a pool from giving a node, looked up while tasks wait."""

import itertools
import time

from azure.batch import BatchClient
from azure.batch.models import BatchTaskCounts
from azure.core.exceptions import HttpResponseError
from prefect.logging import get_run_logger

_PAUSE_SECONDS = 30
_BROKEN_STATES = ("start_task_failed", "unusable", "offline", "preempted")


class NodeWatch:
    """Warns of each problem of a pool once; costs one call in half a minute, and none while a task runs."""

    def __init__(self, batch: BatchClient, pool: str) -> None:
        self._batch = batch
        self._pool = pool
        self._questions = itertools.cycle((self._allocation, self._nodes))
        self._said: set[str] = set()
        self._next_look = time.monotonic() + _PAUSE_SECONDS

    def look(self, counts: BatchTaskCounts) -> None:
        """Ask the pool's next question if tasks have waited for a while and none runs."""
        now = time.monotonic()
        if counts.running or not counts.active:
            self._next_look = now + _PAUSE_SECONDS
        if now < self._next_look:
            return
        self._next_look = now + _PAUSE_SECONDS
        try:
            problems = next(self._questions)()
        except HttpResponseError:
            return  # who may not read pools can harvest all the same
        for problem in problems:
            if problem not in self._said:
                get_run_logger().warning("tasks wait for a node of pool %s: %s", self._pool, problem)
            self._said.add(problem)

    def _allocation(self) -> list[str]:
        pool = self._batch.get_pool(self._pool)
        run = pool.auto_scale_run
        problems = [*(pool.resize_errors or []), *([run.error] if run and run.error else [])]
        return [f"{problem.code}: {problem.message}" for problem in problems]

    def _nodes(self) -> list[str]:
        counted = list(self._batch.list_pool_node_counts(filter=f"poolId eq '{self._pool}'"))
        kinds = [kind for pool in counted for kind in (pool.dedicated, pool.low_priority) if kind]
        numbers = {state: sum(getattr(kind, state) or 0 for kind in kinds) for state in _BROKEN_STATES}
        return [
            f"{number} of its nodes {'is' if number == 1 else 'are'} {state.replace('_', '')}"
            for state, number in numbers.items()
            if number
        ]
