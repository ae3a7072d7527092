"""Ids and Azure's limits on them.

Every derived id is a pure function of what it stands for. Limits:
https://learn.microsoft.com/azure/azure-resource-manager/management/resource-name-rules
"""

import hashlib
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from urllib.parse import quote
from uuid import UUID, uuid5

from spatiobatch.errors import InvalidNameError

_OURS = UUID("7b1e34c5-52e5-4b0e-9a4a-1c7d6b0f2d11")
"""Namespace of the role assignments that this project makes."""

_DEVICE = re.compile(r"(?i:con|prn|aux|nul|com\d|lpt\d)(\..*)?")

MANAGED_BY = "spatiobatch"
"""Value of the tag `managed-by` on everything that provisioning makes."""


@dataclass(frozen=True)
class NameRule:
    """What Azure accepts as the name of one kind of resource."""

    kind: str
    pattern: str
    sentence: str

    def check(self, name: str) -> str:
        """The name, if Azure would take it.

        Raises:
            InvalidNameError: it would not.
        """
        if not re.fullmatch(self.pattern, name):
            raise InvalidNameError(self.kind, name, self.sentence)
        return name


RESOURCE_GROUP = NameRule(
    "resource group",
    r"[\w().-]{0,89}[\w()-]",
    "1 to 90 letters, digits, underscores, hyphens, periods and parentheses, not ending in a period",
)
STORAGE_ACCOUNT = NameRule("storage account", r"[a-z0-9]{3,24}", "3 to 24 lower-case letters and digits")
BATCH_ACCOUNT = NameRule("Batch account", r"[a-z0-9]{3,24}", "3 to 24 lower-case letters and digits")
IDENTITY = NameRule(
    "user-assigned identity",
    r"[A-Za-z0-9][A-Za-z0-9_-]{2,127}",
    "3 to 128 letters, digits, hyphens and underscores, beginning with a letter or digit",
)
BATCH_ID = NameRule("pool, job or task", r"[A-Za-z0-9_-]{1,64}", "1 to 64 letters, digits, hyphens and underscores")
CONTAINER = NameRule(
    "blob container",
    r"(?!.*--)[a-z0-9][a-z0-9-]{1,61}[a-z0-9]",
    "3 to 63 lower-case letters, digits and single hyphens, beginning and ending with a letter or digit",
)


def digest(text: str, length: int) -> str:
    """The first hexadecimal digits of the text's SHA-256."""
    return hashlib.sha256(text.encode()).hexdigest()[:length]


def account_name(subscription_id: str, resource_group: str) -> str:
    """A storage or Batch account name that is unique in Azure as far as subscriptions and groups are."""
    return f"spatiobatch{digest(f'{subscription_id}/{resource_group}'.lower(), 12)}"


def role_assignment(scope: str, principal_id: str, role_id: str) -> str:
    """The GUID that names a role assignment: the same grant has the same name."""
    return str(uuid5(_OURS, f"{scope}|{principal_id}|{role_id}".lower()))


def script_blob(stem: str, suffix: str, content: bytes) -> str:
    """A script's blob name: another content, another name, so that a running job never sees a changed script."""
    return f"{stem}-{hashlib.sha256(content).hexdigest()[:16]}{suffix}"


def harvest_id(started: datetime, query_hash: str) -> str:
    """`<UTC start, yyyymmddThhmmssZ>-<query hash>`."""
    return f"{started.astimezone(UTC):%Y%m%dT%H%M%SZ}-{query_hash}"


def job_id(purpose: str, attempt: int) -> str:
    """The Batch job of one attempt at something; an ended job never comes back, so the next attempt is another job."""
    return BATCH_ID.check(f"{purpose}-{attempt}")


def path_segment(name: str) -> str:
    """A catalog's name as one segment of a path.

    Percent-encoded outside `[A-Za-z0-9._-]`, a dot at either end too, and the first letter of what Windows takes for a
    device; the SHA-256 where that is beyond 200 bytes, or nothing. Names that differ have segments that differ, in
    letter case alone if the names do; half a surrogate pair, which JSON can hold and UTF-8 cannot, counts as three
    bytes of its own.

    No segment may end with a dot in Azure nor in Windows:
    https://learn.microsoft.com/rest/api/storageservices/naming-and-referencing-containers--blobs--and-metadata,
    https://learn.microsoft.com/windows/win32/fileio/naming-a-file.
    """
    octets = name.encode(errors="surrogatepass")
    encoded = quote(octets, safe="").replace("~", "%7E")
    if encoded.startswith(".") or _DEVICE.fullmatch(encoded):
        encoded = f"%{ord(encoded[0]):02X}{encoded[1:]}"
    if encoded.endswith("."):
        encoded = f"{encoded[:-1]}%2E"
    return encoded if 0 < len(encoded) <= 200 else hashlib.sha256(octets).hexdigest()


def same_id(one: str | None, other: str | None) -> bool:
    """Whether two ARM ids name the same thing: ARM answers with other letter case than it was asked."""
    return (one or "").lower().rstrip("/") == (other or "").lower().rstrip("/")
