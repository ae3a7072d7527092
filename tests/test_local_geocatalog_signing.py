"""The local GeoCatalog signs the addresses of assets for who asks for it."""

import json
from collections.abc import Iterator

import pytest
from catalogs import collection
from conftest import running_azure
from stac_session import StacSession, reader

STORED, ELSEWHERE = "https://scenes.blob.core.windows.net/c/a.tif", "https://example.com/a.tif"
ASSETS = {"stored": {"href": STORED}, "elsewhere": {"href": ELSEWHERE}}
FEATURE = {"type": "Feature", "id": "i", "collection": "c", "geometry": None, "assets": ASSETS, "links": []}
ITEM = {**FEATURE, "properties": {"datetime": "2024-02-29T00:00:00Z"}}


@pytest.fixture(scope="module")
def stac(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StacSession]:
    folder = tmp_path_factory.mktemp("signing")
    (folder / "collections.ndjson").write_text(json.dumps(collection(0, id="c", assets=ASSETS)) + "\n")
    (folder / "c.ndjson").write_text(json.dumps(ITEM) + "\n")
    with running_azure(folder, "--catalog", str(folder)) as settings, reader(settings) as session:
        yield session


PATHS = ["/collections", "/collections/c", "/collections/c/items", "/collections/c/items/i", "/search"]


@pytest.mark.parametrize("path", PATHS)
def test_assets_in_blob_storage_are_signed_for_who_asks_for_it(stac: StacSession, path: str) -> None:
    answer = stac.get(path, params={"sign": "true"}).text
    assert answer.count("&sig=") == 1
    assert f'"{STORED}?sv=' in answer
    assert f'"{ELSEWHERE}"' in answer


@pytest.mark.parametrize("path", PATHS)
def test_assets_are_not_signed_otherwise(stac: StacSession, path: str) -> None:
    assert "sig=" not in stac.get(path).text
    assert "sig=" not in stac.get(path, params={"sign": "false"}).text


def test_a_search_by_post_reads_the_wish_in_its_query_alone(stac: StacSession) -> None:
    assert "sig=" in stac.post("/search", json={}, params={"sign": "true"}).text
    assert "sig=" not in stac.post("/search", json={"sign": "true"}).text


def test_signing_changes_nothing_else(stac: StacSession) -> None:
    signed = stac.get("/collections/c/items/i", params={"sign": "true"}).json()
    signed["assets"]["stored"]["href"] = signed["assets"]["stored"]["href"].partition("?")[0]
    assert signed == ITEM
