"""Compute nodes that run start tasks and tasks as real processes.

A pass over all pools settles their sizes and hands out tasks; whatever changes asks for a pass (`wake`).
The differences from Azure are told in the modules: `pools`, `node`, `files`, `processes`, `image`,
`place` and `autoscale`.
"""

import asyncio
from pathlib import Path

from local_azure.batch.states import ON_A_NODE
from local_azure.cloud import Cloud
from local_azure.nodes.autoscale import check_formula
from local_azure.nodes.host import Host
from local_azure.nodes.node import Node
from local_azure.nodes.place import task_path
from local_azure.nodes.pools import Pool
from local_azure.store import Document

__all__ = ["Nodes", "check_formula"]

_TICK_SECONDS = 1.0


class Nodes:
    """The nodes of every pool."""

    def __init__(self, cloud: Cloud) -> None:
        self._cloud = cloud
        self._host = Host(cloud)
        self._pools: dict[str, Pool] = {}
        self._awake = False

    async def start(self) -> None:
        """Bring up the nodes that the state remembers; tasks that were on them are requeued."""
        for document in list(self._cloud.store.table("pools").values()):
            account, pool = _account_and_pool(document)
            self._open(account, pool)
        for task in list(self._cloud.store.table("tasks").values()):
            if task["state"] in ON_A_NODE:
                self._cloud.jobs.task_requeued(task)
            elif task["state"] == "completed":
                self.task_completed(task)
        self._host.spawn(self._keep_time())
        self.wake()

    async def stop(self) -> None:
        """Kill every process, quickly."""
        await self._host.close()

    def wake(self) -> None:
        """Look for work and settle the pools, as soon as the present request is done."""
        if not self._awake:
            self._awake = True
            asyncio.get_running_loop().call_soon(self._pass)

    def pool_changed(self, account: str, pool: str) -> None:
        """Follow a pool's document that was just written."""
        self._open(account, pool).changed()

    async def pool_deleted(self, account: str, pool: str) -> None:
        """End a pool's nodes; returns when they are gone."""
        key = _key(account, pool)
        if key in self._pools:
            await self._pools.pop(key).close()

    async def stop_task(self, task: Document) -> None:
        """End a task's processes; returns when they are gone."""
        node = self._node_of(task)
        if node:
            await node.stop_task(task)

    def task_completed(self, task: Document) -> None:
        """Keep the folder of a task that has ended, if it has one, for its retention time."""
        node = self._node_of(task)
        if node:
            node.retention.keep(task)

    def nodes(self, account: str, pool: str) -> list[Document]:
        """A pool's nodes as the data plane answers them."""
        known = self._pools.get(_key(account, pool))
        return [node.document() for node in known.nodes.values()] if known else []

    def evaluate_autoscale(self, account: str, pool: str, formula: str) -> Document:
        """An `AutoScaleRun` of the data plane that changes nothing."""
        evaluation = self._open(account, pool).evaluate(formula)
        return evaluation.document(self._cloud.clock.now(), "timestamp")

    def task_folder(self, task: Document) -> Path | None:
        """Where a task's files are; None when its node is gone."""
        node = self._node_of(task)
        return node.place.root / task_path(task["_job"], task["id"]) if node else None

    def node_folder(self, account: str, pool: str, node_id: str) -> Path | None:
        """The node's `AZ_BATCH_NODE_ROOT_DIR`; None when there is no such node."""
        node = self._find(account, pool, node_id)
        return node.place.root if node else None

    def reboot(self, account: str, pool: str, node_id: str, option: str) -> None:
        """Restart a node; `option` says what becomes of its tasks."""
        node = self._find(account, pool, node_id)
        if node:
            node.reboot(option)

    def remove(self, account: str, pool: str, node_ids: list[str], option: str) -> None:
        """Take nodes out of a pool, which becomes smaller by them; `option` says what becomes of their tasks."""
        self._open(account, pool).remove(node_ids, option)

    def _open(self, account: str, pool: str) -> Pool:
        key = _key(account, pool)
        if key not in self._pools:
            self._pools[key] = Pool(self._host, account, pool, self._pools, self.wake)
        return self._pools[key]

    def _node_of(self, task: Document) -> Node | None:
        info = task.get("nodeInfo")
        return self._find(task["_account"], info["poolId"], info["nodeId"]) if info else None

    def _find(self, account: str, pool: str, node_id: str) -> Node | None:
        known = self._pools.get(_key(account, pool))
        return known.nodes.get(node_id) if known else None

    def _pass(self) -> None:
        self._awake = False
        for pool in list(self._pools.values()):
            pool.settle()
            pool.assign()

    async def _keep_time(self) -> None:
        while True:
            await asyncio.sleep(_TICK_SECONDS)
            for pool in list(self._pools.values()):
                pool.tick()
                for node in pool.nodes.values():
                    node.retention.sweep()


def _key(account: str, pool: str) -> str:
    return f"{account}/{pool}".lower()


def _account_and_pool(document: Document) -> tuple[str, str]:
    """From the ARM id `…/batchAccounts/<account>/pools/<pool>`."""
    parts = document["id"].split("/")
    return parts[-3], parts[-1]
