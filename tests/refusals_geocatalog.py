"""Refusals of the GeoCatalog."""

import requests
from refusals import Refusal
from world import ARM, CALLS_PER_SECOND, CONTRIBUTOR, GEOCATALOG, Answer, World, send

_STAC = "https://learn.microsoft.com/rest/api/planetarycomputer"
_ACCESS = "https://learn.microsoft.com/azure/planetary-computer/manage-access"
_SIGN_IN = "https://learn.microsoft.com/azure/planetary-computer/application-authentication"
_LIMITS = "https://learn.microsoft.com/azure/planetary-computer/service-limitations"
_VERSIONS = "https://learn.microsoft.com/rest/api/azure/#api-versioning"
_READER = "b7b8f583-43d0-40ae-b147-6b46f53661c1"
_COLLECTIONS = "/collections"


def _somebody(world: World, role: str = "", scope: str = "") -> str:
    return world.somebody(role, scope).token(GEOCATALOG)


def _beyond_the_rate(world: World) -> Answer:
    token = _token(world)
    with requests.Session() as session:  # one connection: the calls have to be fast
        for _ in range(20 * CALLS_PER_SECOND):
            answer = world.stac("GET", "/conformance", by=token, session=session)
            if answer.status == 429:
                break
    return answer


_TOKENS: dict[str, str] = {}


def _token(world: World) -> str:
    """The operator's token, asked for once: the calls have to be fast."""
    return _TOKENS.setdefault(world.settings["LOCAL_AZURE_GEOCATALOG_URL"], world.operator(GEOCATALOG))


ROWS = [
    Refusal(
        "the catalog without a token",
        lambda w: send("GET", f"{w.settings['LOCAL_AZURE_GEOCATALOG_URL']}/stac/collections?api-version=2026-04-15"),
        401,
        "AuthenticationFailed",
        _SIGN_IN,
    ),
    Refusal(
        "the catalog with a token for ARM",
        lambda w: w.stac("GET", _COLLECTIONS, by=w.operator(ARM)),
        401,
        "AuthenticationFailed",
        _SIGN_IN,
    ),
    Refusal(
        "the catalog with a token that has expired",
        lambda w: w.stac("GET", _COLLECTIONS, by=w.forged(GEOCATALOG, exp=1)),
        401,
        "AuthenticationFailed",
        _SIGN_IN,
    ),
    Refusal(
        "the catalog for somebody without a role",
        lambda w: w.stac("GET", _COLLECTIONS, by=_somebody(w)),
        403,
        "AuthorizationFailed",
        _ACCESS,
    ),
    Refusal(
        "the catalog for a Contributor, who has no data action",
        lambda w: w.stac("GET", _COLLECTIONS, by=_somebody(w, CONTRIBUTOR, w.settings["LOCAL_AZURE_GEOCATALOG_ID"])),
        403,
        "AuthorizationFailed",
        _ACCESS,
    ),
    Refusal(
        "the catalog for a Reader of another catalog",
        lambda w: w.stac("GET", _COLLECTIONS, by=_somebody(w, _READER, f"{w.settings['LOCAL_AZURE_GEOCATALOG_ID']}2")),
        403,
        "AuthorizationFailed",
        _ACCESS,
    ),
    Refusal(
        "a collection that a Reader creates",
        lambda w: w.stac("POST", _COLLECTIONS, json={"id": "new"}),
        403,
        "AuthorizationFailed",
        _ACCESS,
    ),
    Refusal(
        "an item that a Reader deletes",
        lambda w: w.stac("DELETE", "/collections/any/items/any"),
        403,
        "AuthorizationFailed",
        _ACCESS,
    ),
    Refusal(
        "a collection that does not exist",
        lambda w: w.stac("GET", "/collections/nowhere"),
        404,
        "ResourceNotFound",
        f"{_STAC}/data-plane/stac",
    ),
    Refusal(
        "items of a collection that does not exist",
        lambda w: w.stac("GET", "/collections/nowhere/items"),
        404,
        "ResourceNotFound",
        f"{_STAC}/data-plane/stac",
    ),
    Refusal("more calls than the limit", _beyond_the_rate, 429, "TooManyRequests", _LIMITS),
    Refusal(
        "the catalog in an api-version that it does not have",
        lambda w: w.stac("GET", _COLLECTIONS, params={"api-version": "2020-01-01"}),
        400,
        "InvalidApiVersionParameter",
        _VERSIONS,
    ),
]
"""Every row: what is refused, the request, status, code, page."""
