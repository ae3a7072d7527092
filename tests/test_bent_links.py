"""A node's token goes to the server that it is for and to no other, however a link or a redirect is bent."""

import importlib.util
import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any
from urllib.parse import urlsplit

import pytest
from node_scripts import SCRIPTS, Answer, Server, environment, list_collections, page, serving
from urllib3.util import parse_url

CATALOG = "https://catalog.example.com/stac/collections?api-version=1"
FOLLOWED = [
    "https://catalog.example.com/stac/collections?token=2",
    "https://catalog.example.com:443/stac/collections?token=2",
    "HTTPS://Catalog.EXAMPLE.com/stac/collections?token=2",
    "//catalog.example.com/stac/collections?token=2",
    "/stac/collections?token=2",
    "?token=2",
    "https://catalog.example.com/stac/collections?token=2#@evil.example.net/",
    "https://catalog.example.com/stac/collections?next=https://evil.example.net/",
    "/stac/@evil.example.net/",
    "/\\evil.example.net/",
    "\\\\evil.example.net/",
    "https:///evil.example.net/",
    "/stac/\tcollections\r\n?token=2",
    "  https://catalog.example.com/stac/collections?token=2",
]
REFUSED = [
    "https://evil.example.net/stac/collections",
    "//evil.example.net/stac/collections",
    "\t//evil.example.net/",
    "/\n/evil.example.net/",
    "https://catalog.example.com@evil.example.net/",
    "https://catalog.example.com:443@evil.example.net/",
    "https://user:password@catalog.example.com/",
    "https://@catalog.example.com/",
    "https://catalog.example.com\\@evil.example.net/",
    "https://catalog.example.com\\.evil.example.net/",
    "https://evil.example.net\\@catalog.example.com/",
    "https://evil.example.net#@catalog.example.com/",
    "https://evil.example.net?@catalog.example.com/",
    "https://catalog.example.com%2f@evil.example.net/",
    "https://catalog.example.com%00.evil.example.net/",
    "https://catalog.example.com\t.evil.example.net/",
    "https://catalog.example.com .evil.example.net/",
    "https://catalog.example.com:8443/",
    "https://catalog.example.com:80/",
    "https://catalog.example.com:443443/",
    "https://catalog.example.com:x/",
    "https://catalog.example.com./",
    "https://www.catalog.example.com/",
    "https://c\u0430talog.example.com/",
    "https://xn--ctalog-3fg.example.com/",
    "https://catalog.example\u3002com/",
    "https://[::1]/",
    "https://[::ffff:127.0.0.1]/",
    "https://[bad/",
    "https://2130706433/",
    "http://catalog.example.com/stac/collections",
    "http://catalog.example.com:443/stac/collections",
    "http://169.254.169.254/metadata/identity/oauth2/token",
    "ftp://catalog.example.com/",
    "file:///etc/passwd",
    "data:application/json,{}",
    "javascript:alert(1)",
]

Follow = Callable[[str, Path], str | None]


def module(name: str) -> ModuleType:
    """A node script as a module."""
    spec = importlib.util.spec_from_file_location(f"node_{name}", SCRIPTS / f"{name}.py")
    assert spec
    assert spec.loader
    loaded = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = loaded
    spec.loader.exec_module(loaded)
    return loaded


def by_python(href: str, _: Path) -> str | None:
    """Where the Python script would go."""
    script = module("list_collections")
    try:
        return str(script.next_url({"links": [{"rel": "next", "href": href}]}, CATALOG, "1"))
    except script.Failed:
        return None


def by_bash(href: str, folder: Path) -> str | None:
    """Where the Bash script would go, by the Python in it."""
    found = re.search(r"^readonly reader='(.*?)^'", (SCRIPTS / "list_collections.sh").read_text(), re.DOTALL | re.M)
    assert found
    (folder / "page").write_text(json.dumps({"collections": [], "links": [{"rel": "next", "href": href}]}))
    command = [sys.executable, "-I", "-c", found[1], "page", str(folder / "page"), CATALOG, "1"]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert "Traceback" not in ended.stderr
    return ended.stdout.splitlines()[0] if ended.returncode == 0 else None


def by_items(href: str, _: Path) -> str | None:
    """Where the item harvester would go."""
    script = module("harvest_items")
    catalog: Any = SimpleNamespace(api_version="1")
    call = script.Call("POST", CATALOG, b'{"collections": ["c"]}')
    try:
        return str(script.Catalog.linked(catalog, call, {"rel": "next", "method": "POST", "href": href}).url)
    except (script.Failed, ValueError):
        return None


FOLLOWERS = [by_python, by_bash, by_items]


@pytest.mark.parametrize("follow", FOLLOWERS)
@pytest.mark.parametrize("href", FOLLOWED)
def test_a_link_to_the_catalog_is_followed_to_the_catalog(follow: Follow, href: str, tmp_path: Path) -> None:
    url = follow(href, tmp_path)
    assert url
    parts = parse_url(url)
    assert (parts.scheme, parts.auth, parts.host) == ("https", None, "catalog.example.com")
    assert parts.port in (None, 443)
    assert (urlsplit(url).hostname, urlsplit(url).username) == ("catalog.example.com", None)


@pytest.mark.parametrize("follow", FOLLOWERS)
@pytest.mark.parametrize("href", REFUSED)
def test_a_link_to_another_server_is_refused(follow: Follow, href: str, tmp_path: Path) -> None:
    assert follow(href, tmp_path) is None


@pytest.fixture
def server() -> Iterator[Server]:
    with serving() as running:
        yield running


@pytest.fixture
def other() -> Iterator[Server]:
    """Another server, which must be asked nothing."""
    with serving() as running:
        running.answers = [page("stolen")]
        yield running
        assert (running.asked, running.tokens) == ([], [])


BENT = [
    "{other}/",
    "//{other_host}/",
    "http://{host}@{other_host}/",
    "http://{host}\\@{other_host}/",
    "http://{host}\\\\@{other_host}/",
    "http://{host}\t@{other_host}/",
    "http://{host}%0a@{other_host}/",
    "http://{host}#@{other_host}/\\@{other_host}",
    "http://user:password@{host}/",
    "http://{localhost}/",
]


@pytest.mark.parametrize("runtime", ["python", "bash"])
@pytest.mark.parametrize("href", BENT)
def test_a_bent_link_takes_no_token_elsewhere(
    runtime: str, href: str, server: Server, other: Server, tmp_path: Path
) -> None:
    hosts = {"host": server.origin[7:], "other_host": other.origin[7:], "other": other.origin}
    link = href.format(**hosts, localhost=f"localhost:{other.server_port}")
    server.answers = [page("a", then=link), page("b")]
    finished = list_collections(runtime, tmp_path, environment(server))
    followed = href.startswith("http://{host}#")
    assert (finished.returncode, len(server.asked)) == ((0, 2) if followed else (5, 1)), finished.stderr
    assert "password" not in finished.stderr


@pytest.mark.parametrize("runtime", ["python", "bash"])
@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_takes_no_token_elsewhere(
    runtime: str, status: int, server: Server, other: Server, tmp_path: Path
) -> None:
    server.answers = [Answer(status, "", {"Location": f"{other.origin}/stac/collections"})]
    finished = list_collections(runtime, tmp_path, environment(server))
    assert (finished.returncode, len(server.asked)) == (5, 1), finished.stderr


@pytest.mark.parametrize("runtime", ["python", "bash"])
@pytest.mark.parametrize("location", ["http://[", "https:/", "http://127.0.0.1:x/", "//", "\\\\x"])
def test_a_redirect_to_nowhere_ends_in_a_sentence(runtime: str, location: str, server: Server, tmp_path: Path) -> None:
    server.answers = [Answer(302, "", {"Location": location})]
    finished = list_collections(runtime, tmp_path, environment(server))
    assert (finished.returncode, len(finished.stderr.splitlines())) == (5, 1), finished.stderr
