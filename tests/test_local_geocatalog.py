"""The local GeoCatalog: who is let in, what can be searched, and what stands behind the door."""

import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import cql2
import pytest
import requests
from stac_session import API_VERSION, StacSession, grant, reader, token

ADMINISTRATOR_ROLE = "c9c97b9c-105d-4bb5-a2a7-7d15666c2484"


@pytest.fixture(scope="module")
def stac(shared_azure: dict[str, str]) -> Iterator[StacSession]:
    with reader(shared_azure) as session:
        yield session


def error_code(answer: requests.Response) -> str:
    return str(answer.json()["error"]["code"])


def test_operator_has_no_right_on_the_catalog(start_azure: Callable[..., dict[str, str]]) -> None:
    settings = start_azure("--demo-items", "1")
    with StacSession(settings, token(settings)) as session:
        answer = session.get("/collections")
        assert (answer.status_code, error_code(answer)) == (403, "AuthorizationFailed")


def test_call_without_a_token_is_401(stac: StacSession) -> None:
    answer = stac.get("/collections", headers={"Authorization": None})
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"].startswith("Bearer")


def test_token_for_another_service_is_401(stac: StacSession, shared_azure: dict[str, str]) -> None:
    foreign = token(shared_azure, "https://management.azure.com/.default")
    assert stac.get("/collections", headers={"Authorization": f"Bearer {foreign}"}).status_code == 401


def test_unknown_api_version_is_400(stac: StacSession) -> None:
    answer = stac.get("/collections", params={"api-version": "2020-01-01"})
    assert (answer.status_code, error_code(answer)) == (400, "InvalidApiVersionParameter")


@pytest.mark.parametrize("version", ["", API_VERSION, "2025-04-30-preview"])
def test_known_api_versions_and_none_pass(stac: StacSession, version: str) -> None:
    assert stac.get("/collections", params={"api-version": version}).ok


def test_reader_may_not_write(stac: StacSession) -> None:
    answer = stac.post("/collections", json={"id": "new"})
    assert (answer.status_code, error_code(answer)) == (403, "AuthorizationFailed")


def test_route_that_is_not_there_is_501(start_azure: Callable[..., dict[str, str]]) -> None:
    settings = start_azure("--demo-items", "1")
    grant(settings, ADMINISTRATOR_ROLE)
    with StacSession(settings, token(settings)) as session:
        assert session.post("/collections", json={"id": "new"}).status_code == 501
        assert session.get(settings["LOCAL_AZURE_GEOCATALOG_URL"] + "/sas/token/a").status_code == 501


def test_calls_beyond_the_rate_are_429_with_retry_after(start_azure: Callable[..., dict[str, str]]) -> None:
    with reader(start_azure("--geocatalog-rate", "3", "--demo-items", "1")) as session:
        answers = [session.get("/conformance") for _ in range(10)]
    refused = [answer for answer in answers if answer.status_code == 429]
    assert [answer.status_code for answer in answers[:3]] == [200] * 3
    assert refused
    assert int(refused[0].headers["retry-after"]) >= 1


def test_landing_page_links_to_the_search(stac: StacSession) -> None:
    links = {link["rel"]: link["href"] for link in stac.get("").json()["links"]}
    assert links["search"] == f"{stac.root}/search"
    assert links["root"] == f"{stac.root}/"


def test_landing_page_leads_to_the_description_of_the_service(stac: StacSession) -> None:
    (link,) = [link for link in stac.get("").json()["links"] if link["rel"] == "service-desc"]
    answer = stac.get(link["href"], params={"api-version": API_VERSION})
    assert "/stac/search" in answer.json()["paths"]
    assert answer.headers["content-type"] == link["type"]


def test_conformance_names_filter_sort_and_fields(stac: StacSession) -> None:
    classes = " ".join(stac.get("/conformance").json()["conformsTo"])
    assert all(name in classes for name in ("item-search#filter", "item-search#sort", "item-search#fields"))


def test_queryables_are_a_schema(stac: StacSession) -> None:
    assert "datetime" in stac.get("/queryables").json()["properties"]
    assert "datetime" in stac.get("/collections/optical-scenes/queryables").json()["properties"]
    assert stac.get("/collections/none/queryables").status_code == 404


def test_unknown_collection_and_item_are_404(stac: StacSession) -> None:
    for path in ("/collections/none", "/collections/none/items", "/collections/optical-scenes/items/none"):
        answer = stac.get(path)
        assert (answer.status_code, answer.json()["code"]) == (404, "NotFoundError")


def test_search_of_an_unknown_collection_is_empty(stac: StacSession) -> None:
    assert stac.items(collections="none") == []


def test_demo_catalog_has_the_items_asked_for(stac: StacSession) -> None:
    items = stac.items(limit=250)
    assert len({item["id"] for item in items}) == len(items) == 1000
    assert all(item["properties"]["updated"] < item["properties"]["_msft:ts"] for item in items)
    assert {item["collection"] for item in items} == {"optical-scenes", "aerial-strips", "monthly-composites"}


def test_demo_catalog_is_the_same_every_time(start_azure: Callable[..., dict[str, str]], stac: StacSession) -> None:
    with reader(start_azure("--demo-items", "20")) as session:
        items = json.dumps(session.items()).replace(session.root, stac.root)
    assert json.loads(items) == stac.items(ids=",".join(item["id"] for item in json.loads(items)))


@pytest.mark.parametrize(
    "text",
    [
        "eo:cloud_cover < 25",
        "eo:cloud_cover BETWEEN 25 AND 50",
        "NOT (collection = 'aerial-strips' OR eo:cloud_cover > 60)",
        "collection IN ('aerial-strips', 'monthly-composites') AND gsd <> 100",
        "id LIKE 'optical-scenes-00000%'",
        "platform = 'aircraft' AND properties.gsd = 0.3",
    ],
)
def test_filter_finds_what_the_reference_evaluator_finds(stac: StacSession, text: str) -> None:
    expression = cql2.parse_text(text)
    expected = {item["id"] for item in stac.items(limit=1000) if expression.matches(item)}
    assert expected
    assert set(stac.ids(filter=text, limit=1000)) == expected


def test_filter_as_json_finds_the_same_as_text(stac: StacSession) -> None:
    condition = {"op": ">=", "args": [{"property": "updated"}, {"timestamp": "2024-01-01T00:00:00Z"}]}
    found = stac.ids(method="POST", filter=condition, limit=1000)
    assert found == stac.ids(filter="updated >= TIMESTAMP('2024-01-01T00:00:00Z')", limit=1000)
    assert 0 < len(found) < 1000


@pytest.mark.parametrize("name", ["datetime", "end_datetime"])
def test_temporal_operators_compare_the_property_they_are_asked_for(stac: StacSession, name: str) -> None:
    text = f"T_DURING({name}, INTERVAL('2023-01-31T00:00:00Z', '2023-12-31T00:00:00Z'))"
    found = stac.items(filter=text, collections="monthly-composites")
    shown = "start_datetime" if name == "datetime" else name
    assert found
    assert {item["properties"][shown][:7] for item in found} <= {f"2023-{month:02}" for month in range(1, 13)}
    assert all("2023-01-31" < item["properties"][shown] < "2023-12-31" for item in found)


@pytest.mark.parametrize("operator", ["t_finishedBy", "t_metBy", "t_overlappedBy", "t_startedBy"])
def test_temporal_operators_of_two_words_are_known(stac: StacSession, operator: str) -> None:
    condition = {"op": operator, "args": [{"property": "datetime"}, {"timestamp": "2024-01-01T00:00:00Z"}]}
    assert stac.post("/search", json={"filter": condition}).status_code == 200


def test_bbox_intersects_and_s_intersects_agree(stac: StacSession) -> None:
    ring = [[-10, 50], [0, 50], [0, 60], [-10, 60], [-10, 50]]
    by_box = stac.ids(bbox="-10,50,0,60", limit=1000)
    assert by_box
    assert by_box == stac.ids(filter="S_INTERSECTS(geometry, BBOX(-10,50,0,60))", limit=1000)
    shape = {"type": "Polygon", "coordinates": [ring]}
    assert by_box == stac.ids(method="POST", intersects=shape, limit=1000)
    assert by_box == stac.ids(bbox="-10,50,-1000,0,60,1000", limit=1000)


@pytest.mark.parametrize(
    "query",
    [
        {"filter": "eo:cloud_cover <"},
        {"filter": "gsd = 1 + 2"},
        {"filter": "A_CONTAINS(platform, ('a'))"},
        {"filter": "updated > TIMESTAMP('yesterday')"},
        {"datetime": "yesterday"},
        {"datetime": "2025-01-01T00:00:00Z/2024-01-01T00:00:00Z"},
        {"bbox": "1,2,3"},
        {"bbox": "0,5,1,1"},
        {"query": '{"platform": {"startsWith": "a"}}'},
        {"intersects": "{}"},
        {"limit": "0"},
        {"sortby": "it's"},
        {"query": "{"},
    ],
)
def test_bad_query_is_400(stac: StacSession, query: dict[str, str]) -> None:
    assert stac.get("/search", params=query).status_code == 400


def test_ids_are_found_across_collections(stac: StacSession) -> None:
    wanted = {"optical-scenes-0000000", "aerial-strips-0000006"}
    assert set(stac.ids(ids=",".join(wanted))) == wanted


def test_query_extension_narrows_the_search(stac: StacSession) -> None:
    cloudy = stac.items(query=json.dumps({"eo:cloud_cover": {"gte": 95}}), collections="aerial-strips")
    assert cloudy
    assert all(item["properties"]["eo:cloud_cover"] >= 95 for item in cloudy)


def test_fields_reduce_the_items(stac: StacSession) -> None:
    assert all(set(item) == {"id"} for item in stac.items(method="POST", fields={"include": ["id"]}, limit=500))
    (item,) = stac.get("/search", params={"fields": "id,properties.gsd", "limit": 1}).json()["features"]
    assert set(item) == {"id", "properties"}
    assert set(item["properties"]) == {"gsd"}
    (item,) = stac.get("/search", params={"fields": "-assets,-properties.gsd", "limit": 1}).json()["features"]
    assert "assets" not in item
    assert "gsd" not in item["properties"]
    assert "updated" in item["properties"]


def test_collections_are_paged_by_ten(start_azure: Callable[..., dict[str, str]], tmp_path: Path) -> None:
    lines = [json.dumps({"type": "Collection", "id": f"c{n:02d}", "links": []}) for n in range(23)]
    catalog = tmp_path / "catalog"
    catalog.mkdir()
    catalog.joinpath("collections.ndjson").write_text("\n".join(lines))
    with reader(start_azure("--catalog", str(catalog))) as session:
        pages = [[found["id"] for found in page["collections"]] for page in session.pages("GET", "/collections", {})]
    assert [len(page) for page in pages] == [10, 10, 3]
    assert [found for page in pages for found in page] == [f"c{n:02d}" for n in range(23)]


class _Upstream(BaseHTTPRequestHandler):
    """A STAC API that knows only its own address."""

    asked: ClassVar[list[tuple[str, dict[str, str], bytes]]] = []
    item = b'{ "id" : "a",  "links":[{"rel":"next","href":"http://untouched"}], "n": 1.50 }'

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        self.asked.append((self.path, {name.lower(): value for name, value in self.headers.items()}, body))
        next_link = {"rel": "next", "href": f"http://{self.headers['host']}/api/search?token=b", "method": "POST"}
        answer = b'{"type":"FeatureCollection","features":[%b],"links":[%b]}' % (
            self.item,
            json.dumps({**next_link, "body": {"token": "b"}}).encode(),
        )
        self.send_response(200)
        self.send_header("content-type", "application/geo+json")
        self.send_header("content-length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    do_GET = do_POST

    def log_message(self, format: str, *args: Any) -> None:
        """Stay silent."""


@pytest.fixture
def upstream() -> Iterator[str]:
    _Upstream.asked.clear()
    with ThreadingHTTPServer(("127.0.0.1", 0), _Upstream) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/api"
        server.shutdown()
        thread.join()


def test_upstream_serves_behind_the_door(start_azure: Callable[..., dict[str, str]], upstream: str) -> None:
    settings = start_azure("--stac-upstream", upstream)
    with StacSession(settings, token(settings)) as session:
        assert session.get("/search").status_code == 403
    assert _Upstream.asked == []
    with reader(settings) as session:
        answer = session.post("/search", json={"limit": 1})
    assert _Upstream.item in answer.content
    (link,) = answer.json()["links"]
    assert link["href"] == f"{session.root}/search?token=b"
    ((path, headers, body),) = _Upstream.asked
    assert path == f"/api/search?api-version={API_VERSION}"
    assert json.loads(body) == {"limit": 1}
    assert "authorization" not in headers
    assert (headers["x-forwarded-proto"], headers["x-forwarded-prefix"]) == ("https", "/stac")
    assert f"https://{headers['x-forwarded-host']}:{headers['x-forwarded-port']}/stac" == session.root


def test_upstream_that_does_not_answer_is_502(start_azure: Callable[..., dict[str, str]]) -> None:
    with reader(start_azure("--stac-upstream", "http://127.0.0.1:9")) as session:
        answer = session.get("/search")
    assert (answer.status_code, error_code(answer)) == (502, "BadGateway")
