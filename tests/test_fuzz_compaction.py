"""Lines of an archive that are anything at all: each is a row or an exception, and none is lost."""

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
from faulty import running
from forking import Forked, forked
from hypothesis import given, settings
from hypothesis import strategies as st
from node_scripts import CLIENT_ID
from test_compaction_script import PARQUET, WANTED, Container
from test_fuzz_parsers import variants

POINT = {"type": "Point", "coordinates": [1.5, 2]}
ITEM: dict[str, Any] = {
    "type": "Feature",
    "stac_version": "1.0.0",
    "id": "i",
    "collection": "c",
    "geometry": POINT,
    "bbox": [1.5, 2, 1.5, 2],
    "properties": {"datetime": "2024-02-29T12:00:00Z", "updated": "2024-03-01T00:00:00Z", "a": 1},
    "links": [],
    "assets": {"a": {"href": "https://example.com/a"}},
}
INNER = {**ITEM["properties"], "start_datetime": None, "end_datetime": None}
LINES = (
    variants(ITEM)
    | variants(INNER).map(lambda inner: json.dumps({**ITEM, "properties": "mark"}).encode().replace(b'"mark"', inner))
    | variants(POINT).map(lambda shape: json.dumps({**ITEM, "geometry": "mark"}).encode().replace(b'"mark"', shape))
).map(lambda line: re.sub(rb"[\r\n]", b" ", line))


@pytest.fixture(scope="module")
def container() -> Iterator[Container]:
    with running(Container()) as server:
        yield server


@pytest.fixture(scope="module")
def script(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Forked]:
    with forked("compact_items.py", tmp_path_factory.mktemp("node")) as waiting:
        yield waiting


@given(st.lists(LINES, min_size=1, max_size=30))
@settings(max_examples=25)
def test_no_line_breaks_the_compaction_or_gets_lost(container: Container, script: Forked, lines: list[bytes]) -> None:
    numbered = [line.replace(b'"id": "i"', b'"id": "i%d"' % number) for number, line in enumerate(lines)]
    container.blobs.clear()
    container.archive(*numbered)
    container.want({"shards": [container.part("s1")]})
    code, said = script.run(
        {
            "RESULTS_URL": f"{container.origin}/results",
            "HARVEST_ID": "h",
            "AZURE_CLIENT_ID": CLIENT_ID,
            "AZURE_POD_IDENTITY_AUTHORITY_HOST": container.origin,
            "COMPACT": WANTED,
        }
    )
    assert code == 0, said
    files = json.loads(container.blobs[f"{PARQUET}/compaction.json"])["files"].values()
    kept = len(container.lines("s1"))
    assert sum(file["rows"] + file["exceptions"] for file in files) == kept
    assert kept >= len({line for line in numbered if b'"id": "i' in line and b'"id": "i"' not in line})
