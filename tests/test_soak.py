"""Five minutes of random faults over real data, harvest after harvest: nothing is lost (`pytest -m soak -s`).

`SOAK_SEED` repeats a run, `SOAK_SECONDS` makes it longer or shorter.
"""

import json
import os
import random
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import zstandard
from catalogs import DATA, archived
from fault_matrix import Taken, sentence
from flow_runs import Site, running_site
from prefect import Task
from prefect.client.schemas.objects import State

from spatiobatch.query import query_from
from tasks.clients import transient
from tasks.environment import read_environment

SEED = int(os.environ.get("SOAK_SEED") or random.randrange(10**6))  # noqa: S311  # it is printed, and guards nothing
SECONDS = float(os.environ.get("SOAK_SECONDS") or 300)
_FAULTS = 300
_SPREAD = {"arm": 300, "identity": 200, "batch": 600, "blob": 3000, "geocatalog": 1500, "node": 150}
"""Over how many matching requests the faults of a service are spread."""
_STATUSES = ("429,retry_after=1", "500", "502", "503", "504")
_REQUESTS = {
    "arm": ("/batchAccounts/", "/pools/"),
    "identity": ("",),
    "batch": ("/jobs", "/taskcounts", "/tasks", "/addtaskcollection"),
    "blob": ("/items/", "/parquet/", "/control/", "/open/", "/logs/", "manifest", "latest"),
    "geocatalog": ("/search", "/collections", "/conformance"),
}
_TASKS = ("/collections", "/items-", "/compact-")


def faults(dice: random.Random) -> Iterator[str]:
    """One fault after the other, each once the ones before it have struck and some requests have passed."""
    for _ in range(_FAULTS):
        if dice.random() < 0.1:
            action = dice.choice(("kill", "preempt"))
            passing = f"after={dice.randrange(_SPREAD['node'])},delay={dice.choice((0, 0.3))}"
            yield f"service=node,path={dice.choice(_TASKS)},action={action},{passing}"
            continue
        service = dice.choice(list(_REQUESTS))
        kind = dice.choice(
            (*(f"status={status}" for status in _STATUSES), "action=drop", "action=hang", "action=truncate")
        )
        passing = f"after={dice.randrange(_SPREAD[service])},times={dice.choice((1, 1, 2, 3))}"
        yield f"service={service},path={dice.choice(_REQUESTS[service])},{kind},{passing}"


def catalog() -> set[tuple[str, str]]:
    """Collection and id of every item."""
    ids = set()
    for file in DATA.glob("*.ndjson.zst"):
        for line in zstandard.ZstdDecompressor().stream_reader(file.read_bytes()).read().splitlines():
            item = json.loads(line)
            ids.add((item["collection"], item["id"]))
    return ids


def active_jobs(site: Site) -> list[str]:
    with site.environment():
        environment = Taken(read_environment, (site.azure,), bool).take()
        batch = site.azure.batch(environment.batch_endpoint)
        listed = Task(
            lambda: list(batch.list_jobs(filter="state eq 'active'")), retries=4, retry_condition_fn=_transient
        )
        return [job.id for job in Taken(listed, (), bool).take()]


def _transient(_task: object, _run: object, state: State[Any]) -> bool:
    return isinstance(state.data, BaseException) and transient(state.data)


def _harvest(site: Site, output: Path, outcomes: Counter[str]) -> None:
    """One harvest, gone on with until it is done."""
    while True:
        try:
            done = site.harvest(query_from(content="items"), output=output)
        except Exception as error:  # noqa: BLE001  # whatever it is must have a sentence
            print(f"  refused: {sentence(error)[:300]}")
            outcomes["refused"] += 1
            continue
        outcomes["harvests"] += 1
        outcomes["incomplete"] += not done.manifest.complete
        return


@pytest.mark.soak
@pytest.mark.timeout(1800)
@pytest.mark.skipif(not DATA.is_dir(), reason="the folder of real STAC data is not beside the checkout")
def test_nothing_is_lost_in_minutes_of_random_faults(tmp_path: Path, prefect_server: None) -> None:
    print(f"\nSOAK_SEED={SEED}")
    dice, expected = random.Random(SEED), catalog()  # noqa: S311  # it guards nothing
    settings = {"resource_group": "soak", "requests_per_second": "200", "read_timeout_seconds": "3", "pool_nodes": "2"}
    folder, outcomes = tmp_path, Counter[str]()
    began = time.monotonic()
    flags = [word for fault in faults(dice) for word in ("--fault", fault)]
    with running_site(folder, "--catalog", str(DATA), "--clock", "instant", *flags, **settings) as site:
        while outcomes["provisions"] == 0:
            try:
                site.provision()
                outcomes["provisions"] += 1
            except Exception as error:  # noqa: BLE001  # as above
                print(f"  refused: {sentence(error)[:300]}")
                outcomes["refused"] += 1
        while time.monotonic() - began < SECONDS:
            output = folder / f"output-{outcomes['harvests']}"
            _harvest(site, output, outcomes)
            assert set(archived(output)) == expected
        assert active_jobs(site) == []
    struck = Counter(
        line.split(" struck ")[1].split()[0]
        for line in (folder / "azure.log").read_text().splitlines()
        if "struck" in line
    )
    print(f"  {dict(outcomes)}; struck {struck.total()}: {dict(struck)}; {time.monotonic() - began:.0f} s")
    assert outcomes["incomplete"] == 0
    assert struck.total() > 0
