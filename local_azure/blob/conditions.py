"""Conditional headers.

https://learn.microsoft.com/rest/api/storageservices/specifying-conditional-headers-for-blob-service-operations
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from local_azure.clock import parse_time
from local_azure.errors import ApiError
from local_azure.store import Document

_NOT_MET = "The condition specified using HTTP conditional header(s) is not met."


def check_read(headers: Mapping[str, str], document: Document) -> None:
    """Let a read of an existing container or blob pass.

    Raises:
        ApiError: 412, or 304 when the client has this version already.
    """
    if not _expected_version(headers, document):
        raise ApiError(412, "ConditionNotMet", _NOT_MET)
    if not _new_version(headers, document):
        raise ApiError(304, "ConditionNotMet", _NOT_MET)


def check_write(headers: Mapping[str, str], document: Document | None, *, creating: bool = False) -> None:
    """Let a write pass.

    Args:
        headers: of the request.
        document: what is there; None where nothing is.
        creating: the write can create, so that `If-None-Match: *` asks for exactly that.

    Raises:
        ApiError: 412, or 409 where something is there that was to be created.
    """
    if document is None:
        if "if-match" in headers or "if-unmodified-since" in headers:
            raise ApiError(412, "ConditionNotMet", _NOT_MET)
        return
    if creating and headers.get("if-none-match") == "*":
        raise ApiError(409, "BlobAlreadyExists", "The specified blob already exists.")
    if not _expected_version(headers, document) or not _new_version(headers, document):
        raise ApiError(412, "ConditionNotMet", _NOT_MET)


def check_source(headers: Mapping[str, str], document: Document) -> None:
    """Let a copy read its source, by the `x-ms-source-if-…` headers.

    Raises:
        ApiError: 412.
    """
    prefix = "x-ms-source-"
    conditions = {name[len(prefix) :]: value for name, value in headers.items() if name.startswith(prefix)}
    if not _expected_version(conditions, document) or not _new_version(conditions, document):
        raise ApiError(
            412,
            "SourceConditionNotMet",
            "The source condition specified using HTTP conditional header(s) is not met.",
        )


def _expected_version(headers: Mapping[str, str], document: Document) -> bool:
    if "if-match" in headers and not _matches(headers["if-match"], document):
        return False
    return "if-unmodified-since" not in headers or _modified(document) <= _date(headers["if-unmodified-since"])


def _new_version(headers: Mapping[str, str], document: Document) -> bool:
    if "if-none-match" in headers:
        return not _matches(headers["if-none-match"], document)
    return "if-modified-since" not in headers or _modified(document) > _date(headers["if-modified-since"])


def _matches(tags: str, document: Document) -> bool:
    wanted = [tag.strip().removeprefix("W/").strip('"') for tag in tags.split(",")]
    return "*" in wanted or document["etag"].strip('"') in wanted


def _modified(document: Document) -> datetime:
    return parse_time(document["lastModified"]).replace(microsecond=0)


def _date(text: str) -> datetime:
    try:
        moment = parsedate_to_datetime(text)
    except ValueError as error:
        raise ApiError(
            400, "InvalidHeaderValue", f"The value {text!r} of a conditional header is not in the correct format."
        ) from error
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
