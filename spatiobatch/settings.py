"""What differs between environments.

Precedence: command line or flow parameter, then environment variable (`SPATIOBATCH_` and the name in
capitals), then the environment's TOML file, then the default.
"""

import os
from enum import StrEnum
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, ValidationError, field_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict, TomlConfigSettingsSource

from spatiobatch import names
from spatiobatch.clouds import CLOUDS, Cloud
from spatiobatch.errors import ConfigurationError
from spatiobatch.query import first_problem

ENVIRONMENT_VARIABLE = "SPATIOBATCH_ENVIRONMENT"
"""Names the environment's TOML file for processes that get no command line, such as Prefect workers."""


class ScriptAccess(StrEnum):
    """How a task's node gets its script."""

    identity = "identity"
    sas = "sas"


class Settings(BaseSettings):
    """One environment. Names left empty are derived, the same at every run."""

    model_config = SettingsConfigDict(
        env_prefix="SPATIOBATCH_", frozen=True, extra="forbid", use_attribute_docstrings=True, validate_default=True
    )

    subscription_id: str = ""
    """Azure subscription to build in."""
    cloud: Literal["public", "china", "usgovernment"] = "public"
    """Which Azure; gives every address and token scope below that is left empty."""
    arm_url: str | None = None
    """Azure Resource Manager, where it is not the cloud's own."""
    login_url: str | None = None
    """Authority for tokens, where it is not the cloud's own."""
    ca_file: Path | None = None
    """File with the certificate authorities to trust instead of the system's."""
    location: str = "uksouth"
    """Azure region of everything that is created."""
    resource_group: str = "spatiobatch"
    """Holds what provisioning makes; an existing one is used as it is."""
    storage_account: str = ""
    """Storage account for scripts and results. Empty: a name of subscription and resource group."""
    batch_account: str = ""
    """Batch account. Empty: a name of subscription and resource group."""
    identity: str = "spatiobatch-nodes"
    """User-assigned identity that the nodes work as."""
    scripts_container: str = "scripts"
    """Blob container of the node scripts."""
    results_container: str = "results"
    """Blob container of the harvests."""
    tags: dict[str, str] = Field(default_factory=dict)
    """Tags for everything that is created, beside managed-by."""
    geocatalog_id: str = ""
    """ARM id of the GeoCatalog; its address is read from there, and the nodes' role assigned on it."""
    geocatalog_url: str | None = None
    """Address of the GeoCatalog, where ARM may not be asked for it."""
    geocatalog_scope: str | None = None
    """Token scope of the GeoCatalog, where it is not the cloud's own."""
    geocatalog_api_version: str = "2026-04-15"
    """api-version of every STAC call."""
    geocatalog_role: Literal["GeoCatalog Reader", "GeoCatalog Administrator"] = "GeoCatalog Reader"
    """What the nodes may do on the GeoCatalog."""
    pool: str = "spatiobatch"
    """Id of the Batch pool."""
    pool_vm_size: str = "Standard_D2s_v3"
    """VM size of the nodes; fixed once the pool exists."""
    pool_nodes: int = Field(2, ge=0, le=1000)
    """Nodes of a fixed pool, or the most that autoscale may start."""
    pool_scaling: Literal["autoscale", "fixed"] = "autoscale"
    """autoscale starts nodes for waiting tasks and ends them when idle; fixed keeps pool_nodes."""
    pool_spot: bool = False
    """Spot nodes, which are cheaper and can be taken away at any time."""
    pool_task_slots: int = Field(4, ge=1, le=256)
    """Tasks that one node runs at once, at most four per core; fixed once the pool exists."""
    pool_image_publisher: str = "canonical"
    """Publisher of the nodes' image."""
    pool_image_offer: str = "ubuntu-24_04-lts"
    """Offer of the nodes' image."""
    pool_image_sku: str = "server"
    """SKU of the nodes' image."""
    pool_azure_cli: bool = False
    """Install Azure CLI on the nodes, which the Bash runtime then signs in with; without it curl does."""
    pool_subnet_id: str | None = None
    """ARM id of the subnet that the nodes join."""
    pool_public_addresses: bool = True
    """Whether nodes have public addresses; without them the subnet must reach Azure by itself."""
    node_timeout_minutes: float = Field(20, gt=0)
    """How long provisioning waits for the first node to be ready."""
    grant_timeout_minutes: float = Field(15, gt=0)
    """How long a refusal may mean that a role assignment is still spreading."""
    script_access: ScriptAccess = ScriptAccess.identity
    """identity: nodes read scripts as themselves; sas: by a read-only user-delegation SAS of 30 minutes."""
    job_wall_clock_minutes: int = Field(60, ge=1)
    """After this, counted from its creation, Batch ends a job with all its tasks."""
    job_end: Literal["delete", "terminate"] = "delete"
    """What becomes of a job that is over; its logs are kept in the results container either way."""
    job_quota_wait_minutes: float = Field(15, ge=0)
    """How long a job waits where the account has as many active ones as its quota allows."""
    running_harvest_wait_minutes: float = Field(2, ge=0)
    """How long a harvest waits for a running one of the same query; at least a minute, for that one may be dead."""
    poll_seconds: float = Field(2, gt=0)
    """Pause between two looks at a job, a node or a long-running operation."""
    read_timeout_seconds: float = Field(60, gt=0)
    """How long a call, of the operator or of a node script, waits for an answer before it is made again."""

    requests_per_second: float = Field(25, gt=0)
    """STAC calls per second of a whole item harvest; GeoCatalog documents 50 per subscription."""

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Environment variables before the TOML file that `SPATIOBATCH_ENVIRONMENT` names."""
        file = os.environ.get(ENVIRONMENT_VARIABLE)
        toml = (TomlConfigSettingsSource(settings_cls, Path(file)),) if file else ()
        return (init_settings, env_settings, *toml)

    @field_validator("resource_group", "identity", "pool", "scripts_container", "results_container")
    @classmethod
    def _azure_takes_the_name(cls, name: str, info: Any) -> str:
        return _RULES[info.field_name].check(name)

    @field_validator("storage_account", "batch_account")
    @classmethod
    def _azure_takes_the_account(cls, name: str, info: Any) -> str:
        return _RULES[info.field_name].check(name) if name else name

    @field_validator("arm_url", "login_url", "geocatalog_url")
    @classmethod
    def _https(cls, url: str | None) -> str | None:
        if url and not url.startswith("https://"):
            raise ValueError(f"{url!r} is no https:// address")
        return url.rstrip("/") if url else None

    @property
    def endpoints(self) -> Cloud:
        """The cloud with what is configured otherwise."""
        return CLOUDS[self.cloud].at(
            arm=self.arm_url, login=self.login_url, geocatalog_scope=self.geocatalog_scope, ca_file=self.ca_file
        )

    @property
    def storage_account_name(self) -> str:
        """The configured name, or the derived one."""
        return self.storage_account or names.account_name(self.subscription_id, self.resource_group)

    @property
    def batch_account_name(self) -> str:
        """The configured name, or the derived one."""
        return self.batch_account or names.account_name(self.subscription_id, self.resource_group)

    @property
    def all_tags(self) -> dict[str, str]:
        """What everything that provisioning makes is known by."""
        return {**self.tags, "managed-by": names.MANAGED_BY}

    def arm_id(self, resource_type: str = "", name: str = "") -> str:
        """ARM id of the resource group, or of a resource in it."""
        group = f"/subscriptions/{self.subscription_id}/resourceGroups/{self.resource_group}"
        return f"{group}/providers/{resource_type}/{name}" if resource_type else group

    def with_(self, **changes: Any) -> Self:
        """The same settings with what the command line or a flow parameter says; None changes nothing."""
        given = {name: value for name, value in changes.items() if value is not None}
        return self.model_copy(update=given)


_RULES = {
    "resource_group": names.RESOURCE_GROUP,
    "identity": names.IDENTITY,
    "pool": names.BATCH_ID,
    "scripts_container": names.CONTAINER,
    "results_container": names.CONTAINER,
    "storage_account": names.STORAGE_ACCOUNT,
    "batch_account": names.BATCH_ACCOUNT,
}


def load_settings() -> Settings:
    """The settings of this process's environment.

    Raises:
        ConfigurationError: the TOML file cannot be read, a value makes no sense, or there is no subscription.
    """
    file = os.environ.get(ENVIRONMENT_VARIABLE)
    if file and not Path(file).is_file():
        raise ConfigurationError(f"There is no environment file {file}: name one of deployments/*.toml.")
    try:
        settings = Settings()
    except ValidationError as error:
        raise ConfigurationError(f"Setting {first_problem(error)}") from None
    except (ValueError, RecursionError) as error:  # of the TOML file, or of JSON in an environment variable
        raise ConfigurationError(f"Cannot read the settings{f' in {file}' if file else ''}: {error}") from None
    if not settings.subscription_id:
        raise ConfigurationError(
            "No subscription: set SPATIOBATCH_SUBSCRIPTION_ID, or name an environment file with --environment."
        )
    return settings
