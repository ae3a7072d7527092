"""Whose a resource is: what bears our tag is brought up to the settings, anything else is used as it is."""

from collections.abc import Mapping

from azure.mgmt.batch.models import Pool

from spatiobatch.names import MANAGED_BY

Tags = Mapping[str, str] | None


def ours(tags: Tags) -> bool:
    """Whether provisioning made this."""
    return (tags or {}).get("managed-by") == MANAGED_BY


def missing_tags(there: Tags, wanted: Mapping[str, str]) -> list[str]:
    """Names of the wanted tags that are absent or differ."""
    return [name for name, value in wanted.items() if (there or {}).get(name) != value]


def pool_tags(pool: Pool) -> dict[str, str]:
    """A pool's metadata, in which it bears its tags: the Batch service knows pools by no others."""
    return {item.name: item.value for item in pool.properties.metadata or []}
