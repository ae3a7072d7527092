"""Who is calling: principals, and the signed tokens that name them.

Token claims follow the access tokens of Microsoft Entra ID, version 1.0
(https://learn.microsoft.com/entra/identity-platform/access-token-claims-reference); what a service checks of them
follows https://learn.microsoft.com/entra/identity-platform/access-tokens#validate-tokens.
"""

import time
import uuid
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from starlette.requests import Request

from local_azure.errors import ApiError
from local_azure.store import Table

AUDIENCES = {
    "arm": (
        "https://management.azure.com",
        "https://management.core.windows.net",
    ),
    "batch": ("https://batch.core.windows.net",),
    "blob": ("https://storage.azure.com",),
    "geocatalog": ("https://geocatalog.spatio.azure.com",),
    "graph": ("https://graph.microsoft.com", "https://graph.windows.net"),
}
"""Resources of the public cloud that each service accepts; a trailing slash does not matter."""

KNOWN_RESOURCES = frozenset(name for names in AUDIENCES.values() for name in names)
"""All that a token can be asked for."""


@dataclass(frozen=True)
class Principal:
    """Somebody whom Entra knows: a user, an application or a managed identity."""

    object_id: str
    client_id: str
    name: str
    kind: str
    """`User`, `ServicePrincipal` (a client secret may be set) or `ManagedIdentity`."""


class TokenAuthority:
    """Issues and reads tokens; keeps the principals."""

    def __init__(self, key_file: Path, principals: Table, tenant_id: str, life_seconds: int) -> None:
        self._key = _signing_key(key_file)
        self._principals = principals
        self.tenant_id = tenant_id
        self._issuer = f"https://sts.windows.net/{tenant_id}/"
        self.life_seconds = life_seconds

    def add(self, name: str, kind: str, *, secret: str = "", object_id: str = "", client_id: str = "") -> Principal:
        """Make a principal known, with fresh ids where none are given."""
        principal = Principal(object_id or str(uuid.uuid4()), client_id or str(uuid.uuid4()), name, kind)
        self._principals[principal.object_id] = {**vars(principal), "secret": secret}
        return principal

    def remove(self, object_id: str) -> None:
        """Forget a principal; its tokens stop working."""
        self._principals.pop(object_id, None)

    def find(self, id_or_name: str) -> Principal | None:
        """The principal with that object id, client id or name."""
        for document in self._principals.values():
            if id_or_name in (document["object_id"], document["client_id"], document["name"]):
                return Principal(**{name: value for name, value in document.items() if name != "secret"})
        return None

    def secret_of(self, principal: Principal) -> str:
        """The client secret; empty where it has none."""
        return str(self._principals[principal.object_id]["secret"])

    def issue(self, principal: Principal, audience: str) -> str:
        """A token for that audience, good for `life_seconds`."""
        now = int(time.time())
        claims = {
            "aud": audience,
            "iss": self._issuer,
            "iat": now,
            "nbf": now,
            "exp": now + self.life_seconds,
            "appid": principal.client_id,
            "oid": principal.object_id,
            "sub": principal.object_id,
            "tid": self.tenant_id,
            "idtyp": "user" if principal.kind == "User" else "app",
            "ver": "1.0",
            "xms_mirid": principal.name,
        }
        return jwt.encode(claims, self._key, algorithm="RS256", headers={"kid": "local_azure"})

    def principal(self, request: Request, service: str, *, address: str = "") -> Principal:
        """The caller of a request to one of the `AUDIENCES`, or to a service that is named by its address.

        Raises:
            ApiError: 401 when the token is missing, foreign, expired or meant for another service.
        """
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not token:
            raise self._refusal("the Authorization header with a bearer token is missing")
        try:
            claims = jwt.decode(
                token,
                self._key.public_key(),
                algorithms=["RS256"],
                issuer=self._issuer,
                options={"verify_aud": False, "require": ["aud", "exp", "nbf", "oid"]},
            )
        except jwt.ExpiredSignatureError as error:
            raise self._refusal("the access token has expired") from error
        except jwt.InvalidTokenError as error:
            raise self._refusal("the access token was not issued by this tenant") from error
        if not _same_audience(str(claims["aud"]), AUDIENCES[service] + ((address,) if address else ())):
            raise self._refusal(f"the access token is for {claims['aud']}, not for {AUDIENCES[service][0]}")
        principal = self.find(str(claims["oid"]))
        if principal is None or principal.object_id != claims["oid"]:
            raise self._refusal("the principal of the access token no longer exists")
        return principal

    def _refusal(self, reason: str) -> ApiError:
        challenge = (
            f'Bearer authorization_uri="https://login.microsoftonline.com/{self.tenant_id}", error="invalid_token"'
        )
        return ApiError(
            401, "AuthenticationFailed", f"Authentication failed: {reason}.", {"WWW-Authenticate": challenge}
        )


def _same_audience(audience: str, accepted: Iterable[str]) -> bool:
    return audience.rstrip("/") in accepted


def _signing_key(file: Path) -> rsa.RSAPrivateKey:
    if not file.exists():
        key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        file.touch(mode=0o600)
        file.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
    loaded = serialization.load_pem_private_key(file.read_bytes(), password=None)
    assert isinstance(loaded, rsa.RSAPrivateKey)  # noqa: S101  # the only kind this module writes
    return loaded
