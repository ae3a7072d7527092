"""`python peers.py PEER SERVER CATALOG PAGES`: what a harvest is measured beside, each a program of its own.

Each tells the page server when it has imported what it needs, as the item script does, and when it is done.
"""

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

import requests

_LIMIT = 1000
_SEARCH: dict[str, Any] = {"collections": ["strips"], "limit": _LIMIT}
_SORTED = _SEARCH | {"sortby": [{"field": name, "direction": "asc"} for name in ("datetime", "id")]}
_FILE = Path("items.ndjson")


def begin() -> None:
    """Tell the page server."""
    requests.get(f"{sys.argv[2]}/results/h/control/budget.json", timeout=60).raise_for_status()


def pages_of(catalog: str, pages: int, session: requests.Session, **narrowed: Any) -> None:
    """The bytes of all pages, whose tokens are known beforehand; nothing is looked at."""
    for number in range(pages):
        query = _SEARCH | {"token": str(number), **narrowed}
        answer = session.post(f"{catalog}/search", json=query, timeout=60)
        answer.raise_for_status()
        _ = answer.content


def download(catalog: str, pages: int) -> None:
    """The bytes of all pages."""
    begin()
    pages_of(catalog, pages, requests.Session())


def download_twice(catalog: str, pages: int) -> None:
    """The bytes of all pages, and of all pages of ids."""
    begin()
    session = requests.Session()
    pages_of(catalog, pages, session)
    pages_of(catalog, pages, session, fields={"include": ["id"]})


def follow(catalog: str, _pages: int) -> None:
    """The bytes of all pages, of which only the next link is looked at."""
    begin()
    session, query = requests.Session(), _SORTED
    while query:
        page = session.post(f"{catalog}/search", json=query, timeout=60).json()
        query = next((link["body"] for link in page["links"] if link["rel"] == "next"), {})


def pystac_dicts(catalog: str, pages: int) -> None:
    """Items as dicts, written as NDJSON."""
    from pystac_client import Client  # noqa: PLC0415

    begin()
    search = Client.open(catalog).search(collections=["strips"], limit=_LIMIT, max_items=pages * _LIMIT)
    with _FILE.open("w") as lines:
        for item in search.items_as_dicts():
            lines.write(json.dumps(item) + "\n")


def pystac_items(catalog: str, pages: int) -> None:
    """Items as objects, which are left at that."""
    from pystac_client import Client  # noqa: PLC0415

    begin()
    search = Client.open(catalog).search(collections=["strips"], limit=_LIMIT, max_items=pages * _LIMIT)
    for _ in search.items():
        pass


def rustac(catalog: str, pages: int) -> None:
    """Items written as NDJSON by rustac's own search."""
    from rustac import search_to  # noqa: PLC0415

    async def search() -> None:
        file, most = str(_FILE.absolute()), pages * _LIMIT
        await search_to(file, catalog, collections=["strips"], limit=_LIMIT, max_items=most)

    begin()
    asyncio.run(search())


if __name__ == "__main__":
    peers = {peer.__name__: peer for peer in (download, download_twice, follow, pystac_dicts, pystac_items, rustac)}
    peers[sys.argv[1]](sys.argv[3], int(sys.argv[4]))
    requests.put(f"{sys.argv[2]}/results/done", b"", timeout=60).raise_for_status()
