"""The clouds that a pipeline can live in: public Azure, China, US Government, or any set of endpoints.

Addresses and scopes: https://learn.microsoft.com/azure/developer/python/sdk/authentication/multi-cloud.
A stand-in on loopback is a cloud too: `replace(PUBLIC, arm=…, login=…, ca_file=…)`.
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

from spatiobatch.errors import ConfigurationError


@dataclass(frozen=True)
class Cloud:
    """Where Azure is, and for which audiences tokens are asked."""

    name: str
    login: str
    """Authority that issues the operator's tokens."""
    arm: str
    """Root of Azure Resource Manager; every other address is taken from its answers."""
    arm_scope: str
    batch_scope: str
    """The double slash is part of it."""
    geocatalog_scope: str | None
    """Scope of the GeoCatalog data plane; None where Microsoft has published none."""
    storage_scope: str = "https://storage.azure.com/.default"
    ca_file: Path | None = None
    """Certificate authorities to trust instead of the system's."""

    def at(self, *, arm: str | None, login: str | None, geocatalog_scope: str | None, ca_file: Path | None) -> Self:
        """The same cloud with other endpoints where they are given."""
        return replace(
            self,
            arm=arm or self.arm,
            login=login or self.login,
            geocatalog_scope=geocatalog_scope or self.geocatalog_scope,
            ca_file=ca_file or self.ca_file,
        )

    def required_geocatalog_scope(self) -> str:
        """The scope for GeoCatalog tokens.

        Raises:
            ConfigurationError: none is known for this cloud and none is configured.
        """
        if self.geocatalog_scope is None:
            raise ConfigurationError(
                f"No GeoCatalog scope is known for the {self.name} cloud: set geocatalog_scope "
                "(SPATIOBATCH_GEOCATALOG_SCOPE) to the one that your GeoCatalog's documentation names."
            )
        return self.geocatalog_scope


PUBLIC = Cloud(
    name="public",
    login="https://login.microsoftonline.com",
    arm="https://management.azure.com",
    arm_scope="https://management.azure.com/.default",
    batch_scope="https://batch.core.windows.net//.default",
    geocatalog_scope="https://geocatalog.spatio.azure.com/.default",
)
CHINA = Cloud(
    name="china",
    login="https://login.chinacloudapi.cn",
    arm="https://management.chinacloudapi.cn",
    arm_scope="https://management.chinacloudapi.cn/.default",
    batch_scope="https://batch.chinacloudapi.cn//.default",
    geocatalog_scope=None,
)
US_GOVERNMENT = Cloud(
    name="usgovernment",
    login="https://login.microsoftonline.us",
    arm="https://management.usgovcloudapi.net",
    arm_scope="https://management.core.usgovcloudapi.net/.default",
    batch_scope="https://batch.core.usgovcloudapi.net//.default",
    geocatalog_scope="https://geocatalog.spatio.azure.us/.default",
)

CLOUDS = {cloud.name: cloud for cloud in (PUBLIC, CHINA, US_GOVERNMENT)}
"""The published clouds by name."""
