"""Whatever is killed, whenever: the next run of the same harvest finds it, goes on with it, and completes it."""

import json
import os
import re
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import pytest
from azure.batch import BatchClient
from azure.core.exceptions import HttpResponseError
from azure.storage.blob import BlobLeaseClient, ContainerClient
from flow_runs import Site, running_site
from local_pools import until
from prefect_processes import Prefect, command_line, ended, running_prefect

from spatiobatch.query import query_from

ITEMS = 2000
KILLED = query_from(content="items")
MOMENTS = {
    "collections": lambda request: request["method"] == "POST" and re.search(r"/jobs\?", request["url"]),
    "rounds": lambda request: request["method"] == "PUT" and ".receipt.json" in request["url"],
    "compaction": lambda request: "addtaskcollection" in request["url"] and "compact-" in str(request["request_body"]),
    "publishing": lambda request: request["method"] == "PUT" and "/collections.json" in request["url"],
}
"""What the stand-in is asked at a moment of a harvest, in their order."""


@pytest.fixture(scope="module")
def prefect(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prefect]:
    with running_prefect(tmp_path_factory.mktemp("server")) as prefect:
        yield prefect


@pytest.fixture(scope="module")
def provisioned(tmp_path_factory: pytest.TempPathFactory, prefect: Prefect) -> Iterator[Site]:
    publishing = f"service=blob,method=PUT,path=-{KILLED.hash}/manifest.json,action=hang"  # until it is killed
    flags = ("--clock", "instant", "--demo-items", str(ITEMS), "--fault", publishing)
    with running_site(tmp_path_factory.mktemp("site"), *flags, requests_per_second="50") as site:
        ended(command_line(site, prefect, "provision"))
        yield site


@pytest.fixture
def run(provisioned: Site, prefect: Prefect) -> Callable[..., "subprocess.Popen[str]"]:
    """Starts a command line."""
    return lambda *arguments, **settings: command_line(provisioned, prefect, *arguments, **settings)


def at(moment: str, site: Site, process: "subprocess.Popen[str]", since: str) -> None:
    """Wait until a harvest is there."""
    until(lambda: process.poll() is not None or any(map(MOMENTS[moment], site.requests(since))), bool, seconds=60)
    assert process.poll() is None, process.communicate()


def pass_a_minute(results: ContainerClient, note: str) -> None:
    """End the lease of who was killed, as a minute would."""
    with suppress(HttpResponseError):
        BlobLeaseClient(results.get_blob_client(note)).break_lease(0)


def latest(results: ContainerClient) -> dict[str, Any]:
    return json.loads(results.download_blob("latest.json").readall())


def submitted_after_their_receipts(requests: list[dict[str, Any]]) -> list[str]:
    """Shards that were submitted although a receipt covered them."""
    covered: set[str] = set()
    twice = []
    for request in requests:
        if request["method"] == "PUT" and request["status"] == 201 and ".receipt.json" in request["url"]:
            covered.add(re.search(r"/([^/]+)\.receipt\.json", request["url"])[1])
        elif "addtaskcollection" in request["url"]:
            names = [task["id"] for task in request["request_body"]["value"]]
            twice += [name for name in names if name.removeprefix("items-") in covered]
    return twice


def test_a_harvest_that_is_killed_again_and_again_is_completed_by_who_comes_next(
    provisioned: Site, batch: BatchClient, results: ContainerClient, run: Callable[..., "subprocess.Popen[str]"]
) -> None:
    begun = provisioned.now
    note = f"open/{KILLED.hash}.json"
    for moment in MOMENTS:
        since = provisioned.now
        with run("harvest", "--content", "items") as process:
            at(moment, provisioned, process, since)
            process.kill()
        name = json.loads(results.download_blob(note).readall())["harvest_id"]
        pass_a_minute(results, note)
    out = ended(run("harvest", "--resume", name))

    assert f"Harvest   {name}\n" in out
    assert f"{ITEMS:,} items" in out
    assert latest(results)[name.rpartition("-")[2]]["full"] == name
    requests = provisioned.requests(begun)
    assert {re.search(r"harvests/([^/]+)/", each["url"])[1] for each in requests if "manifest.json" in each["url"]} == {
        name
    }
    assert submitted_after_their_receipts(requests) == []
    opened = [each for each in requests if MOMENTS["collections"](each) and each["status"] == 201]
    assert len(opened) == 2  # the last one when all was harvested: what came before attached to the first


@pytest.mark.parametrize(
    ("number", "code", "word"), [(signal.SIGINT, 130, "interrupted"), (signal.SIGTERM, 143, "terminated")]
)
def test_a_harvest_that_is_told_to_end_frees_the_nodes_and_says_how_to_go_on(
    number: signal.Signals,
    code: int,
    word: str,
    provisioned: Site,
    batch: BatchClient,
    results: ContainerClient,
    run: Callable[..., "subprocess.Popen[str]"],
) -> None:
    since = provisioned.now
    with run("harvest", "--content", "items", "--datetime", f"20{number:02}-01-01/..") as process:
        at("rounds", provisioned, process, since)
        os.killpg(process.pid, number)
        out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (code, "")
    sentence = rf"spatiobatch: {word}; what harvest (\S+) has brought so far is kept, .* --resume \1\)\n"
    said = re.fullmatch(sentence, err)
    assert said, err
    assert list(batch.list_jobs()) == []
    assert [*results.list_blob_names(name_starts_with=f"harvests/{said[1]}/items/")]
    assert f"Harvest   {said[1]}\n" in ended(run("harvest", "--resume", said[1]))


def test_a_harvest_that_slept_leaves_its_job_to_who_took_it_over_and_says_so(
    provisioned: Site, batch: BatchClient, results: ContainerClient, run: Callable[..., "subprocess.Popen[str]"]
) -> None:
    query = ("harvest", "--content", "items", "--datetime", "2001-01-01/..")
    since = provisioned.now
    asleep = run(*query)
    at("rounds", provisioned, asleep, since)
    asleep.send_signal(signal.SIGSTOP)
    pass_a_minute(results, f"open/{query_from(content='items', datetime=query[-1]).hash}.json")
    since = provisioned.now
    follower = run(*query)
    at("rounds", provisioned, follower, since)
    asleep.send_signal(signal.SIGCONT)
    out, err = asleep.communicate(timeout=120)
    assert (asleep.returncode, out) == (1, "")
    said = re.fullmatch(r"spatiobatch: Harvest (\S+) is not this run's any more: it was stopped, .*\n", err)
    assert said, err
    out, err = follower.communicate(timeout=120)
    assert (follower.returncode, f"Harvest   {said[1]}\n" in out) == (0, True), err


def test_harvests_at_once_keep_to_their_own_jobs_and_both_are_the_latest(
    batch: BatchClient, results: ContainerClient, run: Callable[..., "subprocess.Popen[str]"]
) -> None:
    one, other = ("--content", "items", "--collection", "aerial-strips"), ("--content", "collections")
    runs = [run("harvest", *query) for query in (one, other, one)]
    names = [re.search(r"^Harvest   (\S+)-(\S+)$", ended(each), re.MULTILINE) for each in runs]
    entries = latest(results)
    assert names[0][2] == names[2][2] != names[1][2]
    assert entries[names[0][2]]["full"] == max(f"{name[1]}-{name[2]}" for name in (names[0], names[2]))
    assert entries[names[1][2]]["full"] == f"{names[1][1]}-{names[1][2]}"


def test_provisions_at_once_both_end_well(batch: BatchClient, run: Callable[..., "subprocess.Popen[str]"]) -> None:
    runs = [run("provision", resource_group="both") for _ in range(2)]
    assert all("pool               spatiobatch" in ended(each) for each in runs)
    assert "created" not in ended(run("provision", resource_group="both"))
