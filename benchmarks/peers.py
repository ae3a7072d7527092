"""`python peers.py PEER ADDRESS PAGES FOLDER`: what a harvest is measured beside, each a program of its own.

Imports are each peer's own. The upload at the end tells the page server that everything is done.
"""

import asyncio
import json
import sys
from pathlib import Path

import requests

_LIMIT = 1000


def download(address: str, pages: int, _folder: Path, *members: str) -> None:
    """The bytes of all pages, which are known beforehand; nothing is looked at."""
    session = requests.Session()
    for narrowed in ({}, {"fields": {"include": members}})[: 1 + bool(members)]:
        for number in range(pages):
            query = {"collections": ["strips"], "limit": _LIMIT, "token": str(number), **narrowed}
            answer = session.post(f"{address}/stac/search", json=query, timeout=60)
            answer.raise_for_status()
            _ = answer.content


def download_twice(address: str, pages: int, folder: Path) -> None:
    """The bytes of all pages, and of all pages of ids."""
    download(address, pages, folder, "id")


def pystac_dicts(address: str, pages: int, folder: Path) -> None:
    """Items as dicts, written as NDJSON."""
    from pystac_client import Client  # noqa: PLC0415

    search = Client.open(f"{address}/stac").search(collections=["strips"], limit=_LIMIT, max_items=pages * _LIMIT)
    with (folder / "items.ndjson").open("w") as lines:
        for item in search.items_as_dicts():
            lines.write(json.dumps(item) + "\n")


def pystac_items(address: str, pages: int, _folder: Path) -> None:
    """Items as objects, which are left at that."""
    from pystac_client import Client  # noqa: PLC0415

    search = Client.open(f"{address}/stac").search(collections=["strips"], limit=_LIMIT, max_items=pages * _LIMIT)
    for _ in search.items():
        pass


def rustac(address: str, pages: int, folder: Path) -> None:
    """Items written as NDJSON by rustac's own search."""
    from rustac import search_to  # noqa: PLC0415

    async def search() -> None:
        file, most = str(folder / "items.ndjson"), pages * _LIMIT
        await search_to(file, f"{address}/stac", collections=["strips"], limit=_LIMIT, max_items=most)

    asyncio.run(search())


if __name__ == "__main__":
    peers = {peer.__name__: peer for peer in (download, download_twice, pystac_dicts, pystac_items, rustac)}
    peers[sys.argv[1]](sys.argv[2], int(sys.argv[3]), Path(sys.argv[4]))
    requests.put(f"{sys.argv[2]}/results/done", b"", timeout=60).raise_for_status()
