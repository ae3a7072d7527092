"""What Microsoft's SDKs were recorded to ask, of live GeoCatalogs and Batch accounts, gets the recorded answer here.

The recordings are beside the checkout, if they are anywhere: each names its source in Azure/azure-sdk-assets. The local
GeoCatalog serves the recorded items and collections, so its answers are held to every text. Of ARM and Batch the kinds
of values are compared, since their names and times are others here. A call without a route here is skipped, and named.
"""

import json
import re
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import requests
from catalogs import DATA, collection
from conftest import running_azure
from local_pools import GROUP, Batch, batch_account, fixed, until
from recorded_shapes import KINDS
from stac_session import READER_ROLE, SCOPE, grant, reader, token

RECORDINGS = DATA.parent / "recordings"
pytestmark = pytest.mark.skipif(not RECORDINGS.is_dir(), reason="the folder of recordings is not beside the checkout")

ADMINISTRATOR_ROLE = "c9c97b9c-105d-4bb5-a2a7-7d15666c2484"
NOT_IMITATED = re.compile(
    r"\w+ /(inma|sas)/|GET /stac/collections/[^/]+/configurations|(PUT|DELETE) /stac/|POST /stac/(?!search)"
)
"""Calls of the GeoCatalog that are a logged 501 here."""
OF_THE_WAY = {
    "connection", "content-length", "keep-alive", "server", "strict-transport-security", "traceparent",
    "transfer-encoding", "vary", "x-azure-ref", "x-cache",
}  # fmt: skip
"""Headers of the connection and of what stands before a service; small answers are not compressed here."""
KEPT = {
    "retry-after": "the stand-in asks for a second where Azure asks for fifteen",
    "x-ms-ratelimit-remaining-subscription-reads": "calls that ARM has left are not counted",
    "x-ms-ratelimit-remaining-subscription-global-reads": "as above",
    "x-ms-ratelimit-remaining-subscription-writes": "as above",
}
"""Headers that differ, and why."""
KINDS_HERE = ("time", "guid", "tag", "duration", "url")


class Recorded(NamedTuple):
    """One call that was recorded."""

    file: str
    number: int
    call: dict[str, Any]

    @property
    def what(self) -> str:
        """Method and path."""
        return f"{self.call['method']} {self.call['path']}"

    @property
    def of_geocatalog(self) -> bool:
        """Whether the data plane of a GeoCatalog was asked."""
        return re.match("/(stac|inma|sas)", self.call["path"]) is not None

    @property
    def gives_ids(self) -> bool:
        """Whether the ids of the items, in their order, are all that was written down."""
        body = self.call["response_body"]
        return isinstance(body, dict) and set(body) == {"ids"}


class Answer(NamedTuple):
    """What the stand-in said."""

    status: int
    headers: dict[str, str]
    body: Any


def recorded() -> Iterator[Recorded]:
    for file in sorted(RECORDINGS.glob("*.json")):
        told = json.loads(file.read_text())
        for number, call in enumerate(told["entries"]):
            yield Recorded(file.stem, number, call)


CALLS = list(recorded())


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[tuple[str, int], Answer]]:
    """What the stand-in answers to all of it."""
    with ExitStack() as stack, pytest.MonkeyPatch.context() as patch:
        pages, orders = (Asker(stack, tmp_path_factory.mktemp("azure"), items) for items in (paged(), ordered()))
        for name, value in pages.settings.items():
            patch.setenv(name, value)
        batch = stack.enter_context(batch_account(pages.settings))
        prepare(batch)
        found = {}
        for each in CALLS:
            before(each, batch)
            there = each.gives_ids or (each.file, each.call["status"]) == ("item-create-delete", 200)
            found[each.file, each.number] = (orders if there else pages).ask(each, batch)
        yield found


class Asker:
    """A stand-in of some items, and whoever asks it."""

    def __init__(self, stack: ExitStack, folder: Path, items: list[dict[str, Any]]) -> None:
        known = next(each for each in CALLS if each.file == "stac-collections").call["response_body"]["collections"]
        names = sorted({item["collection"] for item in items} | {"naip-atl"})
        collections = [*known, *(collection(0, id=name) for name in names)]
        (folder / "collections.ndjson").write_text("\n".join(map(json.dumps, collections)))
        (folder / "items.ndjson").write_text("\n".join(map(json.dumps, items)))
        self.settings = stack.enter_context(running_azure(folder, "--catalog", str(folder)))
        for role in (READER_ROLE, ADMINISTRATOR_ROLE):
            grant(self.settings, role)
        self.session = stack.enter_context(requests.Session())
        self.session.trust_env = False
        self.session.verify = self.settings["REQUESTS_CA_BUNDLE"]

    @property
    def catalog(self) -> str:
        """Address of the GeoCatalog."""
        return self.settings["LOCAL_AZURE_GEOCATALOG_URL"]

    def ask(self, each: Recorded, batch: Batch) -> Answer:
        """Send what was recorded."""
        address, scope = self.place(each, batch)
        headers = {"Authorization": f"Bearer {token(self.settings, scope)}", **each.call["request_headers"]}
        body = BODIES.get((each.file, each.number), each.call["request_body"])
        said = self.session.request(each.call["method"], address, json=body, headers=headers, allow_redirects=False)
        answered = {name.lower(): text for name, text in said.headers.items()}
        is_json = "json" in answered.get("content-type", "") and said.content
        return Answer(said.status_code, answered, self.plain(said.json()) if is_json else said.text or None)

    def place(self, each: Recorded, batch: Batch) -> tuple[str, str]:
        """Where it is sent, and for which service its token is."""
        path = each.call["path"]
        if each.of_geocatalog:
            return self.catalog + path, SCOPE
        if each.file.startswith("batch"):
            account = f"{self.settings['LOCAL_AZURE_BATCH_URL']}/{batch.account}"
            return account + path, "https://batch.core.windows.net//.default"
        subscription = f"/subscriptions/{self.settings['LOCAL_AZURE_SUBSCRIPTION_ID']}"
        accounts = f"{subscription}/resourceGroups/{GROUP}/providers/Microsoft.Batch/batchAccounts"
        query = path.rpartition("?")[2]
        ids = {
            "arm-geocatalog": self.settings["LOCAL_AZURE_GEOCATALOG_ID"],
            "arm-batch-account-put": f"{accounts}/recorded",
            "arm-batch-pool-put": f"{accounts}/{batch.account}/pools/test_iaas_pool",
        }
        address = f"{self.settings['LOCAL_AZURE_ARM_URL']}{ids[each.file]}?{query}"
        return address, "https://management.azure.com/.default"

    def plain(self, body: Any) -> Any:
        """An answer as it would be of any GeoCatalog."""
        return anonymous(json.loads(json.dumps(body).replace(self.catalog, "https://<catalog>")))


def anonymous(body: Any) -> Any:
    """A body without the name of the GeoCatalog that gave it."""
    return json.loads(
        re.sub(r"https://(Sanitized\.[a-z_.]+\.azure\.com|<catalog>)", "https://CATALOG", json.dumps(body))
    )


def paged() -> list[dict[str, Any]]:
    """The items that were recorded on pages, and older ones behind them."""
    page = next(each for each in CALLS if each.file == "stac-items-page").call["response_body"]["features"]
    return [*page, *({**page[0], "id": f"a-{n}", "properties": {"datetime": "2020-01-01T00:00:00Z"}} for n in range(9))]


def ordered() -> list[dict[str, Any]]:
    """Items of the ids that were recorded in their order, of the day that stands in each; and one that was made."""
    ids = [name for each in CALLS if each.gives_ids for name in each.call["response_body"]["ids"]]
    days = [(name, re.findall(r"_(\d{4})(\d\d)(\d\d)", name)[0]) for name in ids]
    feature = {"type": "Feature", "collection": "naip", "geometry": None, "links": [], "assets": {}}
    made = next(each for each in CALLS if each.file == "item-create-delete" and each.what.startswith("GET /stac"))
    body = {**made.call["response_body"], "links": []}
    return [body, *({**feature, "id": n, "properties": {"datetime": f"{'-'.join(day)}T16:00:00Z"}} for n, day in days)]


BODIES: dict[tuple[str, int], Any] = {
    ("batch-exception-policy", 1): {"id": "batch", "poolInfo": {"poolId": "any"}},
    ("arm-batch-account-put", 0): {"location": "eastus"},
    ("arm-batch-pool-put", 0): {
        "properties": {
            "displayName": "test_pool",
            "vmSize": "STANDARD_A1",
            "deploymentConfiguration": {
                "virtualMachineConfiguration": {
                    "imageReference": {"publisher": "canonical", "offer": "ubuntu-24_04-lts", "sku": "server"},
                    "nodeAgentSkuId": "batch.node.ubuntu 24.04",
                }
            },
            "scaleSettings": fixed(1),
        }
    },
}
"""What the recordings leave out of requests, and ask of what is not imitated."""


def prepare(batch: Batch) -> None:
    """The pools, the job and the task that were there when the calls were recorded."""
    image = {"publisher": "canonical", "offer": "ubuntu-24_04-lts", "sku": "server"}
    machine = {"imageReference": image, "nodeAgentSKUId": "batch.node.ubuntu 24.04"}
    batch.client.create_pool({"id": "f50021c2", "vmSize": "standard_d2_v2", "virtualMachineConfiguration": machine})
    batch.client.create_job({"id": "batch", "poolInfo": {"poolId": batch.pool()}})
    batch.client.create_task("batch", {"id": "test_task", "commandLine": "/bin/bash -c 'echo hello world'"})
    batch.ended("batch", "test_task")


def before(each: Recorded, batch: Batch) -> None:
    """What must have happened between two recorded calls."""
    if each.what.startswith("POST /pools/f50021c2/resize"):
        batch.client.disable_pool_auto_scale("f50021c2")
    if re.match("POST /pools/f50021c2/(resize|enableautoscale)", each.what):
        until(lambda: batch.client.get_pool("f50021c2").allocation_state, lambda state: state == "steady")


@pytest.mark.parametrize("each", CALLS, ids=lambda each: f"{each.file}-{each.number}")
def test_recorded_call_gets_the_recorded_answer(each: Recorded, answers: dict[tuple[str, int], Answer]) -> None:
    answer, call = answers[each.file, each.number], each.call
    if NOT_IMITATED.match(each.what):
        assert answer.status == 501
        pytest.skip(f"local_azure has no route for {each.what.partition('?')[0]}")
    assert answer.status == call["status"], answer.body
    assert header_differences(answer.headers, call["response_headers"]) == set()
    if each.gives_ids:
        assert [item["id"] for item in answer.body["features"]] == call["response_body"]["ids"]
    elif each.of_geocatalog:
        assert text_differences(answer.body, without_links_by_name(anonymous(call["response_body"]))) == set()
    else:
        assert kind_differences(answer.body, call["response_body"]) == set()


def header_differences(ours: dict[str, str], theirs: dict[str, str]) -> set[str]:
    """Recorded headers that lack or have another kind of value."""
    wanted = {name.lower(): text for name, text in theirs.items() if name.lower() not in OF_THE_WAY | KEPT.keys()}
    return {name for name, text in wanted.items() if not of_one_kind(ours.get(name, ""), text)}


def of_one_kind(ours: str, theirs: str) -> bool:
    """Whether two texts are the same, or both of a kind whose values differ from one answer to the next."""
    names = (*KINDS_HERE, "date", "encoded url")
    kinds = [*(KINDS[name] for name in names), "[0-9a-f]{32}", r'(W/)?"[0-9A-Fa-fx-]+"', ".*/operationResults/.*"]
    one, other = ours.replace("; ", ";"), unnamed(theirs).replace("; ", ";")
    return one == other or any(re.fullmatch(kind, one) and re.fullmatch(kind, other) for kind in kinds)


def unnamed(text: str) -> str:
    """A recorded text with an id, or a host, where a name for one stands."""
    return text.replace("<guid>", "00000000-0000-0000-0000-000000000000").replace("<catalog>", "catalog")


def without_links_by_name(body: Any) -> Any:
    """An item without links where the recording names only their relations."""
    by_name = isinstance(body, dict) and body.get("links") and isinstance(body["links"][0], str)
    return {**body, "links": []} if by_name else body


def text_differences(ours: Any, theirs: Any, place: str = "") -> set[str]:
    """Where two answers differ: in members, their order, or values; lists as far as they were recorded."""
    if isinstance(ours, dict) and isinstance(theirs, dict):
        if list(ours) != list(theirs):
            return {f"{place}: {list(ours)} for {list(theirs)}"}
        return {found for name in ours for found in text_differences(ours[name], theirs[name], f"{place}.{name}")}
    if isinstance(ours, list) and isinstance(theirs, list) and len(ours) >= len(theirs):
        pairs = zip(ours, theirs, strict=False)
        return {found for one, other in pairs for found in text_differences(one, other, place)}
    counts = place in (".numberMatched", ".numberReturned")
    secret = isinstance(theirs, str) and re.fullmatch(re.escape(theirs).replace("Sanitized", ".+"), str(ours))
    return set() if ours == theirs or secret or (counts and type(ours) is int) else {f"{place}: {ours} for {theirs}"}


def kind_differences(ours: Any, theirs: Any, place: str = "") -> set[str]:
    """Where an answer lacks what was recorded, or has another kind of it; recordings are cut, so more is none."""
    if isinstance(ours, dict) and isinstance(theirs, dict):
        lacking = {f"-{place}.{name}" for name in theirs.keys() - ours.keys()}
        common = ours.keys() & theirs.keys()
        return lacking.union(*(kind_differences(ours[name], theirs[name], f"{place}.{name}") for name in common))
    if isinstance(ours, list) and isinstance(theirs, list) and ours:
        return {
            found for one in ours for found in min((kind_differences(one, each, place) for each in theirs), key=len)
        }
    if not isinstance(theirs, str) or not isinstance(ours, str):
        return set() if type(ours) is type(theirs) else {f"{place}: {ours} for {theirs}"}
    kinds = [name for name in KINDS_HERE if re.fullmatch(KINDS[name], unnamed(theirs))]
    return {f"{place}: {ours} for {theirs}" for name in kinds if not re.fullmatch(KINDS[name], ours)}


def test_items_of_the_demo_catalog_have_the_recorded_members_in_the_recorded_order(
    shared_azure: dict[str, str],
) -> None:
    page = next(each for each in CALLS if each.file == "stac-items-page").call["response_body"]["features"]
    with reader(shared_azure) as stac:
        (item,) = stac.get("/search", params={"limit": 1}).json()["features"]
    assert list(item) == list(page[0])
