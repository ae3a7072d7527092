"""The pool's nodes: waited for, and asked why they fail while they live."""

import re
import time

from azure.batch import BatchClient
from azure.batch.models import BatchNode
from azure.core.exceptions import HttpResponseError
from azure.mgmt.batch.models import Pool

from spatiobatch.errors import NodeError
from spatiobatch.interruptions import pause
from tasks.clients import AzureClients, azure_task
from tasks.pool import read_pool, resize_errors

_LAST_LINES = 20


@azure_task("wait for a node")
def wait_for_node(azure: AzureClients, batch_endpoint: str) -> None:
    """Wait until a node is ready; a pool that has rightly scaled to zero is ready too.

    Raises:
        NodeError: a start task failed (with the node's own stderr), nodes cannot be had, or time is up.
    """
    settings, batch = azure.settings, azure.batch(batch_endpoint)
    deadline = time.monotonic() + settings.node_timeout_minutes * 60
    while True:
        pool = read_pool(azure)
        nodes = list(batch.list_nodes(settings.pool))
        if any(node.state in ("idle", "running") for node in nodes):
            return
        for node in nodes:
            _check_start_task(batch, settings.pool, node)
        if pool.properties.allocation_state == "Steady" and not nodes:
            _check_resize(pool)
            return
        if time.monotonic() > deadline:
            states = ", ".join(getattr(node.state, "value", node.state) for node in nodes) or "none was allocated"
            raise NodeError(
                settings.pool, f"after {settings.node_timeout_minutes:g} minutes its nodes are still: {states}"
            )
        pause(settings.poll_seconds)


def _check_start_task(batch: BatchClient, pool: str, node: BatchNode) -> None:
    if node.state not in ("starttaskfailed", "unusable"):
        return
    info = node.start_task_info
    failure = info.failure_info if info else None
    problem = f"the start task of {node.id} failed" if node.state == "starttaskfailed" else f"{node.id} is unusable"
    details = f" with exit code {info.exit_code}" if info and info.exit_code is not None else ""
    said = f" ({failure.code}: {failure.message})" if failure else ""
    raise NodeError(pool, problem + details + said, _start_task_stderr(batch, pool, node.id))


def _start_task_stderr(batch: BatchClient, pool: str, node: str) -> str:
    try:
        stderr = b"".join(batch.download_node_file(pool, node, "startup/stderr.txt")).decode(errors="replace")
    except HttpResponseError as error:
        return f"(not to be had: {error.status_code})"
    return "\n".join(stderr.rstrip().split("\n")[-_LAST_LINES:])


def _check_resize(pool: Pool) -> None:
    """A steady pool without nodes is in order if it wants none; then the errors of its last resize are stale."""
    errors = resize_errors(pool)
    if errors and _wants_nodes(pool):
        raise NodeError(pool.name, "; ".join(f"{error.code}: {error.message}" for error in errors))


def _wants_nodes(pool: Pool) -> bool:
    """Whether a fixed scale, or the formula's last run, asks for any; its results read `$TargetDedicatedNodes=1;…`."""
    fixed, run = pool.properties.scale_settings.fixed_scale, pool.properties.auto_scale_run
    if fixed:
        return bool(fixed.target_dedicated_nodes or fixed.target_low_priority_nodes)
    return run is None or re.search(r"\$Target\w+Nodes=[1-9]", run.results or "") is not None
