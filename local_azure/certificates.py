"""TLS on loopback: a certificate authority of the stand-in's own, kept with its state."""

import os
from pathlib import Path

import certifi
import trustme

_BUNDLE_VARIABLES = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE")


class Certificates:
    """The authority, the server certificate it signed, and a bundle for clients."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.ca_file = folder / "ca.pem"
        self.server_file = folder / "server.pem"
        self.bundle_file = folder / "ca-bundle.pem"
        authority = self._authority(folder / "ca-key.pem")
        authority.issue_cert("127.0.0.1", "localhost", "::1").private_key_and_cert_chain_pem.write_to_path(
            self.server_file
        )
        self.server_file.chmod(0o600)
        self.bundle_file.write_bytes(_configured_authorities(except_for=self.bundle_file) + self.ca_file.read_bytes())

    def _authority(self, key_file: Path) -> trustme.CA:
        if key_file.exists():
            return trustme.CA.from_pem(self.ca_file.read_bytes(), key_file.read_bytes())
        authority = trustme.CA(organization_name="local_azure")
        authority.cert_pem.write_to_path(self.ca_file)
        authority.private_key_pem.write_to_path(key_file)
        key_file.chmod(0o600)
        return authority


def _configured_authorities(except_for: Path) -> bytes:
    """The CAs that were configured before; `REQUESTS_CA_BUNDLE` overrides what a session is told."""
    for variable in _BUNDLE_VARIABLES:
        named = Path(os.environ.get(variable, ""))
        if named.is_file() and named != except_for:
            return named.read_bytes().rstrip() + b"\n"
    return Path(certifi.where()).read_bytes()
