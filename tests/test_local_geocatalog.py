"""The local GeoCatalog: who is let in, what can be searched, and what stands behind the door."""

import json
import re
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
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


def test_conformance_names_the_classes_of_the_service(stac: StacSession) -> None:
    classes = stac.get("/conformance").json()["conformsTo"]
    assert len(classes) == 15
    assert classes == stac.get("/").json()["conformsTo"]
    assert {name.partition("item-search")[2] for name in classes} == {"", "#filter", "#sort", "#fields", "#query"}


def test_queryables_are_a_schema(stac: StacSession) -> None:
    assert "datetime" in stac.get("/queryables").json()["properties"]
    assert "datetime" in stac.get("/collections/optical-scenes/queryables").json()["properties"]
    assert stac.get("/collections/none/queryables").status_code == 404


def test_unknown_collection_and_item_are_404(stac: StacSession) -> None:
    for path in ("/collections/none", "/collections/none/items", "/collections/optical-scenes/items/none"):
        answer = stac.get(path)
        assert (answer.status_code, error_code(answer)) == (404, "ResourceNotFound")
        assert answer.headers["x-ms-error-code"] == "ResourceNotFound"


@pytest.mark.parametrize("item", ["a/b", "a%2Fb", "optical-scenes-0000000/"])
def test_item_whose_id_has_a_slash_is_404(stac: StacSession, item: str) -> None:
    answer = stac.get(f"/collections/optical-scenes/items/{item}")
    assert (answer.status_code, error_code(answer)) == (404, "ResourceNotFound")


def test_search_of_an_unknown_collection_is_empty(stac: StacSession) -> None:
    assert stac.items(collections="none") == []


def test_demo_catalog_has_the_items_asked_for(stac: StacSession) -> None:
    items = stac.items(limit=250)
    assert len({item["id"] for item in items}) == len(items) == 1000
    assert all(item["properties"]["updated"] < item["_msft:ts"] for item in items)
    assert len({uuid.UUID(item["_msft:etag"]) for item in items}) == 1000
    assert not any(name.startswith("_msft:") for item in items for name in item["properties"])
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
    condition = {"op": ">=", "args": [{"property": "datetime"}, {"timestamp": "2024-01-01T00:00:00Z"}]}
    found = stac.ids(method="POST", filter=condition, limit=1000)
    assert found == stac.ids(filter="datetime >= TIMESTAMP('2024-01-01T00:00:00Z')", limit=1000)
    assert 0 < len(found) < 1000


@pytest.mark.parametrize("name", ["updated", "start_datetime", "_msft:ts", "nothing"])
def test_timestamp_beside_what_no_queryable_declares_is_500(stac: StacSession, name: str) -> None:
    condition = {"op": ">=", "args": [{"property": name}, {"timestamp": "2024-01-01T00:00:00Z"}]}
    assert stac.post("/search", json={"filter": condition}).status_code == 500


def test_time_of_change_is_compared_as_text(stac: StacSession) -> None:
    found = stac.items(filter="updated >= '2024-01-01T00:00:00'", limit=1000)
    assert 0 < len(found) < 1000
    assert all(item["properties"]["updated"] >= "2024-01-01T00:00:00" for item in found)


def test_what_stands_beside_the_properties_is_out_of_reach_of_filters_but_can_be_picked(stac: StacSession) -> None:
    condition = {"op": ">=", "args": [{"property": "_msft:ts"}, "2000-01-01T00:00:00"]}
    assert stac.post("/search", json={"filter": condition}).json()["features"] == []
    picked = {"include": ["_msft:ts", "_msft:etag"], "exclude": ["links"]}
    (item,) = stac.post("/search", json={"fields": picked, "limit": 1}).json()["features"]
    assert set(item) == {"id", "collection", "_msft:ts", "_msft:etag"}
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", item["_msft:ts"])


@pytest.mark.parametrize("name", ["datetime", "end_datetime", "updated"])
def test_temporal_operators_compare_the_range_of_an_item(stac: StacSession, name: str) -> None:
    text = f"T_DURING({name}, INTERVAL('2023-01-31T00:00:00Z', '2023-12-31T00:00:00Z'))"
    found = stac.items(filter=text, collections="monthly-composites")
    assert found
    assert all(item["properties"]["start_datetime"] > "2023-01-31" for item in found)
    assert all(item["properties"]["end_datetime"] < "2023-12-31" for item in found)


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
        {"filter": "datetime > TIMESTAMP('yesterday')"},
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
    reduced = stac.items(method="POST", fields={"include": ["bbox"], "exclude": ["links"]}, limit=500)
    assert all(set(item) == {"id", "collection", "bbox"} for item in reduced)
    (item,) = stac.get("/search", params={"fields": "properties.gsd", "limit": 1}).json()["features"]
    assert set(item) == {"id", "collection", "properties", "links"}
    assert [link["rel"] for link in item["links"]] == ["collection", "parent", "root", "self"]
    assert set(item["properties"]) == {"gsd"}
    (item,) = stac.get("/search", params={"fields": "-assets,-properties.gsd", "limit": 1}).json()["features"]
    assert "assets" not in item
    assert "gsd" not in item["properties"]
    assert "updated" in item["properties"]


def test_reduced_items_are_plain_json(stac: StacSession) -> None:
    assert stac.get("/search").headers["content-type"] == "application/geo+json"
    assert stac.get("/search", params={"fields": "id"}).headers["content-type"] == "application/json"


def test_items_of_a_collection_take_no_filter_order_and_fields(stac: StacSession) -> None:
    asked = {"filter": "eo:cloud_cover > 100", "sortby": "id", "fields": "id", "ids": "none", "limit": 1000}
    found = stac.get("/collections/aerial-strips/items", params=asked).json()["features"]
    assert found == stac.items(collections="aerial-strips", limit=1000)


def test_all_collections_are_in_one_answer(start_azure: Callable[..., dict[str, str]], tmp_path: Path) -> None:
    lines = [json.dumps({"type": "Collection", "id": f"c{n:02d}", "links": []}) for n in range(23)]
    catalog = tmp_path / "catalog"
    catalog.mkdir()
    catalog.joinpath("collections.ndjson").write_text("\n".join(lines))
    with reader(start_azure("--catalog", str(catalog))) as session:
        answer = session.get("/collections", params={"limit": 10, "offset": 5}).json()
    assert [found["id"] for found in answer["collections"]] == [f"c{n:02d}" for n in range(23)]
    assert (answer["numberMatched"], answer["numberReturned"]) == (23, 23)
    assert [link["rel"] for link in answer["links"]] == ["root", "self"]


@pytest.mark.parametrize(
    ("limit", "asked", "status", "found"),
    [("5:refuse", 5, 200, 5), ("5:refuse", 6, 400, 0), ("5:clamp", 6, 200, 5), ("10000:clamp", 20_000, 200, 20)],
)
def test_larger_pages_than_there_are_get_refused_or_cut(
    start_azure: Callable[..., dict[str, str]], limit: str, asked: int, status: int, found: int
) -> None:
    with reader(start_azure("--demo-items", "20", "--geocatalog-limit", limit)) as session:
        for answer in (
            session.get("/search", params={"limit": asked}),
            session.post("/search", json={"limit": asked}),
        ):
            assert (answer.status_code, len(answer.json().get("features", []))) == (status, found)
            assert answer.headers.get("x-ms-error-code") == (None if status == 200 else "BadRequestError")
        assert session.get("/collections/optical-scenes/items", params={"limit": asked}).status_code == status


def test_answers_take_as_long_as_they_are_told_to_but_wait_side_by_side(
    start_azure: Callable[..., dict[str, str]],
) -> None:
    with reader(start_azure("--demo-items", "1", "--geocatalog-delay-ms", "700")) as session:
        began = time.monotonic()
        with ThreadPoolExecutor(5) as threads:
            answers = list(threads.map(lambda _: session.get("/conformance"), range(5)))
        assert all(answer.elapsed.total_seconds() >= 0.7 for answer in answers)
        assert time.monotonic() - began < 5 * 0.7


def test_each_answer_has_an_id_of_its_own(stac: StacSession) -> None:
    answers = [stac.get("/conformance"), stac.get("/collections/none"), stac.get("", allow_redirects=False)]
    ids = {answer.headers["x-request-id"] for answer in answers}
    assert len(ids) == 3
    assert all(re.fullmatch("[0-9a-f]{32}", found) for found in ids)


def test_larger_answers_are_compressed_for_who_takes_that(stac: StacSession) -> None:
    large, small = stac.get("/collections"), stac.get("/collections/none")
    assert (large.headers["content-encoding"], large.headers["vary"]) == ("gzip", "Accept-Encoding")
    assert "content-encoding" not in small.headers
    plain = stac.get("/collections", headers={"Accept-Encoding": "identity"})
    assert "content-encoding" not in plain.headers
    assert plain.content == large.content


def test_landing_page_is_where_the_address_without_a_slash_sends_to(stac: StacSession) -> None:
    answer = stac.get("", allow_redirects=False)
    assert (answer.status_code, answer.content) == (307, b"")
    assert answer.headers["location"] == f"{stac.root}/?api-version={API_VERSION}"


def test_get_that_says_json_and_has_no_body_is_400(stac: StacSession) -> None:
    answer = stac.get("/collections", headers={"Content-Type": "application/json"})
    assert answer.status_code == 400
    assert answer.json() == {
        "error": {"code": "BadRequestError", "message": "Expecting Value: Line 1 Column 1 (Char 0)"}
    }


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
