"""The script that makes stac-geoparquet of archived items: every item is a row or an exception, and nothing is lost."""

import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from hashlib import sha256
from http.server import ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import duckdb
import msgspec
import pytest
import rustac
import zstandard
from faulty import Faulty, running
from node_scripts import CLIENT_ID, HURRY, SCRIPTS, run

Json = dict[str, Any]
DATA = Path(__file__).parents[2] / "shared" / "data" / "stac"
MEASURED = """
import pathlib, re, runpy, sys
try:
    runpy.run_path(sys.argv[1], run_name="__main__")
finally:
    print(re.search(r"VmHWM:\\s+(\\d+) kB", pathlib.Path("/proc/self/status").read_text())[1])
"""
"""Prints the peak of its memory in KiB."""
CRAMPED = """
import duckdb, runpy, sys
connect = duckdb.connect
duckdb.connect = lambda config: connect(config=config | {"memory_limit": "1MB"})
runpy.run_path(sys.argv[1], run_name="__main__")
"""
"""Has DuckDB get along with hardly any memory."""
DATES = ("datetime", "start_datetime", "end_datetime", "created", "updated")
"""They come back as other text for the same moment."""
NO_RECEIPT = '{"name": "s1", "count": 1, "ids_hash": "1"}'
WANTED = "harvests/h/control/compact.json"
ITEMS, PARQUET = "harvests/h/items/c", "harvests/h/parquet/c"


class Container(ThreadingHTTPServer):
    """The results container, and IMDS. Tokens are `secret`; `refusals` are the statuses of the first answers."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.origin = f"http://127.0.0.1:{self.server_port}"
        self.blobs: dict[str, bytes] = {}
        self.written: list[str] = []
        self.refusals: list[int] = []
        self.faults: list[tuple[str, str]] = []

    def archive(self, *lines: bytes, shard: str = "s1") -> None:
        """Put a shard there, as a harvest leaves it."""
        self.hold(zstandard.ZstdCompressor().compress(b"".join(line + b"\n" for line in lines)), shard)

    def hold(self, packed: bytes, shard: str = "s1") -> None:
        """Put an archive there, and the receipt that is its own."""
        self.blobs[f"{ITEMS}/{shard}.ndjson.zst"] = packed
        lines = self.lines(shard)
        ids = [item_id for line in lines for item_id in id_of(line)]
        receipt = {"name": shard, "count": len(lines), "ids_hash": hash_of(*ids), "duplicates": 0}
        receipt["archive"] = {"size": len(packed), "sha256": sha256(packed).hexdigest()}
        told = {**receipt, "dirty": [{"id": i, "problem": "no geometry"} for i in ids], "dirty_count": len(ids)}
        self.blobs[f"{ITEMS}/{shard}.receipt.json"] = json.dumps(told).encode()

    def part(self, shard: str, harvest: str = "h") -> Json:
        """What the flow tells of a shard: what its receipt says."""
        receipt = json.loads(self.blobs.get(f"harvests/{harvest}/items/c/{shard}.receipt.json", NO_RECEIPT))
        return {"name": shard, **{name: receipt.get(name) for name in ("count", "ids_hash", "archive")}}

    def want(self, told: Json) -> None:
        """Write down what to compact, as the flow does."""
        self.blobs[WANTED] = json.dumps({"collection": "c", "segment": "c", **told}).encode()

    def lines(self, shard: str) -> list[bytes]:
        """What a shard holds now."""
        packed = self.blobs[f"{ITEMS}/{shard}.ndjson.zst"]
        return zstandard.ZstdDecompressor().stream_reader(packed).read().split(b"\n")[:-1]


class Identified(msgspec.Struct):
    """What a harvest reads of an item."""

    id: str


def id_of(line: bytes) -> list[str]:
    """The id of an item that has one."""
    try:
        return [msgspec.json.decode(line, type=Identified).id]
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return []


def hash_of(*ids: str) -> str:
    """The sum of the ids' SHA-256, as receipts have it."""
    return f"{sum(int.from_bytes(sha256(name.encode()).digest()) for name in ids) % 2**256:064x}"


class _Handler(Faulty):
    server: Container
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # an answer is written in two pieces

    def do_GET(self) -> None:
        if self.path.startswith("/metadata/identity/"):
            token = {"access_token": "secret", "expires_in": "3600", "token_type": "Bearer"}
            return self.send(200, json.dumps(token).encode())
        if self.server.refusals:
            return self.send(self.server.refusals.pop(0), b"refused secret")
        content = self.server.blobs.get(unquote(self.path.removeprefix("/results/")))
        return self.send(404, b"BlobNotFound") if content is None else self.send(200, content)

    def do_PUT(self) -> None:
        name = unquote(self.path.removeprefix("/results/"))
        self.server.blobs[name] = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.written.append(name)
        self.send(201, b"")

    def do_DELETE(self) -> None:
        name = unquote(self.path.removeprefix("/results/"))
        self.server.written.append(f"-{name}")
        self.send(202 if self.server.blobs.pop(name, None) else 404, b"")

    def send(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Stay quiet."""


@pytest.fixture
def container() -> Iterator[Container]:
    with running(Container()) as server:
        yield server


@dataclass
class Outcome:
    """What a run left, its files in a folder."""

    finished: subprocess.CompletedProcess[str]
    container: Container
    folder: Path

    @property
    def report(self) -> Json:
        """The report of a run that succeeded."""
        assert self.finished.returncode == 0, self.finished.stderr
        return dict(json.loads(self.container.blobs[f"{PARQUET}/compaction.json"]))

    def file(self, name: str) -> Path:
        """A month's file, saved."""
        assert self.finished.returncode == 0, self.finished.stderr
        saved = self.folder / f"{name}.parquet"
        saved.write_bytes(self.container.blobs[f"{PARQUET}/{name}.parquet"])
        return saved

    def rows(self, name: str, columns: str = "*") -> list[tuple[Any, ...]]:
        """A month's rows, as DuckDB reads them, by id."""
        with duckdb.connect() as connection:
            connection.execute("SET TimeZone = 'UTC'")
            query = f"SELECT {columns} FROM read_parquet(?) ORDER BY id"  # noqa: S608  # the columns are ours
            return connection.execute(query, [str(self.file(name))]).fetchall()

    def value(self, column: str, name: str = "2020-01") -> list[Any]:
        """One column of a month."""
        return [value for (value,) in self.rows(name, column)]

    def items(self, name: str) -> dict[str, Json]:
        """A month's items by id, as a reader of stac-geoparquet gives them back."""
        return {item["id"]: item for item in rustac.read_sync(str(self.file(name)))["features"]}


Compact = Callable[..., Outcome]


@pytest.fixture
def compact(container: Container, tmp_path: Path) -> Compact:
    """Runs the script on shards of the container, without waiting between attempts."""

    def start(
        *shards: str,
        command: str = HURRY,
        harvest: str = "h",
        base: tuple[str, ...] = (),
        increment: bool = False,
        **changes: str,
    ) -> Outcome:
        parts = [container.part(shard, harvest) for shard in shards or ["s1"]]
        container.want({"shards": parts, "base": base, "increment": increment})
        variables = {
            "RESULTS_URL": f"{container.origin}/results",
            "HARVEST_ID": harvest,
            "AZURE_CLIENT_ID": CLIENT_ID,
            "AZURE_POD_IDENTITY_AUTHORITY_HOST": container.origin,
            "COMPACT": WANTED,
            **changes,
        }
        script = str(SCRIPTS / "compact_items.py")
        finished = run([sys.executable, "-I", "-c", command, script], tmp_path, variables)
        assert "secret" not in finished.stderr
        assert "Traceback" not in finished.stderr, finished.stderr
        return Outcome(finished, container, tmp_path)

    return start


def item(
    item_id: str, moment: str | None = "2020-01-01T00:00:00Z", properties: Json | None = None, **members: Any
) -> bytes:
    """An item; members that are `...` are left out."""
    document = {
        "type": "Feature",
        "stac_version": "1.1.0",
        "id": item_id,
        "geometry": {"type": "Point", "coordinates": [1.5, 2.5]},
        "bbox": [1.5, 2.5, 1.5, 2.5],
        "properties": {"datetime": moment, **(properties or {})},
        "links": [],
        "assets": {"data": {"href": f"https://example.com/{item_id}"}},
        "collection": "c",
        **members,
    }
    return json.dumps({name: value for name, value in document.items() if value is not ...}).encode()


def test_a_property_that_comes_late_is_there(container: Container, compact: Compact) -> None:
    early = [item(f"a{number:05}") for number in range(5000)]
    container.archive(*early, item("b", properties={"late": "x", "nested": {"deep": [1]}}))
    container.archive(item("c", "2020-02-01T00:00:00Z"), shard="s2")
    done = compact("s1", "s2")
    assert done.rows("2020-01", "late, nested")[-1] == ("x", {"deep": [1]})
    assert done.value("late", "2020-02") == [None]


def test_rows_and_exceptions_are_what_was_archived(container: Container, compact: Compact) -> None:
    broken = item("d").replace(b'"Feature"', b"Feature")
    container.archive(item("a"), item("b", "2020-02-01T00:00:00Z"), item("c", "yesterday"), broken)
    report = compact().report
    counted = {name: (file["rows"], file["exceptions"]) for name, file in report["files"].items()}
    assert counted == {"2020-01": (1, 0), "2020-02": (1, 0), "undated": (0, 2)}
    assert [exception["id"] for exception in report["exceptions"]] == ["c", "d"]
    assert report["exceptions_count"] == 2


def test_a_changed_type_makes_a_property_json_text(container: Container, compact: Compact) -> None:
    values = [1, "1", {"x": 1}, [1], None]
    container.archive(*(item(f"i{n}", properties={"p": value}) for n, value in enumerate(values)))
    done = compact()
    assert [text and json.loads(text) for text in done.value("p")] == values
    assert done.report["converted"] == {"properties.p": "values of several types: dict, int, list, str"}


def test_a_list_of_mixed_elements_is_one_json_text(container: Container, compact: Compact) -> None:
    lists = [[1, "a"], [[1, [2]]], []]
    container.archive(*(item(f"i{n}", properties={"p": value}) for n, value in enumerate(lists)))
    done = compact()
    assert [json.loads(text) for text in done.value("p")] == lists
    assert done.report["converted"] == {"properties.p": "in a list: values of several types: int, list, str"}


def test_whole_and_broken_numbers_are_numbers(container: Container, compact: Compact) -> None:
    container.archive(item("a", properties={"p": 1, "big": 2**63}), item("b", properties={"p": 1.5, "big": 1}))
    done = compact()
    assert done.value("p") == [1.0, 1.5]
    assert done.value("big") == [str(2**63), "1"]


def test_a_null_geometry_keeps_its_row(container: Container, compact: Compact) -> None:
    container.archive(item("a"), item("b", geometry=None, bbox=...), item("c", geometry=...))
    assert compact().value("ST_AsText(geometry)") == ["POINT (1.5 2.5)", None, None]


def test_a_geometry_that_is_none_is_an_exception(container: Container, compact: Compact) -> None:
    container.archive(item("a"), item("b", geometry={"type": "Blob", "coordinates": []}))
    report = compact().report
    assert report["files"]["2020-01"] | {"bytes": 0} == {"rows": 1, "exceptions": 1, "bytes": 0}
    assert report["exceptions"] == [{"id": "b", "problem": "its geometry is no GeoJSON geometry"}]


@pytest.mark.parametrize("bbox", [[1, 2, 3], ["1", "2", "3", "4"], {"xmin": 1}])
def test_a_bbox_that_is_none_is_an_exception(container: Container, compact: Compact, bbox: object) -> None:
    container.archive(item("a", bbox=bbox))
    done = compact()
    assert (done.report["exceptions"][0]["id"], done.report["exceptions_count"]) == ("a", 1)
    assert container.written == ["harvests/h/ids/c.parquet", f"{PARQUET}/compaction.json"]


def test_heights_are_kept(container: Container, compact: Compact) -> None:
    solid = {"geometry": {"type": "Point", "coordinates": [1, 2, 3]}, "bbox": [1, 2, 3, 4, 5, 6]}
    container.archive(item("a", **solid), item("b"))
    first, second = compact().rows("2020-01", "ST_AsText(geometry), bbox")
    assert first == ("POINT Z (1 2 3)", {"xmin": 1, "ymin": 2, "zmin": 3, "xmax": 4, "ymax": 5, "zmax": 6})
    assert second[1] == {"xmin": 1.5, "ymin": 2.5, "zmin": None, "xmax": 1.5, "ymax": 2.5, "zmax": None}


def test_months_are_those_of_utc_to_the_microsecond(container: Container, compact: Compact) -> None:
    moments = {
        "a": "2020-01-31T23:59:59.999999Z",
        "b": "2020-02-01T00:00:00Z",
        "c": "2020-02-01T00:30:00.000001+01:00",
        "d": "2020-01-31T23:30:00-01:00",
        "e": "2020-01-31T23:59:59.9999999Z",
    }
    container.archive(*(item(item_id, moment) for item_id, moment in moments.items()))
    done = compact()
    assert (done.value("id"), done.value("id", "2020-02")) == (["a", "c"], ["b", "d", "e"])
    assert done.value("datetime::VARCHAR") == ["2020-01-31 23:59:59.999999+00", "2020-01-31 23:30:00.000001+00"]


def test_the_start_decides_where_start_and_end_are_there(container: Container, compact: Compact) -> None:
    both = {"start_datetime": "2019-12-31T00:00:00Z", "end_datetime": "2020-03-01T00:00:00Z"}
    container.archive(item("a", None, both), item("b", properties={**both, "end_datetime": None}))
    done = compact()
    assert (done.value("id", "2019-12"), done.value("id")) == (["a"], ["b"])


def test_items_without_a_date_have_a_file(container: Container, compact: Compact) -> None:
    container.archive(
        item("a", None), item("b", properties={"datetime": None, "start_datetime": "2020-01-01T00:00:00Z"})
    )
    assert compact().value("id", "undated") == ["a", "b"]


def test_of_an_id_in_two_shards_the_newest_version_stays(container: Container, compact: Compact) -> None:
    old, new = (item("a", properties={"updated": f"202{year}-01-01T00:00:00Z"}) for year in (1, 2))
    container.archive(new, item("b", properties={"v": 1}))
    container.archive(old, item("d"), shard="s2")
    container.archive(item("b", properties={"v": 2}), item("c"), shard="s3")
    done = compact("s1", "s2", "s3")
    assert done.rows("2020-01", "id, year(updated), v") == [
        ("a", 2022, None), ("b", None, 2), ("c", None, None), ("d", None, None)
    ]  # fmt: skip
    assert done.report["cleaned"] == ["s1", "s2"]
    assert container.lines("s1") == [new]
    assert container.lines("s2") == [item("d")]


def test_an_id_that_moved_to_another_month_is_in_one_file(container: Container, compact: Compact) -> None:
    container.archive(item("a", "2020-01-01T00:00:00Z", {"updated": "2021-01-01T00:00:00Z"}))
    container.archive(item("a", "2020-03-01T00:00:00Z", {"updated": "2022-01-01T00:00:00Z"}), shard="s2")
    assert set(compact("s1", "s2").report["files"]) == {"2020-03"}
    assert container.lines("s1") == []


def test_the_receipt_of_a_shard_that_lost_an_id_tells_what_is_left(container: Container, compact: Compact) -> None:
    older = [item("a"), item("b", "2020-01-02T00:00:00Z"), item("c", None)]
    container.archive(*older)
    container.archive(item("a", properties={"updated": "2022-01-01T00:00:00Z"}), shard="s2")
    compact("s1", "s2")
    receipt = json.loads(container.blobs[f"{ITEMS}/s1.receipt.json"])
    assert (receipt["count"], receipt["duplicates"], receipt["ids_hash"]) == (2, 1, hash_of("b", "c"))
    assert (receipt["min_datetime"], receipt["max_datetime"]) == ("2020-01-02T00:00:00Z", "2020-01-02T00:00:00Z")
    assert ([told["id"] for told in receipt["dirty"]], receipt["dirty_count"]) == (["b", "c"], 2)
    assert receipt["bytes"] == len(container.blobs[f"{ITEMS}/s1.ndjson.zst"])


def test_a_receipt_is_away_while_its_archive_is_replaced(container: Container, compact: Compact) -> None:
    container.archive(item("a"))
    container.archive(item("a", properties={"updated": "2022-01-01T00:00:00Z"}), shard="s2")
    compact("s1", "s2")
    receipt = f"{ITEMS}/s1.receipt.json"
    assert container.written[:3] == [f"-{receipt}", f"{ITEMS}/s1.ndjson.zst", receipt]


def stamped(item_id: str, second: int, **members: Any) -> bytes:
    """An item that was last written at that second of a minute."""
    return item(item_id, properties={"_msft:ts": f"2024-01-01T00:00:{second:02}.5Z"}, **members)


def test_a_full_harvest_tells_what_was_added_changed_and_removed(container: Container, compact: Compact) -> None:
    container.archive(stamped("kept", 1), stamped("changed", 1), stamped("removed", 1))
    assert compact().report["changes"] is None
    container.archive(stamped("kept", 1), stamped("changed", 2), stamped("added", 2))
    container.blobs = {name.replace("/h/items/", "/h2/items/"): blob for name, blob in container.blobs.items()}
    compact(harvest="h2", base=("h",))
    told = map(json.loads, container.blobs["harvests/h2/changes/c.ndjson"].splitlines())
    assert {line["id"]: line["change"] for line in told} == {
        "added": "added", "changed": "changed", "removed": "removed"
    }  # fmt: skip
    report = json.loads(container.blobs["harvests/h2/parquet/c/compaction.json"])
    assert report["changes"] == {"added": 1, "changed": 1, "removed": 1}


def test_an_increment_is_compared_with_all_that_came_before_and_removes_nothing(
    container: Container, compact: Compact
) -> None:
    for harvest, base, lines in [
        ("h", (), [stamped("a", 1), stamped("b", 1), stamped("c", 1)]),
        ("h1", ("h",), [stamped("b", 2), stamped("d", 2)]),
        ("h2", ("h", "h1"), [stamped("a", 1), stamped("b", 2), stamped("c", 3), stamped("e", 3)]),
    ]:
        container.archive(*lines)
        container.blobs = {name.replace("/h/items/", f"/{harvest}/items/"): b for name, b in container.blobs.items()}
        compact(harvest=harvest, base=base, increment=harvest != "h")
    report = json.loads(container.blobs["harvests/h2/parquet/c/compaction.json"])
    assert report["changes"] == {"added": 1, "changed": 1, "removed": 0}
    assert b'"b"' not in container.blobs["harvests/h2/changes/c.ndjson"]


def test_where_the_catalog_keeps_no_time_the_content_tells_versions_apart(
    container: Container, compact: Compact
) -> None:
    container.archive(item("a"), item("b"))
    compact()
    container.archive(item("a", links=[{"rel": "self", "href": "https://elsewhere"}]), item("b", foreign=1), shard="s2")
    container.blobs = {name.replace("/h/items/c/s2", "/h2/items/c/s1"): b for name, b in container.blobs.items()}
    compact(harvest="h2", base=("h",))
    assert json.loads(container.blobs["harvests/h2/changes/c.ndjson"]) == {"id": "b", "change": "changed"}


@pytest.mark.parametrize(
    ("properties", "changed_by"),
    [
        ([{"updated": "2024-01-01T00:00:00Z", "_msft:ts": "2024-01-01T00:00:00Z"}] * 2, "_msft:ts"),
        (
            [{"updated": "2024-01-01T00:00:00Z", "_msft:ts": "2024-01-01T00:00:00Z"}, {"updated": "2024-01-01"}],
            "updated",
        ),
        ([{"updated": "2024-01-01T00:00:00Z"}, {"updated": "yesterday"}], None),
        ([], None),
    ],
)
def test_changes_can_be_asked_for_by_a_time_that_every_item_has(
    container: Container, compact: Compact, properties: list[Json], changed_by: str | None
) -> None:
    container.archive(*(item(str(number), properties=some) for number, some in enumerate(properties)))
    assert compact().report["changed_by"] == changed_by


def test_names_that_are_taken_become_other_columns(container: Container, compact: Compact) -> None:
    clashing = {"id": 5, "Bands": "x", "bands": [1], "geometry": "y", "a/~": 1, "A/~": 2}
    container.archive(item("a", properties=clashing, foreign={"x": 1, "X": 2}))
    columns = '"properties:id", Bands, "properties:bands", "properties:geometry", "a/~", "properties:A/~", "foreign"'
    assert compact().rows("2020-01", columns) == [(5, "x", [1], "y", 1, 2, '{"x":1,"X":2}')]


def test_names_that_look_like_sql_are_names(container: Container, compact: Compact) -> None:
    names = ['a"b', "a'b", "a, b INT)", "ä 日本", "a.b", "{a}", "--"]
    container.archive(item("a", properties={name: {name: number} for number, name in enumerate(names)}))
    columns = ", ".join('"{}"'.format(name.replace('"', '""')) for name in names)
    assert compact().rows("2020-01", columns) == [tuple({name: number} for number, name in enumerate(names))]


@pytest.mark.parametrize("name", ["", "a\0b"])
def test_names_that_no_column_can_have_do_no_harm(container: Container, compact: Compact, name: str) -> None:
    container.archive(item("a", properties={name: 1}), item("b", properties={"p": {name: "\0"}}))
    done = compact()
    assert [exception["id"] for exception in done.report["exceptions"]] == ["a"]
    assert json.loads(done.value("p")[0]) == {name: "\0"}


def test_an_unreadable_date_beside_the_moment_is_text_beside_the_others(container: Container, compact: Compact) -> None:
    container.archive(item("a", properties={"updated": ""}), item("b", properties={"updated": "2020-01-01T00:00:00Z"}))
    assert compact().rows("2020-01", 'updated::VARCHAR, "properties:updated"') == [
        (None, '""'), ("2020-01-01 00:00:00+00", None)
    ]  # fmt: skip


def test_empty_objects_and_lists_do_no_harm(container: Container, compact: Compact) -> None:
    container.archive(item("a", assets={}, properties={"o": {}, "l": [], "n": None}), item("b", assets=..., links=...))
    done = compact()
    assert done.rows("2020-01", "o, l, n") == [("{}", [], None), (None, None, None)]
    assert set(done.items("2020-01")) == {"a", "b"}


def test_every_file_of_a_collection_has_the_same_columns(container: Container, compact: Compact) -> None:
    container.archive(item("a", properties={"x": 1}), item("b", "2020-02-01T00:00:00Z", {"x": 0.5, "y": "z"}))
    done = compact()
    with duckdb.connect() as connection:
        described = [
            connection.execute("DESCRIBE SELECT * FROM read_parquet(?)", [str(done.file(name))]).fetchall()
            for name in ("2020-01", "2020-02")
        ]
    assert described[0] == described[1]


def test_a_second_run_writes_the_same(container: Container, compact: Compact) -> None:
    container.archive(item("a"), item("b", "2020-02-01T00:00:00Z"))
    first = compact()
    blobs = dict(container.blobs)
    assert compact().report == first.report
    assert container.blobs == blobs


def test_the_report_is_written_last(container: Container, compact: Compact) -> None:
    container.archive(item("a"), item("b", "2020-02-01T00:00:00Z"))
    sizes = {name: file["bytes"] for name, file in compact().report["files"].items()}
    assert container.written[-1] == f"{PARQUET}/compaction.json"
    assert sizes == {name: len(container.blobs[f"{PARQUET}/{name}.parquet"]) for name in ("2020-01", "2020-02")}


def test_no_items_are_an_empty_report(container: Container, compact: Compact) -> None:
    container.archive()
    assert compact().report == {
        "collection": "c",
        "files": {},
        "exceptions": [],
        "exceptions_count": 0,
        "failed": None,
        "converted": {},
        "cleaned": [],
        "changed_by": None,
        "changes": None,
        "footprints": {"items": 0, "grids": {"2": "", "0.5": "", "0.125": ""}},
    }


Damage = Callable[[bytes, bytes], bytes | None]


@pytest.mark.parametrize("sealed", [True, False])
@pytest.mark.parametrize(
    "damage",
    [
        lambda own, other: None,
        lambda own, other: b"no zstd",
        lambda own, other: b"",
        lambda own, other: other,
        lambda own, other: own[: len(own) // 2],
        lambda own, other: zstandard.compress(b'{"id": "a"'),
        lambda own, other: own + own,
    ],
)
def test_an_archive_that_is_not_its_receipts_is_named_and_nothing_else_is_done(
    container: Container, compact: Compact, sealed: bool, damage: Damage
) -> None:
    container.archive(item("c"), item("d"), shard="s2")
    container.archive(item("a"), item("b"))
    own, other = (container.blobs[f"{ITEMS}/{shard}.ndjson.zst"] for shard in ("s1", "s2"))
    damaged = damage(own, other)
    if not sealed:
        unseal(container, "s1")
    container.blobs.pop(f"{ITEMS}/s1.ndjson.zst")
    if damaged is not None:
        container.blobs[f"{ITEMS}/s1.ndjson.zst"] = damaged
    report = compact("s1", "s2").report
    assert (list(report["unsound"]), report["files"]) == (["s1"], {})
    assert container.written == [f"{PARQUET}/compaction.json"]


def unseal(container: Container, shard: str) -> None:
    """Make a receipt one of an earlier version."""
    path = f"{ITEMS}/{shard}.receipt.json"
    container.blobs[path] = json.dumps({**json.loads(container.blobs[path]), "archive": None}).encode()


def test_a_flipped_byte_is_noticed_even_where_all_can_be_read(container: Container, compact: Compact) -> None:
    container.archive(item("a", properties={"datetime": "2020-01-01T00:00:00Z", "x": 1}))
    packed = zstandard.ZstdCompressor().compress(container.lines("s1")[0].replace(b'"x": 1', b'"x": 2') + b"\n")
    container.blobs[f"{ITEMS}/s1.ndjson.zst"] = packed
    assert "SHA-256" in compact().report["unsound"]["s1"]


def test_an_archive_of_an_earlier_version_is_counted_and_read(container: Container, compact: Compact) -> None:
    container.archive(item("a"), item("b"))
    unseal(container, "s1")
    assert sorted(compact().value("id")) == ["a", "b"]


def test_a_passing_failure_is_tried_again(container: Container, compact: Compact) -> None:
    container.archive(item("a"))
    container.refusals = [503, 401, 500]
    assert compact().value("id") == ["a"]


@pytest.mark.parametrize(("status", "code"), [(403, 4), (404, 2), (503, 6)])
def test_a_lasting_failure_has_its_exit_code(container: Container, compact: Compact, status: int, code: int) -> None:
    container.refusals = [status] * 10
    assert compact().finished.returncode == code


@pytest.mark.parametrize(
    "changes", [{"COMPACT": "no/blob"}, {"HARVEST_ID": ""}, {"RESULTS_URL": "http://example.com/r"}]
)
def test_a_wrong_environment_ends_with_2(container: Container, compact: Compact, changes: dict[str, str]) -> None:
    container.archive()
    finished = compact(**changes).finished
    assert (finished.returncode, len(finished.stderr.splitlines())) == (2, 1)


def test_memory_stays_bounded(container: Container, compact: Compact) -> None:
    assets = {f"asset-{n}": {"href": f"https://example.com/ID/{n}.tif", "title": "x" * 200} for n in range(10)}
    template = item("ID", properties={f"p:{n}": n / 3 for n in range(20)}, assets=assets)
    packer = zstandard.ZstdCompressor(level=1).compressobj()
    packed = [packer.compress(template.replace(b"ID", b"%06d" % number) + b"\n") for number in range(50_000)]
    container.hold(b"".join([*packed, packer.flush()]))
    done = compact(command=MEASURED)
    assert done.report["files"]["2020-01"]["rows"] == 50_000
    assert int(done.finished.stdout) < 500_000


@pytest.mark.skipif(not DATA.exists(), reason="needs the sample catalogs beside the checkout")
@pytest.mark.parametrize("collection", ["openaerialmap", "naip", "sentinel-2-l2a", "landsat-c2-l2"])
def test_sample_catalogs_are_held_whole(container: Container, compact: Compact, collection: str) -> None:
    packed = (DATA / f"{collection}.ndjson.zst").read_bytes()
    with zstandard.ZstdDecompressor().stream_reader(packed) as reader:
        archived = {item["id"]: item for item in map(json.loads, reader.read().splitlines())}
    container.hold(packed)
    done = compact()
    files = done.report["files"].values()
    assert sum(file["rows"] for file in files) == len(archived)
    assert done.report["exceptions_count"] == 0
    fullest = max(done.report["files"], key=lambda name: done.report["files"][name]["rows"])
    for item_id, back in done.items(fullest).items():
        there = archived[item_id]
        assert kept(there["assets"], back["assets"]), item_id
        assert kept({**there["properties"], **dict.fromkeys(DATES)}, back["properties"]), item_id


def kept(there: object, back: object) -> bool:
    """Whether all that was there came back."""
    if isinstance(there, dict):
        return isinstance(back, dict) and all(
            value is None or kept(value, back.get(name)) for name, value in there.items()
        )
    if isinstance(there, list) and isinstance(back, list):
        return len(there) == len(back) and all(map(kept, there, back))
    return there == back


def cells(report: Json, degrees: str) -> dict[tuple[float, float], int]:
    """Items by the south-western corner of each cell that footprints touch."""
    size = float(degrees)
    numbers = (map(int, cell.split(",")) for cell in report["footprints"]["grids"][degrees].split())
    return {(column * size - 180, row * size - 90): items for column, row, items in numbers}


def polygon(west: float, south: float, east: float, north: float) -> list[Any]:
    """Coordinates of a box."""
    return [[[west, south], [east, south], [east, north], [west, north], [west, south]]]


def test_footprints_are_counted_in_every_cell_that_they_touch(container: Container, compact: Compact) -> None:
    container.archive(item("a", bbox=[0.5, 0.5, 2.5, 1.5]), item("b", bbox=[2, 0, 4, 2]))
    report = compact().report
    assert report["footprints"]["items"] == 2
    assert cells(report, "2") == {(0, 0): 1, (2, 0): 2}
    assert len(cells(report, "0.5")) == 4 * 2 + 4 * 4 - 2


def test_a_footprint_across_the_antimeridian_is_not_smeared_over_the_globe(
    container: Container, compact: Compact
) -> None:
    parts = {"type": "MultiPolygon", "coordinates": [polygon(178, 0, 180, 2), polygon(-180, 0, -178, 2)]}
    container.archive(
        item("west above east", bbox=[179, 0, -179, 2]),
        item("from edge to edge", bbox=[-180, 0, 180, 2], geometry=parts),
        item("without a box", bbox=..., geometry=parts),
    )
    assert cells(compact().report, "2") == {(178, 0): 3, (-180, 0): 3}


def test_an_item_that_nobody_can_place_is_on_no_map(container: Container, compact: Compact) -> None:
    container.archive(
        item("nowhere", bbox=..., geometry=None), item("beyond", bbox=[0, 95, 1, 96]), item("there", geometry=None)
    )
    footprints = compact().report["footprints"]
    assert footprints["items"] == 1
    assert footprints["grids"] == {"2": "90,46,1", "0.5": "363,185,1", "0.125": "1452,740,1"}


def test_a_footprint_counts_once_in_its_newest_version(container: Container, compact: Compact) -> None:
    container.archive(item("a", properties={"updated": "2020-01-01T00:00:00Z"}))
    container.archive(item("a", properties={"updated": "2021-01-01T00:00:00Z"}, bbox=[9, 9, 9, 9]), shard="s2")
    assert cells(compact("s1", "s2").report, "2") == {(8, 8): 1}


def test_footprints_everywhere_keep_the_report_small(container: Container, compact: Compact) -> None:
    spots = [(x * 7 % 360 - 180, x * 11 % 179 - 90) for x in range(6000)]
    globe = item("globe", bbox=[-180, -90, 180, 90], geometry=None)
    container.archive(globe, *(item(f"i{x}-{y}-{n}", bbox=[x, y, x + 1, y + 1]) for n, (x, y) in enumerate(spots)))
    done = compact()
    grids = done.report["footprints"]["grids"]
    assert {degrees: len(grid.split()) for degrees, grid in grids.items()} == {"2": 16_200}
    assert len(done.container.blobs[f"{PARQUET}/compaction.json"]) < 250_000


def test_a_collection_that_memory_does_not_suffice_for_is_told_with_what_to_set(
    container: Container, compact: Compact
) -> None:
    container.archive(*(item(str(number)) for number in range(2000)))
    finished = compact(command=CRAMPED).finished
    assert finished.returncode == 5
    assert re.search(
        r"the files of c take more memory than there is \(Out of Memory Error: .*\): harvest it in shorter intervals, "
        r"or set fewer pool_task_slots or a larger pool_vm_size\n$",
        finished.stderr,
    ), finished.stderr
