"""One pool: how many nodes it should have, which it has, and which task goes to which node.

https://learn.microsoft.com/azure/batch/nodes-and-pools

Differences from Azure: nodes are allocated within a second; where `--nodes` caps them, the pool is Steady
with fewer and without an error; a formula is also evaluated when tasks wait that no node has room for,
and then only to grow, so that nobody waits for the interval on a laptop; a resize that fell short of its
target is tried again whenever cores become free.
"""

import asyncio
import itertools
import secrets
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import UTC, datetime
from urllib.parse import quote

from local_azure.arm.vm_sizes import VmSize
from local_azure.batch.durations import parse_duration
from local_azure.clock import ticks
from local_azure.nodes import quota
from local_azure.nodes.autoscale import SAMPLE_PERIOD, Evaluation, Samples, Targets
from local_azure.nodes.host import Host
from local_azure.nodes.node import Node
from local_azure.nodes.place import Place
from local_azure.store import Document

_STOPPED = "ResizeStopped"
_DEFAULT_INTERVAL = "PT15M"


class Pool:
    """The nodes of one pool.

    Args:
        host: what nodes run on.
        account: name of the Batch account.
        name: id of the pool.
        pools: all pools, this one among them.
        wake: called when something has changed that lets work go on.
    """

    def __init__(
        self, host: Host, account: str, name: str, pools: Mapping[str, "Pool"], wake: Callable[[], None]
    ) -> None:
        self._host = host
        self._cloud = host.cloud
        self._pools = pools
        self._wake = wake
        self._remembered = self._cloud.store.table("nodes")
        self._samples = Samples()
        self._evaluated: datetime | None = None
        self._grown = datetime.min.replace(tzinfo=UTC)
        self._emptied = asyncio.Event()
        self.account = account
        self.name = name
        self.key = f"{account}/{name}".lower()
        self.nodes: dict[str, Node] = {}
        self._targets = self._stored_targets()
        for facts in self._remembered.below(f"{self.key}/"):
            self._add(facts)

    @property
    def document(self) -> Document:
        """The pool as ARM keeps it."""
        return self._cloud.store.table("pools")[self.key]

    def settle(self) -> None:
        """Bring the nodes to the targets as far as the quota allows, and tell so in the document."""
        step = self._stay if self._stopped else self._resize
        self._report([error for dedicated in (True, False) if (error := step(dedicated=dedicated))])

    def assign(self) -> None:
        """Give waiting tasks to nodes with room; have the formula look at those that are left."""
        properties = self.document["properties"]
        packs = (properties.get("taskSchedulingPolicy") or {}).get("nodeFillType", "Spread").lower() == "pack"
        while most := max((node.free_slots for node in self.nodes.values()), default=0):
            task = self._cloud.jobs.next_task(self.account, self.name, most)
            if task is None:
                return
            fitting = [node for node in self.nodes.values() if node.free_slots >= task["requiredSlots"]]
            (min if packs else max)(fitting, key=lambda node: node.free_slots).take(task)
        if self._formula and self._cloud.jobs.demand(self.account, self.name)[0] and self._may_grow():
            self.autoscale(growing_only=True)

    def tick(self) -> None:
        """Sample and evaluate when it is time to."""
        if self._formula is None:
            return
        now = self._cloud.clock.now()
        if self._samples.due(now):
            self._samples.take(now, self._metrics())
        if self._evaluated is None or self._cloud.clock.elapsed(self._evaluated, self._interval_seconds):
            self.autoscale()

    def changed(self) -> None:
        """The document was written by ARM."""
        if self._formula:
            self.autoscale()
        self._wake()

    def autoscale(self, *, growing_only: bool = False) -> None:
        """Run the pool's formula and follow it."""
        now = self._cloud.clock.now()
        evaluation = self.evaluate(self._formula or "")
        before, self._targets = self._targets, evaluation.targets
        if growing_only:
            self._targets = evaluation.targets.at_least(before)
        else:
            self._evaluated = now
        self._grown = now
        document = self.document
        document["properties"]["autoScaleRun"] = evaluation.document(now, "evaluationTime")
        self._cloud.store.table("pools")[self.key] = document
        self._wake()

    def evaluate(self, formula: str) -> Evaluation:
        """What a formula makes of the pool as it is."""
        slots = int(self.document["properties"].get("taskSlotsPerNode") or 1)
        return self._samples.evaluate(formula, self._cloud.clock.now(), self._metrics(), self._aim(), slots)

    def remove(self, names: Iterable[str], option: str) -> None:
        """Take nodes out for good: the targets go down with them."""
        for node in [self.nodes[name] for name in names if name in self.nodes]:
            self._lower_target(dedicated=node.place.dedicated)
            node.leave(option)
        self._wake()

    async def close(self) -> None:
        """End all nodes."""
        self._emptied.clear()
        for node in self.nodes.values():
            node.leave("requeue")
        if self.nodes:
            await self._emptied.wait()

    @property
    def _scale(self) -> Document:
        return self.document["properties"].get("scaleSettings") or {}

    @property
    def _formula(self) -> str | None:
        return (self._scale.get("autoScale") or {}).get("formula")

    @property
    def _interval_seconds(self) -> float:
        interval = self._scale["autoScale"].get("evaluationInterval") or _DEFAULT_INTERVAL
        return parse_duration(interval).total_seconds()

    def _aim(self) -> Targets:
        if self._formula:
            return self._targets
        fixed = self._scale.get("fixedScale") or {}
        return Targets(
            fixed.get("targetDedicatedNodes") or 0,
            fixed.get("targetLowPriorityNodes") or 0,
            fixed.get("nodeDeallocationOption") or "Requeue",
        )

    def _stored_targets(self) -> Targets:
        last = self.document["properties"].get("resizeOperationStatus") or {}
        return Targets(
            last.get("targetDedicatedNodes") or 0,
            last.get("targetLowPriorityNodes") or 0,
            (last.get("nodeDeallocationOption") or "requeue").lower(),
        )

    def _lower_target(self, *, dedicated: bool) -> None:
        document = self.document
        fixed = self._scale.get("fixedScale")
        name = "targetDedicatedNodes" if dedicated else "targetLowPriorityNodes"
        if fixed and fixed.get(name):
            fixed[name] -= 1
            self._cloud.store.table("pools")[self.key] = document

    def _may_grow(self) -> bool:
        """At once where there is no node at all, else once per sample."""
        staying = [node for node in self.nodes.values() if not node.leaving]
        return not staying or self._cloud.clock.now() - self._grown >= SAMPLE_PERIOD

    def _metrics(self) -> dict[str, float]:
        waiting, running = self._cloud.jobs.demand(self.account, self.name)
        dedicated = sum(node.place.dedicated for node in self.nodes.values())
        return {
            "$ActiveTasks": waiting,
            "$RunningTasks": running,
            "$PendingTasks": waiting + running,
            "$CurrentDedicatedNodes": dedicated,
            "$CurrentLowPriorityNodes": len(self.nodes) - dedicated,
            "$PreemptedNodeCount": sum(node.state == "preempted" for node in self.nodes.values()),
            "$UsableNodeCount": sum(node.state in ("idle", "running") for node in self.nodes.values()),
            "$SampleNodeCount": len(self.nodes),
        }

    def _resize(self, *, dedicated: bool) -> Document | None:
        """Let surplus nodes go and add missing ones; the resize error where not all could be added."""
        aim = self._aim()
        nodes = [node for node in self.nodes.values() if node.place.dedicated == dedicated and not node.leaving]
        missing = (aim.dedicated if dedicated else aim.spot) - len(nodes)
        for node in sorted(nodes, key=lambda node: node.busy)[: max(0, -missing)]:
            node.leave(aim.deallocation)
        if missing <= 0:
            return None
        account = self._cloud.store.table("batchAccounts")[self.account]
        fits, error = quota.room(
            account, quota.vm_size(self.document), dedicated=dedicated, taken=self._taken(dedicated)
        )
        for _ in range(min(missing, fits, self._host_room())):
            self._add(self._new_facts(dedicated))
        return error if fits < missing else None

    @property
    def _stopped(self) -> bool:
        """Whether a resize was stopped and none was asked for since."""
        properties = self.document["properties"]
        last = properties.get("resizeOperationStatus") or {}
        if properties.get("allocationState") != "Steady":
            return bool(properties.get("allocationState") == "Stopping")
        stopped = any(error["code"] == _STOPPED for error in last.get("errors") or ())
        aim = self._aim()
        return stopped and (last["targetDedicatedNodes"], last["targetLowPriorityNodes"]) == (aim.dedicated, aim.spot)

    def _stay(self, *, dedicated: bool) -> Document | None:
        """Let go of nodes that are not there yet; the resize error where there are fewer than were wanted."""
        nodes = [node for node in self.nodes.values() if node.place.dedicated == dedicated]
        for node in nodes:
            if node.state == "creating":
                node.leave("terminate")
        aim, staying = self._aim(), sum(not node.leaving for node in nodes)
        if staying >= (aim.dedicated if dedicated else aim.spot):
            return None
        kind = "dedicated" if dedicated else "low priority"
        message = f"Desired number of {kind} nodes could not be allocated due to a stop resize operation"
        return {"code": _STOPPED, "message": message, "details": []}

    def _taken(self, dedicated: bool) -> Iterator[VmSize]:
        """The sizes of all nodes of this account."""
        for pool in self._pools.values():
            if pool.account == self.account:
                count = sum(node.place.dedicated == dedicated for node in pool.nodes.values())
                yield from [quota.vm_size(pool.document)] * count

    def _host_room(self) -> int:
        cap = self._cloud.options.nodes
        there = sum(len(pool.nodes) for pool in self._pools.values())
        return sys.maxsize if cap is None else max(0, cap - there)

    def _new_facts(self, dedicated: bool) -> Document:
        used = {node.number for node in self.nodes.values()}
        return {
            "id": f"tvmps_{secrets.token_hex(32)}_{'d' if dedicated else 'p'}",
            "dedicated": dedicated,
            "number": next(number for number in itertools.count(1) if number not in used),
            "allocationTime": ticks(self._cloud.clock.now()),
        }

    def _add(self, facts: Document) -> None:
        root = self._host.folder / quote(self.account) / quote(self.name) / facts["id"]
        place = Place(self.account, self.name, facts["id"], facts["dedicated"], root)
        self.nodes[facts["id"]] = Node(self._host, place, facts, changed=self._wake, gone=self._gone)
        self._remembered[f"{self.key}/{facts['id']}"] = facts

    def _gone(self, node: Node) -> None:
        del self.nodes[node.place.node]
        del self._remembered[f"{self.key}/{node.place.node}"]
        if not self.nodes:
            self._emptied.set()
        self._wake()

    def _report(self, errors: list[Document]) -> None:
        document = self.document
        properties = document["properties"]
        aim = self._aim()
        dedicated = sum(node.place.dedicated for node in self.nodes.values())
        passing = any(node.leaving or node.state == "creating" for node in self.nodes.values())
        busy = "Stopping" if properties.get("allocationState") == "Stopping" else "Resizing"
        state = busy if passing else "Steady"
        now = ticks(self._cloud.clock.now())
        resize = {
            "targetDedicatedNodes": aim.dedicated,
            "targetLowPriorityNodes": aim.spot,
            "nodeDeallocationOption": aim.deallocation,
            **({"errors": errors} if errors else {}),
        }
        before = properties.get("resizeOperationStatus") or {}
        if {name: value for name, value in before.items() if name != "startTime"} != resize:
            before = {**resize, "startTime": now}
        report = {
            "currentDedicatedNodes": dedicated,
            "currentLowPriorityNodes": len(self.nodes) - dedicated,
            "allocationState": state,
            "resizeOperationStatus": before,
        }
        if properties.get("allocationState") != state:
            report["allocationStateTransitionTime"] = now
        if any(properties.get(name) != value for name, value in report.items()):
            properties.update(report)
            self._cloud.store.table("pools")[self.key] = document
