"""Microsoft's own client of a GeoCatalog (azure-planetarycomputer) works with the local one as it is.

Of its operations, https://learn.microsoft.com/python/api/azure-planetarycomputer, those of the STAC API that read.
"""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from azure.core.exceptions import HttpResponseError, ResourceNotFoundError
from azure.identity import ManagedIdentityCredential
from azure.planetarycomputer import PlanetaryComputerProClient
from azure.planetarycomputer.models import (
    StacItem,
    StacItemCollection,
    StacSearchParameters,
    StacSortExtension,
)
from conftest import running_azure
from stac_session import READER_ROLE, StacSession, grant, reader

SCENES = "optical-scenes"
CLOUDY = {"op": ">", "args": [{"property": "eo:cloud_cover"}, 50]}


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    with running_azure(tmp_path_factory.mktemp("catalog"), "--demo-items", "100") as running:
        grant(running, READER_ROLE)
        yield running


@pytest.fixture
def client(settings: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Iterator[PlanetaryComputerProClient]:
    """A client of whoever the environment signs in."""
    for name in ("AZURE_POD_IDENTITY_AUTHORITY_HOST", "REQUESTS_CA_BUNDLE"):
        monkeypatch.setenv(name, settings[name])
    with (
        ManagedIdentityCredential() as credential,
        PlanetaryComputerProClient(settings["LOCAL_AZURE_GEOCATALOG_URL"], credential) as running,
    ):
        yield running


@pytest.fixture(scope="module")
def stac(settings: dict[str, str]) -> Iterator[StacSession]:
    """The same catalog, asked without that client."""
    with reader(settings) as session:
        yield session


def following(page: StacItemCollection) -> str | None:
    """The token of the next page; its link bears it in a query or in a body."""
    for link in page.links or []:
        if link.rel == "next":
            return str((link.body or {}).get("token") or parse_qs(urlsplit(link.href).query)["token"][0])
    return None


def pages(ask: Callable[[str | None], StacItemCollection]) -> Iterator[list[StacItem]]:
    page = ask(None)
    yield page.features
    while token := following(page):
        page = ask(token)
        yield page.features


def test_collections_are_those_of_the_catalog(client: PlanetaryComputerProClient, stac: StacSession) -> None:
    found = client.stac.get_collections(sign="false")
    assert [each.as_dict() for each in found.collections] == stac.get("/collections").json()["collections"]
    assert [each.id for each in found.collections] == [SCENES, "aerial-strips", "monthly-composites"]
    assert found.collections[0].extent.temporal.interval == [
        [datetime(2021, 1, 1, tzinfo=UTC), datetime(2026, 1, 1, tzinfo=UTC)]
    ]


def test_a_collection_is_found_by_its_id(client: PlanetaryComputerProClient) -> None:
    assert client.stac.get_collection(SCENES).title == "Optical scenes"


def test_items_of_a_collection_come_page_by_page(client: PlanetaryComputerProClient, stac: StacSession) -> None:
    found = list(pages(lambda token: client.stac.get_item_collection(SCENES, limit=25, token=token)))
    assert [len(page) for page in found] == [25, 25, 10]
    assert [item.id for page in found for item in page] == [item["id"] for item in stac.items(collections=SCENES)]


def test_items_are_narrowed_by_place_and_time(client: PlanetaryComputerProClient, stac: StacSession) -> None:
    narrowed = {"bbox": "-180,-60,0,75", "datetime": "2022-01-01T00:00:00Z/.."}
    found = client.stac.get_item_collection(
        SCENES, limit=100, bounding_box=narrowed["bbox"].split(","), datetime=narrowed["datetime"]
    )
    assert 0 < len(found.features) < 60
    assert [item.id for item in found.features] == stac.ids(collections=SCENES, **narrowed)


def test_an_item_is_as_the_catalog_has_it(client: PlanetaryComputerProClient, stac: StacSession) -> None:
    found = client.stac.get_item(SCENES, f"{SCENES}-0000000", sign="false")
    assert found.as_dict() == stac.get(f"/collections/{SCENES}/items/{SCENES}-0000000").json()
    assert isinstance(found.properties.created, datetime)
    assert found.assets["image"].href.endswith(".tif")


def test_a_search_filters_sorts_and_pages(client: PlanetaryComputerProClient) -> None:
    by_clouds = [StacSortExtension(field="eo:cloud_cover", direction="asc")]
    asked: dict[str, Any] = {"collections": [SCENES], "filter": CLOUDY, "filter_lang": "cql2-json"}
    found = pages(
        lambda token: client.stac.search(StacSearchParameters(**asked, sort_by=by_clouds, limit=10, token=token))
    )
    clouds = [item.properties["eo:cloud_cover"] for page in found for item in page]
    assert len(clouds) > 10
    assert clouds == sorted(cover for cover in clouds if cover > 50)


def test_a_search_takes_a_filter_without_its_language(client: PlanetaryComputerProClient) -> None:
    assert client.stac.search(StacSearchParameters(filter=CLOUDY)).features


def test_a_search_takes_ids_a_shape_and_an_interval(client: PlanetaryComputerProClient) -> None:
    item = client.stac.get_item(SCENES, f"{SCENES}-0000000")
    moment = item.as_dict()["properties"]["datetime"]
    found = client.stac.search(
        StacSearchParameters(ids=[item.id], intersects=item.geometry, date_time=f"{moment}/{moment}")
    )
    assert [each.id for each in found.features] == [item.id]


def test_fields_are_asked_for_as_stac_has_them(client: PlanetaryComputerProClient) -> None:
    # The client's model has a list of such objects. STAC has one, and stac-fastapi refuses anything else:
    # https://github.com/stac-api-extensions/fields
    fields = {"include": ["id", "properties.gsd"]}
    (item,) = client.stac.search({"collections": [SCENES], "fields": fields, "limit": 1}).features
    told = item.as_dict()
    assert told.pop("links")
    assert told == {"type": "Feature", "id": item.id, "collection": SCENES, "properties": {"gsd": 10}}


def test_queryables_name_the_moment_of_an_item(client: PlanetaryComputerProClient) -> None:
    assert "datetime" in client.stac.get_queryables()["properties"]
    assert "datetime" in client.stac.get_collection_queryables(SCENES)["properties"]


def test_the_landing_page_and_the_conformance_classes_are_read(client: PlanetaryComputerProClient) -> None:
    assert client.stac.get_landing_page().id == "geocatalog"
    assert any("item-search#sort" in name for name in client.stac.get_conformance_classes().conforms_to)


def test_what_is_not_there_is_not_found(client: PlanetaryComputerProClient) -> None:
    with pytest.raises(ResourceNotFoundError):
        client.stac.get_collection("none")
    with pytest.raises(ResourceNotFoundError):
        client.stac.get_item(SCENES, "none")


def test_the_api_version_that_it_sends_is_taken(client: PlanetaryComputerProClient) -> None:
    sent: list[str] = []
    client.stac.get_queryables(raw_response_hook=lambda answer: sent.append(answer.http_request.url))
    assert [parse_qs(urlsplit(url).query)["api-version"] for url in sent] == [["2026-04-15"]]


@pytest.mark.parametrize(
    "call",
    [
        lambda client: client.sas.get_url(href="https://a.blob.core.windows.net/c/a.tif"),
        lambda client: client.sas.get_token(SCENES),
        lambda client: client.sas.revoke_token(),
        lambda client: list(client.ingestion.list_sources()),
        lambda client: list(client.ingestion.list(SCENES)),
        lambda client: list(client.ingestion.list_operations()),
        lambda client: client.stac.get_mosaics(SCENES),
        lambda client: client.stac.get_tile_settings(SCENES),
        lambda client: client.data.get_tile_matrices(),
    ],
    ids=["sign", "token", "revoke", "sources", "ingestions", "operations", "mosaics", "tile-settings", "tiles"],
)
def test_what_the_stand_in_has_not_is_501(
    client: PlanetaryComputerProClient, call: Callable[[PlanetaryComputerProClient], Any]
) -> None:
    with pytest.raises(HttpResponseError) as refused:
        call(client)
    assert refused.value.status_code == 501
