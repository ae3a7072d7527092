"""Whatever a file, a setting, an argument or an answer holds: it is read, or refused in one sentence."""

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prefect.logging import disable_run_logger
from pydantic import BaseModel, TypeAdapter, ValidationError
from test_items import manifest
from test_shards import NAIP, plan, receipt

from flows.run import main
from spatiobatch.errors import ConfigurationError, NotStacError
from spatiobatch.intervals import uncovered
from spatiobatch.manifest import Latest, Manifest
from spatiobatch.query import Query, query_from
from spatiobatch.receipts import Receipt, total
from spatiobatch.settings import Settings, load_settings
from spatiobatch.shards import Plan
from tasks.collections import Listing, parse_collections
from tasks.compaction import Compaction
from tasks.progress import Done
from tasks.results import harvest_files
from tasks.summary import collection_rows
from tasks.unfinished import Unfinished, wanted

DEEP = "[" * 100_000
ODD = [
    DEEP,
    "1" * 5000,
    "1e999",
    "NaN",
    '"\\ud800"',
    '"0001-01-01T00:00:00+14:00"',
    '"9999-12-31T23:59:59-14:00"',
    "-1",
]
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
JSON = VALUES.map(json.dumps) | st.sampled_from(ODD)
MARK = "mark"


def variants(document: dict[str, Any]) -> st.SearchStrategy[bytes]:
    """A document with one member changed, cut short, damaged, or another document altogether."""
    whole = json.dumps(document)
    one = st.sampled_from(sorted(document)).map(lambda name: json.dumps({**document, name: MARK}))
    changed = st.tuples(one, JSON).map(lambda drawn: drawn[0].replace(f'"{MARK}"', drawn[1]).encode())
    cut = st.integers(0, len(whole)).map(lambda end: whole[:end].encode())
    damaged = st.tuples(st.integers(0, len(whole) - 1), st.binary(min_size=1, max_size=2)).map(
        lambda drawn: whole[: drawn[0]].encode() + drawn[1] + whole[drawn[0] + 1 :].encode()
    )
    return changed | cut | damaged | JSON.map(str.encode) | st.binary(max_size=20)


def refusal(read: Callable[[], object], kind: type[Exception] = ConfigurationError) -> str:
    """The sentence with which something is refused; any other error goes on."""
    try:
        read()
    except kind as error:
        return str(error)
    return "none"


def of(model: BaseModel) -> dict[str, Any]:
    """A model as the JSON that it travels as."""
    return dict(json.loads(model.model_dump_json()))


ITEMS = query_from(content="items")
SHARD = plan(NAIP).owed([])[0]
RECEIPT = {**of(receipt(SHARD, count=3, asked="2026-01-01T00:00:00Z")), "ids_hash": "a"}
COMPACTION = Compaction(collection="c", files={"2024-01": {"rows": 1, "exceptions": 0, "bytes": 1}}, exceptions=(),
                        exceptions_count=0, converted={})  # fmt: skip
READERS: list[tuple[Callable[[bytes], Any], dict[str, Any]]] = [
    (Receipt.model_validate_json, RECEIPT),
    (Manifest.model_validate_json, of(manifest("1"))),
    (Unfinished.model_validate_json, of(wanted(ITEMS))),
    (Compaction.model_validate_json, of(COMPACTION)),
    (Done.model_validate_json, {"items": 1, "pages": 1}),
    (TypeAdapter(dict[str, Latest]).validate_json, {ITEMS.hash: {"full": "1", "increments": ["2"]}}),
]
"""How files in the results container are read; whoever reads one is prepared for a ValidationError."""


@pytest.mark.parametrize(
    ("read", "document"), READERS, ids=["receipt", "manifest", "open", "report", "progress", "latest"]
)
def test_no_file_of_a_harvest_breaks_its_reader(read: Callable[[bytes], Any], document: dict[str, Any]) -> None:
    assert read(json.dumps(document).encode())

    @given(variants(document))
    @settings(max_examples=150)
    def fuzz(content: bytes) -> None:
        assert refusal(lambda: read(content), ValidationError)

    fuzz()


@given(st.lists(variants(RECEIPT), max_size=3))
@settings(max_examples=100)
def test_no_damaged_receipt_covers_what_it_does_not_say(contents: list[bytes]) -> None:
    receipts = []
    for content in contents:
        try:
            receipts.append(Receipt.model_validate_json(content))
        except ValidationError:
            continue  # its shard is owed
    asked = plan(NAIP)
    owed, counted = asked.owed(receipts), asked.counted(receipts)
    gaps = uncovered(asked.line, [part.covered for part in counted if not part.undated])
    assert bool(owed) or not gaps
    assert total(counted).items >= 0


def refuse(constant: str) -> None:
    """Take nothing that is no JSON."""
    raise AssertionError(constant)


COLLECTION = {**NAIP, "type": "Collection", "stac_version": "1.0.0", "title": "t", "license": "l"}


@given(
    st.lists(variants(COLLECTION), max_size=3).map(lambda all: b'{"collections": [' + b",".join(all) + b"]}")
    | variants({"collections": [COLLECTION]})
)
@settings(max_examples=200)
def test_no_answer_of_the_collections_task_breaks_a_harvest(stdout: bytes) -> None:
    said = refusal(lambda: parse_collections.fn(stdout, Query()), NotStacError)
    assert said == "none" or re.match("The answer of task collections is not a list of STAC collections: .", said)
    listing = parse_collections.fn(stdout, Query()) if said == "none" else Listing([], b"{}", {})
    collections = listing.collections
    asked = Plan.of(collections, ITEMS, plan(NAIP).started, parallel=2)
    assert len({shard.collection for shard in asked.owed([])}) == len({one["id"] for one in collections})
    there = manifest("1").model_copy(update={"query": Query()})
    assert len(collection_rows(collections, there)) == len(collections)
    assert len(harvest_files(listing.document, there.without(listing.unreadable))) == 2
    assert len(json.loads(listing.document, parse_constant=refuse).get("collections", [])) == len(collections)


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An environment's TOML file."""
    monkeypatch.setenv("SPATIOBATCH_ENVIRONMENT", str(tmp_path / "environment.toml"))
    with disable_run_logger():
        yield tmp_path / "environment.toml"


NAMES = st.sampled_from(sorted(Settings.model_fields))
TOML = st.tuples(NAMES, JSON).map(lambda pair: f'subscription_id = "s"\n{pair[0]} = {pair[1]}'.encode()) | st.binary()


def test_no_settings_file_breaks_the_loader(file: Path) -> None:
    @given(TOML)
    def fuzz(content: bytes) -> None:
        file.write_bytes(content)
        assert refusal(load_settings)

    fuzz()


def test_no_environment_variable_breaks_the_loader(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file.write_text('subscription_id = "s"\n')
    safe = st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\0")) | JSON

    @given(NAMES, safe)
    def fuzz(name: str, value: str) -> None:
        with monkeypatch.context() as patch:
            patch.setenv(f"SPATIOBATCH_{name.upper()}", value)
            assert refusal(load_settings)

    fuzz()


PARTS = st.sampled_from(
    ["a", "=", "<", "(", ")", "'", '"', "1", "and", "like", "{", "}", "[", "]", ":", ",", "op", "é"]
)
FILTERS = st.lists(PARTS, max_size=8).map(" ".join) | JSON
SIDES = st.text("0123456789-:.TZ+/", max_size=30) | st.sampled_from(
    ["..", "", "2024-01-01", "0001-01-01T00:00:00+14:00"]
)


@given(st.sampled_from(["datetime", "bbox", "filter", "page_size", "collections", "content"]), VALUES | FILTERS | SIDES)
@settings(max_examples=300)
def test_no_value_breaks_a_query(name: str, value: object) -> None:
    assert refusal(lambda: query_from(**{"content": "items", name: value}).hash)


@given(SIDES, SIDES)
def test_no_interval_breaks_a_query(start: str, end: str) -> None:
    assert refusal(lambda: query_from(content="items", datetime=f"{start}/{end}"))


FREE = ("collection", "datetime", "bbox", "filter", "resume")
CHOICES = ("content", "verify", "max-items", "requests-per-second", "since", "page-size", "runtime", "fresh", "x")
OPTIONS = st.sampled_from([*FREE, *CHOICES]).map("--{}".format)
WORDS = (
    st.text(max_size=6) | SIDES | st.sampled_from(["items", "ids", "last", "-1", "1e400", "nan", "--", "-", "\ud800"])
)


def test_no_arguments_break_the_command_line(
    file: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    @given(st.sampled_from(["harvest", "provision", "sweep"]), st.lists(OPTIONS | WORDS, max_size=5))
    @settings(max_examples=150)
    def fuzz(command: str, arguments: list[str]) -> None:
        assert main([command, "--environment", str(file), *arguments]) == 2  # the file is not there
        out, err = capfd.readouterr()
        assert out == ""
        assert re.match("spatiobatch: .", err)
        assert "fault of spatiobatch" not in err

    fuzz()
