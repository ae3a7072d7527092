"""Listings of containers and blobs.

https://learn.microsoft.com/rest/api/storageservices/list-containers2, …/list-blobs
"""

import base64
import binascii
from collections.abc import Iterable
from xml.etree import ElementTree

from starlette.responses import Response

from local_azure.blob.answers import add, xml
from local_azure.blob.call import Call, version_headers
from local_azure.blob.conditions import check_read
from local_azure.blob.leases import check_lease, lease_properties
from local_azure.clock import http_date, parse_time
from local_azure.errors import ApiError
from local_azure.store import Document

_PAGE = 5000


async def list_containers(call: Call) -> Response:
    """List Containers."""
    prefix = f"{call.account_name}/{call.query.get('prefix', '')}"
    found = {document["name"]: document for document in call.state.containers.below(prefix)}
    names, marker = _page(call, sorted(found))
    root = _root(call)
    listing = add(root, "Containers")
    for name in names:
        element = add(listing, "Container")
        add(element, "Name", name)
        properties = add(element, "Properties")
        _add_all(
            properties,
            {
                **_version(found[name]),
                **lease_properties(found[name], call.state),
                "HasImmutabilityPolicy": "false",
                "HasLegalHold": "false",
            },
        )
        _add_metadata(call, element, found[name])
    add(root, "NextMarker", marker)
    return xml(root)


async def list_blobs(call: Call) -> Response:
    """List Blobs, flat or, with a delimiter, by virtual directory."""
    check_lease(call.headers, call.container, call.state, writing=False, kind="Container")
    check_read(call.headers, call.container)
    prefix = call.query.get("prefix", "")
    below = f"{call.container_key}/"
    found = {document["name"]: document for document in call.state.blobs.below(below + prefix)}
    if "uncommittedblobs" in _included(call):
        staged = (key for key in call.state.staged_blocks if key.startswith(below + prefix))
        found.update({key[len(below) :]: {} for key in staged if key not in call.state.blobs})
    entries = _rolled_up(found, prefix, call.query.get("delimiter", ""))
    names, marker = _page(call, sorted(entries))
    root = _root(call)
    root.set("ContainerName", call.container_name)
    if "delimiter" in call.query:
        add(root, "Delimiter", call.query["delimiter"])
    listing = add(root, "Blobs")
    for name in names:
        if name in found:
            _add_blob(call, listing, name, found[name])
        else:
            add(add(listing, "BlobPrefix"), "Name", name)
    add(root, "NextMarker", marker)
    return xml(root)


def _rolled_up(names: Iterable[str], prefix: str, delimiter: str) -> set[str]:
    """Names, those that go on behind a delimiter cut after it."""
    if not delimiter:
        return set(names)
    rolled = set()
    for name in names:
        head, found, _ = name[len(prefix) :].partition(delimiter)
        rolled.add(prefix + head + found)
    return rolled


def _page(call: Call, names: list[str]) -> tuple[list[str], str]:
    """The names of the page that the marker asks for, and the marker of the next."""
    most = call.integer("maxresults", _PAGE, 1, _PAGE)
    start = _name_of(call.query["marker"]) if call.query.get("marker") else ""
    rest = [name for name in names if name >= start]
    return rest[:most], _marker(rest[most]) if len(rest) > most else ""


def _marker(name: str) -> str:
    return base64.urlsafe_b64encode(name.encode()).decode()


def _name_of(marker: str) -> str:
    try:
        return base64.urlsafe_b64decode(marker).decode()
    except (binascii.Error, UnicodeDecodeError) as error:
        raise ApiError(400, "OutOfRangeInput", "One of the request inputs is out of range: marker.") from error


def _root(call: Call) -> ElementTree.Element:
    root = ElementTree.Element("EnumerationResults")
    root.set("ServiceEndpoint", f"{call.cloud.addresses.blob}/{call.account_name}/")
    for name, element in (("prefix", "Prefix"), ("marker", "Marker"), ("maxresults", "MaxResults")):
        if name in call.query:
            add(root, element, call.query[name])
    return root


def _add_blob(call: Call, listing: ElementTree.Element, name: str, blob: Document) -> None:
    element = add(listing, "Blob")
    add(element, "Name", name)
    properties = add(element, "Properties")
    if not blob:
        _add_all(properties, {"Content-Length": "0", "BlobType": "BlockBlob"})
        return
    _add_all(
        properties,
        {
            "Creation-Time": http_date(parse_time(blob["created"])),
            **_version(blob),
            "Content-Length": str(blob["size"]),
            **blob["content"],
            "BlobType": "BlockBlob",
            "AccessTier": blob["tier"] or "Hot",
            **({} if blob["tier"] else {"AccessTierInferred": "true"}),
            **lease_properties(blob, call.state),
            "ServerEncrypted": "true",
        },
    )
    _add_metadata(call, element, blob)


def _version(document: Document) -> dict[str, str]:
    headers = version_headers(document)
    return {"Last-Modified": headers["Last-Modified"], "Etag": headers["ETag"].strip('"')}


def _add_metadata(call: Call, element: ElementTree.Element, document: Document) -> None:
    if "metadata" in _included(call):
        _add_all(add(element, "Metadata"), document["metadata"])


def _add_all(element: ElementTree.Element, values: dict[str, str]) -> None:
    for name, value in values.items():
        add(element, name, value)


def _included(call: Call) -> list[str]:
    return call.query.get("include", "").lower().split(",")
