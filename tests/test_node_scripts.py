"""The scripts that list collections on a node, and the probe: the same promises for both runtimes."""

import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from email.utils import formatdate
from pathlib import Path

import pytest
from hostile_text import HOSTILE
from node_scripts import (
    CLIENT_ID,
    HURRY,
    SCRIPTS,
    Answer,
    Server,
    environment,
    list_collections,
    page,
    run,
    serving,
    stand_in,
    tool_folder,
)

Run = Callable[..., subprocess.CompletedProcess[str]]
RUNTIMES = ("python", "bash", "bash with az")


@pytest.fixture
def server() -> Iterator[Server]:
    with serving() as running:
        yield running


@pytest.fixture(params=RUNTIMES)
def listing(request: pytest.FixtureRequest, server: Server, tmp_path: Path) -> Run:
    """Runs the script of one runtime against the server, without waiting between attempts."""
    if request.param == "bash with az":
        answer = 'echo "$*" >>az.log; [[ $1 == login && $4 == --client-id ]] || echo secret-of-az'
        stand_in(tool_folder(tmp_path / "bin", "python3"), "az", answer)
    runtime = request.param.removesuffix(" with az")
    return lambda **changes: list_collections(runtime, tmp_path, environment(server, **changes))


def counting(matched: int, *ids: str) -> Answer:
    """A page of collections that says how many there are."""
    return Answer(body=json.dumps({**json.loads(page(*ids).body), "numberMatched": matched}))


def ids(finished: subprocess.CompletedProcess[str]) -> list[str]:
    """The ids in a printed document."""
    assert finished.returncode == 0, finished.stderr
    return [collection["id"] for collection in json.loads(finished.stdout)["collections"]]


def test_every_page_is_listed_in_order(listing: Run, server: Server) -> None:
    server.answers = [page("b", then="{origin}/stac/collections?token=2"), page("a", "c")]
    assert ids(listing()) == ["b", "a", "c"]
    assert server.asked[1] == "/stac/collections?token=2&api-version=2026-04-15&sign=false"


def test_a_relative_next_link_keeps_its_own_api_version(listing: Run, server: Server) -> None:
    server.answers = [page("a", then="?api-version=2025-04-30-preview&token=2"), page("b")]
    assert ids(listing()) == ["a", "b"]
    assert server.asked[1] == "/stac/collections?api-version=2025-04-30-preview&token=2&sign=false"


def test_no_page_is_asked_for_with_signed_assets(listing: Run, server: Server) -> None:
    server.answers = [page("a", then="?token=2"), page("b", then="?token=3&sign=false"), page("c")]
    assert ids(listing()) == ["a", "b", "c"]
    assert [asked.count("sign=false") for asked in server.asked] == [1, 1, 1]


def test_an_empty_page_with_a_next_link_goes_on(listing: Run, server: Server) -> None:
    server.answers = [page(then="/stac/collections?token=2"), page("a")]
    assert ids(listing()) == ["a"]


def test_an_empty_catalog_is_an_empty_list(listing: Run, server: Server) -> None:
    server.answers = [page()]
    assert ids(listing()) == []


def test_a_collection_that_comes_twice_counts_as_it_came_last(listing: Run, server: Server) -> None:
    late = '{"collections": [{"type": "Collection", "id": "a", "title": "late"}]}'
    server.answers = [page("a", "b", then="/stac/collections?token=2"), Answer(body=late)]
    finished = listing()
    assert ids(finished) == ["a", "b"]
    assert json.loads(finished.stdout)["collections"][0]["title"] == "late"


def test_fewer_collections_than_the_catalog_counts_are_asked_for_again(listing: Run, server: Server) -> None:
    server.answers = [counting(3, "a", "b"), counting(3, "a", "b", "c")]
    assert ids(listing()) == ["a", "b", "c"]
    assert server.asked[1] == f"{server.asked[0]}&limit=3"


def test_fewer_collections_than_the_catalog_counts_twice_end_with_5(listing: Run, server: Server) -> None:
    server.answers = [counting(25, "a", "b")]
    finished = listing()
    assert (finished.returncode, finished.stdout, len(server.asked)) == (5, "", 2)
    assert "2 collections came and numberMatched is 25, also when asked again" in finished.stderr.splitlines()[-1]


@pytest.mark.parametrize("matched", ["1e999", "9" * 5000])
def test_a_count_beyond_all_numbers_is_not_passed_over(listing: Run, server: Server, matched: str) -> None:
    server.answers = [Answer(body=f'{{"collections": [{{"id": "a"}}], "numberMatched": {matched}}}')]
    assert listing().returncode == 5


def test_a_collection_that_was_deleted_meanwhile_is_no_difference(listing: Run, server: Server) -> None:
    server.answers = [counting(3, "a", "b"), counting(2, "a", "b")]
    assert ids(listing()) == ["a", "b"]


@pytest.mark.parametrize("matched", ["0", "1", "2", "null", '"2"', "true", "[]", "-1"])
def test_a_count_that_says_nothing_more_is_passed_over(listing: Run, server: Server, matched: str) -> None:
    server.answers = [Answer(body=f'{{"collections": [{{"id": "a"}}, {{"id": "b"}}], "numberMatched": {matched}}}')]
    assert ids(listing()) == ["a", "b"]
    assert len(server.asked) == 1


def test_an_id_that_a_page_has_twice_counts_twice(listing: Run, server: Server) -> None:
    server.answers = [counting(3, "a", "b", "a")]
    assert ids(listing()) == ["a", "b"]
    assert len(server.asked) == 1


def test_collections_are_passed_on_whether_they_can_be_read_or_not(listing: Run, server: Server) -> None:
    odd = [
        '{"x": NaN}',
        '{"type": "Catalog", "id": "a"}',
        '{"id": 7}',
        '{"id": "\\ud800"}',
        '{"id": "b", "x": "\\u0000"}',
    ]
    server.answers = [Answer(body=f'{{"collections": [], "collections": [{", ".join(odd)}], "links": null}}')]
    finished = listing()
    assert finished.returncode == 0, finished.stderr
    assert finished.stdout == '{"collections": [' + ",\n".join(odd) + "]}\n"


def test_unicode_arrives_as_it_was_sent(listing: Run, server: Server) -> None:
    server.answers = [Answer(body='{"collections": [{"type": "Collection", "id": "Köln \\u65e5本 🛰"}]}')]
    assert ids(listing()) == ["Köln 日本 🛰"]


def test_pages_that_run_in_a_circle_end_with_5(listing: Run, server: Server) -> None:
    server.answers = [page("a", then="/stac/collections?token=2")]
    finished = listing()
    assert (finished.returncode, finished.stdout) == (5, "")
    assert "circle" in finished.stderr


def test_a_next_link_to_another_server_gets_no_token(listing: Run, server: Server) -> None:
    with serving() as other:
        other.answers = [page("stolen")]
        server.answers = [page("a", then=f"{other.origin}/stac/collections")]
        assert listing().returncode == 5
        assert other.asked == []


@pytest.mark.parametrize(
    "href", ["http://127.0.0.1@evil.invalid/", "//evil.invalid/", "ftp://evil.invalid/x", "https:/"]
)
def test_a_disguised_next_link_is_not_followed(listing: Run, server: Server, href: str) -> None:
    server.answers = [page("a", then=href)]
    finished = listing()
    assert (finished.returncode, len(server.asked)) == (5, 1), finished.stderr


def test_a_redirect_is_not_followed(listing: Run, server: Server) -> None:
    server.answers = [Answer(302, "", {"Location": "/elsewhere"})]
    assert listing().returncode == 5
    assert len(server.asked) == 1


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504])
def test_a_transient_status_is_tried_again(listing: Run, server: Server, status: int) -> None:
    server.answers = [Answer(status, "{}", {"Retry-After": "1"}), page("a")]
    assert ids(listing()) == ["a"]


def test_a_torn_answer_is_asked_for_again(listing: Run, server: Server) -> None:
    server.answers = [Answer(torn=True), page("a")]
    assert ids(listing()) == ["a"]


def test_ten_attempts_are_made_before_6(listing: Run, server: Server) -> None:
    server.answers = [Answer(503, "busy")]
    finished = listing()
    assert (finished.returncode, len(server.asked)) == (6, 10)
    assert "503 busy" in finished.stderr


@pytest.mark.parametrize("wish", ["86400", formatdate(4e9, usegmt=True)])
def test_a_wait_beyond_the_deadline_ends_at_once(listing: Run, server: Server, wish: str) -> None:
    server.answers = [Answer(429, "{}", {"Retry-After": wish})]
    assert listing().returncode == 6
    assert len(server.asked) == 1


def test_a_401_renews_the_token_once(listing: Run, server: Server) -> None:
    server.answers = [Answer(401), page("a")]
    assert ids(listing()) == ["a"]
    assert server.tokens[0] != server.tokens[1]


def test_a_second_401_ends_with_4(listing: Run, server: Server) -> None:
    server.answers = [Answer(401, "expired")]
    finished = listing()
    assert (finished.returncode, len(server.asked)) == (4, 2)
    assert "GEOCATALOG_SCOPE" in finished.stderr


def test_a_403_names_role_and_identity(listing: Run, server: Server) -> None:
    server.answers = [Answer(403, '{"error": {"code": "AuthorizationFailed"}}')]
    finished = listing()
    assert (finished.returncode, finished.stdout) == (4, "")
    assert all(
        word in finished.stderr for word in ("GeoCatalog Reader", CLIENT_ID, server.origin, "AuthorizationFailed")
    )


def test_a_404_says_how_the_address_should_end(listing: Run, server: Server) -> None:
    server.answers = [Answer(404, "{}")]
    finished = listing()
    assert finished.returncode == 5
    assert "ends before /stac" in finished.stderr


@pytest.mark.parametrize(
    "body",
    [
        "<html>Sign in</html>",
        "",
        "[]",
        '{"features": []}',
        '{"collections": {}}',
        '{"collections": ["a"]}',
        '{"collections": [',
        '{"collections": [], "links": [{"rel": "next"',
    ],
)
def test_what_is_no_stac_answer_ends_with_5(listing: Run, server: Server, body: str) -> None:
    server.answers = [Answer(body=body)]
    finished = listing()
    assert (finished.returncode, finished.stdout) == (5, "")


def test_a_token_in_an_error_message_is_left_out(listing: Run, server: Server) -> None:
    server.answers = [Answer(418, f"{'x' * 480} {{token}} {'x' * 100_000}")]
    assert listing().returncode == 5


@pytest.mark.parametrize(
    "changes",
    [
        {"GEOCATALOG_URL": ""},
        {"GEOCATALOG_API_VERSION": ""},
        {"AZURE_CLIENT_ID": ""},
        {"GEOCATALOG_URL": "http://catalog.example.com"},
        {"GEOCATALOG_URL": "https://user@catalog.example.com"},
        {"GEOCATALOG_URL": "catalog.example.com"},
    ],
)
def test_a_wrong_environment_ends_with_2(listing: Run, server: Server, changes: dict[str, str]) -> None:
    finished = listing(**changes)
    assert (finished.returncode, finished.stdout, server.asked) == (2, "", [])
    assert len(finished.stderr.splitlines()) == 1


def test_a_server_that_is_away_ends_with_6(listing: Run) -> None:
    finished = listing(GEOCATALOG_URL="http://127.0.0.1:1")
    assert finished.returncode == 6
    assert "after 10 of 10 attempts" in finished.stderr


@pytest.mark.parametrize("listing", RUNTIMES[:2], indirect=True)
def test_a_throttled_identity_endpoint_is_asked_again(listing: Run, server: Server) -> None:
    server.answers = [page("a")]
    server.token_answers = [Answer(429, "{}")]
    assert ids(listing()) == ["a"]


@pytest.mark.parametrize("listing", RUNTIMES[:2], indirect=True)
def test_no_identity_ends_with_3(listing: Run, server: Server) -> None:
    finished = listing(AZURE_CLIENT_ID="99999999-0000-0000-0000-000000000000")
    assert (finished.returncode, server.asked) == (3, [])
    assert "user-assigned identity" in finished.stderr


@pytest.mark.parametrize("listing", ["bash with az"], indirect=True)
def test_az_gives_the_token_where_it_is_there(listing: Run, server: Server, tmp_path: Path) -> None:
    server.answers = [page("a")]
    assert ids(listing()) == ["a"]
    assert server.tokens == ["Bearer secret-of-az"]
    assert f"login --identity --client-id {CLIENT_ID} --allow-no-subscriptions" in (tmp_path / "wd/az.log").read_text()


@pytest.mark.parametrize("listing", ["bash with az"], indirect=True)
def test_the_identity_endpoint_helps_where_az_fails(listing: Run, server: Server, tmp_path: Path) -> None:
    stand_in(tmp_path / "bin", "az", "exit 1")
    server.answers = [page("a")]
    assert ids(listing()) == ["a"]
    assert server.tokens == ["Bearer secret-1"]


def test_numbers_are_not_rewritten(listing: Run, server: Server) -> None:
    one = '{"type":"Collection","id":"a", "n":[12345678901234567890123, 1.10, 1E400, -0.0],"a":{"]":"}"}}'
    server.answers = [Answer(body=f'{{"links": [], "numberMatched": 1, "collections" : [ {one} ] }}')]
    assert one in listing().stdout


def test_the_python_script_runs_isolated_in_an_empty_folder(server: Server, tmp_path: Path) -> None:
    server.answers = [page("a")]
    command = [sys.executable, "-I", str(SCRIPTS / "list_collections.py")]
    assert ids(run(command, tmp_path, environment(server))) == ["a"]


def probe(server: Server, folder: Path) -> tuple[int, dict[str, str]]:
    """Run the probe; its exit code and what it printed."""
    variables = environment(server, PROBE_RESULT_URL=f"{server.origin}/account/results/probe/1.json")
    finished = run([sys.executable, "-I", "-c", HURRY, str(SCRIPTS / "probe.py")], folder, variables)
    assert "secret-" not in finished.stdout + finished.stderr
    return finished.returncode, json.loads(finished.stdout)


def test_the_probe_writes_and_reads(server: Server, tmp_path: Path) -> None:
    server.answers = [Answer(201, ""), page("a")]
    assert probe(server, tmp_path) == (0, {"client_id": CLIENT_ID, "storage": "ok", "geocatalog": "ok"})
    assert server.asked[1] == "/stac/collections?limit=1&api-version=2026-04-15"
    assert json.loads(server.bodies[0])["client_id"] == CLIENT_ID


def test_the_probe_tells_which_grant_is_missing(server: Server, tmp_path: Path) -> None:
    refusal = Answer(403, "", {"x-ms-error-code": "AuthorizationPermissionMismatch"})
    server.answers = [refusal, Answer(503, "busy")]
    code, answers = probe(server, tmp_path)
    assert code == 10
    assert answers["storage"] == "403 AuthorizationPermissionMismatch"
    assert answers["geocatalog"] == "503 busy"


def test_the_probe_tells_other_failures_apart(server: Server, tmp_path: Path) -> None:
    server.answers = [Answer(404, "", {"x-ms-error-code": "ContainerNotFound"}), page("a")]
    assert probe(server, tmp_path)[0] == 5


@pytest.mark.parametrize("listing", ["bash"], indirect=True)
def test_a_token_whose_answer_was_cut_short_is_in_no_message(listing: Run, server: Server, tmp_path: Path) -> None:
    tools = tool_folder(tmp_path / "bin", "python3")
    curl = (tools / "curl").resolve()
    (tools / "curl").unlink()
    stand_in(tools, "curl", f'exec {curl} "$@" --retry 0')  # its pauses cannot be hurried
    server.token_answers = [Answer(body='{"access_token": "secret-1', torn=True)] * 6
    finished = listing()
    assert finished.returncode == 3
    assert '"access_token": "(token)' in finished.stderr


def test_nothing_that_a_terminal_obeys_gets_into_the_log(server: Server, listing: Run) -> None:
    said = "".join(text for text in HOSTILE.values() if not text.isprintable()).replace("\ud800", "")
    server.answers = [Answer(503, said), Answer(418, said)]
    done = listing()
    assert done.returncode == 5
    assert "31mred" in done.stderr
    assert not re.search(r"[\0-\x09\x0b-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff]", done.stderr)
    assert all(line.startswith("list_collections: ") for line in done.stderr.splitlines() if "warning:" not in line)
