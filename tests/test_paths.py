"""Names from the network stay in their folder, whatever they hold, and nothing is lost for its name."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from azure.storage.blob import ContainerClient
from catalogs import archived, collection
from flow_runs import Site, running_site
from prefect.logging import disable_run_logger
from world import send_as_it_is

from spatiobatch.errors import OutputError
from spatiobatch.names import path_segment
from spatiobatch.query import query_from
from tasks.archive import _save, download
from tasks.environment import read_environment

NAMES = {
    "slash": "a/b",
    "encoded slash": "a%2Fb",
    "parent": "..",
    "far up": "../../../../escaped",
    "hidden": ".hidden",
    "absolute": "/etc/escaped",
    "backslash": "..\\escaped",
    "nul": "nul\0byte",
    "line break": "line\nbreak",
    "one form": "caf\u00e9",
    "other form": "cafe\u0301",
    "right to left": "\u202egnp.exe",
    "beyond the plane": "\U0001f6f0",
    "upper case": "CASE",
    "lower case": "case",
    "reserved": "CON",
    "dot at the end": "ended.",
    "quotes": "'\"; DROP TABLE items; --",
    "sixty-four": "x" * 64,
    "thousand": "y" * 1000,
}
"""Ids that a catalog may have, for collections and items alike."""


def item(name: str, within: str) -> dict[str, Any]:
    return {
        "type": "Feature",
        "stac_version": "1.0.0",
        "id": name,
        "collection": within,
        "geometry": {"type": "Point", "coordinates": [1, 2]},
        "bbox": [1, 2, 1, 2],
        "properties": {"datetime": "2021-06-01T00:00:00Z"},
        "links": [],
        "assets": {},
    }


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory, prefect_server: None) -> Iterator[Site]:
    """An environment before a catalog in which every name is odd: each collection has an item of each name."""
    folder = tmp_path_factory.mktemp("site")
    catalog = folder / "catalog"
    catalog.mkdir()
    collections = [collection(number, id=name) for number, name in enumerate(NAMES.values())]
    _write(catalog / "collections.ndjson", collections)
    _write(catalog / "items.ndjson", [item(one, "a/b") for one in NAMES.values()])
    _write(catalog / "others.ndjson", [item("only", name) for name in NAMES.values() if name != "a/b"])
    flags = ("--catalog", str(catalog), "--clock", "instant")
    with running_site(folder, *flags, resource_group="odd", requests_per_second="300") as site:
        site.provision()
        yield site


def _write(file: Path, documents: list[dict[str, Any]]) -> None:
    file.write_text("".join(json.dumps(document) + "\n" for document in documents))


def test_catalog_of_odd_names_is_harvested_whole_and_inside_its_folder(built: Site, tmp_path: Path) -> None:
    output = tmp_path / "one" / "two" / "three" / "archive"
    harvest = built.harvest(query_from(content="items"), output=output)
    expected = {("a/b", name) for name in NAMES.values()} | {(name, "only") for name in NAMES.values() if name != "a/b"}
    assert set(archived(output)) == expected
    assert (harvest.manifest.complete, harvest.manifest.verified) == (True, True)
    assert {file for file in tmp_path.rglob("*") if file.is_file()} == {f for f in output.rglob("*") if f.is_file()}
    parquet = output / "harvests" / harvest.manifest.harvest_id / "parquet"
    assert {folder.name for folder in parquet.iterdir()} == {path_segment(name) for name in NAMES.values()}


@pytest.mark.parametrize("name", ["logs/../../../../escaped", "../escaped"])
def test_blob_whose_name_would_leave_the_output_folder_is_a_sentence(built: Site, tmp_path: Path, name: str) -> None:
    harvest = built.harvest(query_from(content="collections"))
    root = f"/results/harvests/{harvest.manifest.harvest_id}/"
    with built.environment(), disable_run_logger():
        environment = read_environment.fn(built.azure)
        token = built.azure.credential.get_token(built.azure.cloud.storage_scope).token
        headers = {"Authorization": f"Bearer {token}", "x-ms-version": "2023-11-03", "x-ms-blob-type": "BlockBlob"}
        target = urlsplit(environment.blob_endpoint).path.rstrip("/") + root + name.replace("..", "%2E%2E")
        assert send_as_it_is("PUT", environment.blob_endpoint, target, headers, b"escaped").status == 201
        with pytest.raises(OutputError, match="has no place in it"):
            download.fn(built.azure, environment, harvest.manifest.harvest_id, [], tmp_path / "deep" / "archive")
    assert not list(tmp_path.rglob("escaped"))


def test_name_that_no_file_can_bear_is_a_sentence(tmp_path: Path) -> None:
    nowhere = ContainerClient("https://127.0.0.1", "results")
    with nowhere, pytest.raises(OutputError, match="has no place in it"):
        _save(nowhere, tmp_path, "harvests/nul\0byte")
