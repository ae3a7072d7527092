"""The picture of an item harvest: true to the reports of the nodes, small, and never in a harvest's way."""

import base64
import io
import logging
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from flow_runs import Site, running_site
from PIL import Image
from prefect.client.orchestration import get_client
from prefect.client.schemas.sorting import ArtifactSort

from spatiobatch.manifest import CollectionTotals, Cost, Harvest, Manifest
from spatiobatch.query import query_from
from tasks.compaction import Compaction, Footprints, MonthFile
from tasks.picture.density import density_of
from tasks.picture.page import draw, png, svg
from tasks.picture.timeline import timeline_of
from tasks.picture.words import words_of

EVERYWHERE = " ".join(f"{column},{row},{1 + column * row % 977}" for column in range(180) for row in range(90))


def compaction(months: dict[str, int], grids: dict[float, str] | None = None, *, exceptions: int = 0) -> Compaction:
    """What a node tells of so many items by month."""
    files = {
        month: MonthFile(rows=items, exceptions=exceptions, duplicates=7, bytes=1) for month, items in months.items()
    }
    footprints = Footprints(items=sum(months.values()) if grids else 0, grids=grids or {})
    told = {"exceptions": (), "exceptions_count": 0, "converted": {}, "footprints": footprints}
    return Compaction.model_validate({"collection": "c", "files": files, **told})


def manifest(*names: str, **query: object) -> Manifest:
    """The manifest of a harvest of these collections."""
    moment = datetime(2026, 11, 24, tzinfo=UTC)
    return Manifest(
        harvest_id="20261124T000000Z-0123456789ab",
        complete=True,
        verified=True,
        query=query_from(content="items", **query),
        collections={name: CollectionTotals(items=1) for name in names},
        started=moment,
        finished=moment,
        cost=Cost(node_seconds=1),
    )


def drawn(compactions: dict[str, Compaction]) -> tuple[str, bytes]:
    """The picture as SVG, and as PNG of at most 67,000 bytes."""
    density = density_of(report.footprints for report in compactions.values())
    figure = draw(words_of(manifest(*compactions), compactions), density, timeline_of(compactions))
    return svg(figure).decode(), png(figure, 67_000)


def test_cells_of_several_collections_add_up_on_the_finest_grid_that_all_have() -> None:
    fine = Footprints(items=2, grids={2: "90,45,2", 0.5: "360,180,1 361,180,1"})
    coarse = Footprints(items=3, grids={2: "90,45,3 91,45,1"})
    together = density_of([fine, coarse, Footprints()])
    assert together is not None
    assert (together.degrees, together.items) == (2, {(90, 45): 5, (91, 45): 1})


def test_cells_stay_large_enough_to_be_seen() -> None:
    spread = Footprints(items=2, grids={2: "0,45,1 90,45,1", 0.125: "0,720,1 1440,720,1"})
    near = Footprints(items=2, grids={2: "88,45,1 90,45,1", 0.125: "1409,720,1 1440,720,1"})
    sizes = [density.degrees for footprints in (spread, near) if (density := density_of([footprints]))]
    assert sizes == [2, 0.125]


def test_a_region_across_the_antimeridian_is_shown_as_one() -> None:
    density = density_of([Footprints(items=2, grids={2: "178,40,1 1,40,1"})])
    assert density is not None
    assert density.extent == (176, -10, 184, -8)
    assert not density.worldwide
    assert [box[0] for box in density.boxes(west=170)] == [176, 182]


def test_the_timeline_counts_every_item_once() -> None:
    timeline = timeline_of({"a": compaction({"2024-01": 3, "2024-03": 1, "undated": 5}, exceptions=2)})
    assert timeline.unit == "month"
    assert timeline.series == {"a": {2024 * 12: 5, 2024 * 12 + 2: 3}}


@pytest.mark.parametrize(
    ("last", "unit"), [("2014-12", "month"), ("2015-01", "year"), ("2200-01", "decade"), ("9999-12", "century")]
)
def test_many_months_become_years_or_more(last: str, unit: str) -> None:
    timeline = timeline_of({"a": compaction({"2000-01": 1, last: 1})})
    assert timeline.unit == unit
    assert timeline.series["a"].total() == 2


def test_collections_beyond_a_handful_share_a_colour() -> None:
    series = timeline_of({f"c{size:02}": compaction({"2024-01": size}) for size in range(1, 21)}).series
    assert [*series] == ["c20", "c19", "c18", "c17", "c16", "c15", "14 others"]
    assert series["14 others"].total() == sum(range(1, 15))


def test_every_collection_is_in_the_legend_whatever_its_name() -> None:
    reports = {name: compaction({"2024-01": 3}) for name in ("_hidden", "$x$", "\x1b[31m")}
    figure = draw(words_of(manifest(*reports), reports), None, timeline_of(reports))
    (legend,) = [axes.get_legend() for axes in figure.axes]
    assert {text.get_text().strip() for text in legend.get_texts()} == {"_hidden", "$x$", r"\x1b[31m"}


def test_what_is_on_neither_map_nor_timeline_is_said() -> None:
    reports = {"a": compaction({"2024-01": 3, "undated": 2}, {2: "1,1,5"}), "b": compaction({"2024-01": 4})}
    words = words_of(manifest("a", "b", datetime="2024-01-01/2025-01-01", bbox="-10,35,5,44"), reports)
    assert words.title == "2 items in 2 collections"
    assert words.subtitle.split("  ·  ") == [
        "harvested 2026-11-24",
        "a, b",
        "2024-01-01T00:00:00Z/2025-01-01T00:00:00Z",
        "-10,35,5,44",
    ]
    assert words.notes == ("Not on the map: 4 without a usable footprint.  Not in the timeline: 2 without a date.")


def test_the_largest_picture_fits_an_artifact_and_stays_readable() -> None:
    months = {f"{year}-{month:02}": year + month for year in range(1970, 2020) for month in range(1, 13)}
    content, image = drawn({f"collection-{n:03}": compaction(months, {2: EVERYWHERE}) for n in range(100)})
    assert len(image) <= 67_000
    with Image.open(io.BytesIO(image)) as picture:
        assert picture.width >= 900
    assert len(content) < 2_000_000


@pytest.mark.parametrize(
    "reports",
    [
        pytest.param({"naip": compaction({"2024-01": 3}, {2: "40,65,3", 0.5: "160,260,3"})}, id="region"),
        pytest.param({"all": compaction({"2024-01": 3}, {2: EVERYWHERE})}, id="globe"),
        pytest.param({"south": compaction({"2024-01": 3}, {2: "179,0,3 0,1,60"})}, id="pole"),
        pytest.param({"nowhere": compaction({"2024-01": 3})}, id="without geometry"),
        pytest.param({"undated": compaction({"undated": 3}, {2: "40,65,3"})}, id="without dates"),
        pytest.param({"$x_$<b>\x00北京&": compaction({"0001-01": 3}, {2: "40,65,3"})}, id="odd name"),
    ],
)
def test_the_file_opens_by_itself_and_loads_nothing(reports: dict[str, Compaction]) -> None:
    content, image = drawn(reports)
    assert content.count("<path") > 10
    targets = re.findall(r"""(?:href|src)\s*=\s*["']([^"']*)|url\(([^)]*)\)|@import\s*([^;]*)""", content)
    assert all(target.startswith(("#", "data:image/png;")) for found in targets for target in found if target)
    assert "<script" not in content
    with Image.open(io.BytesIO(image)) as picture:
        assert len(picture.convert("RGB").getcolors(1 << 24) or []) > 5


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory, prefect_server: None) -> Iterator[Site]:
    """An environment before the demo catalog, where the picture of one query cannot be stored."""
    folder = tmp_path_factory.mktemp("site")
    refused = "service=blob,method=PUT,path=picture.svg,status=403,after=1,times=inf"
    flags = ("--demo-items", "120", "--clock", "instant", "--fault", refused)
    with running_site(folder, *flags, resource_group="picture", requests_per_second="200") as site:
        site.provision()
        yield site


@pytest.fixture(scope="module")
def whole(built: Site, tmp_path_factory: pytest.TempPathFactory) -> tuple[Harvest, Path]:
    """The first harvest, and its folder in the output."""
    harvest = built.harvest(query_from(content="items"), output=tmp_path_factory.mktemp("whole"))
    assert harvest.output is not None
    return harvest, harvest.output.parent


def artifact(key: str) -> str:
    """The newest artifact of a key."""
    with get_client(sync_client=True) as client:
        found = client.read_artifacts(sort=ArtifactSort.CREATED_DESC)
    return next(str(each.data) for each in found if each.key == key)


def test_a_harvest_keeps_its_picture_in_the_archive_before_the_manifest(
    built: Site, whole: tuple[Harvest, Path]
) -> None:
    harvest, folder = whole
    assert (folder / "picture.svg").read_text().startswith("<?xml")
    root = f"harvests/{harvest.manifest.harvest_id}"
    written = [write.split("?")[0] for write in built.writes() if root in write]
    kept = [name for write in written if (name := write.rpartition("/")[2]) in ("picture.svg", "manifest.json")]
    assert kept == ["picture.svg", "manifest.json"]


def test_the_picture_is_an_artifact_and_the_summary_names_its_file(whole: tuple[Harvest, Path]) -> None:
    harvest, _ = whole
    image = artifact(f"{harvest.artifact}-picture")
    assert len(image) < 90_000
    kind, _, content = image.partition(",")
    assert kind == "data:image/png;base64"
    assert base64.b64decode(content).startswith(b"\x89PNG")
    assert f"`harvests/{harvest.manifest.harvest_id}/picture.svg`" in artifact(harvest.artifact)


def test_a_picture_that_fails_costs_a_warning_and_no_harvest(
    built: Site, whole: tuple[Harvest, Path], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        harvest = built.harvest(query_from(content="items", collections=("aerial-strips",)), output=tmp_path)
    assert harvest.manifest.complete
    assert harvest.output is not None
    assert not (harvest.output.parent / "picture.svg").exists()
    assert "picture" not in artifact(harvest.artifact)
    assert "goes on without a picture" in caplog.text


def test_a_harvest_of_nothing_has_no_picture(built: Site, tmp_path: Path) -> None:
    harvest = built.harvest(query_from(content="items", datetime="1900-01-01/1901-01-01"), output=tmp_path)
    assert harvest.manifest.complete
    assert list(tmp_path.rglob("picture.svg")) == []
