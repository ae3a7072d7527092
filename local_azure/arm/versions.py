"""The api-versions that each resource provider answers to.

https://learn.microsoft.com/azure/azure-resource-manager/management/resource-providers-and-types
"""

from local_azure.errors import ApiError

API_VERSIONS = {
    "Microsoft.Resources": (
        "2025-04-01",
        "2025-03-01",
        "2024-11-01",
        "2024-07-01",
        "2024-03-01",
        "2023-07-01",
        "2022-12-01",
        "2022-09-01",
        "2021-04-01",
        "2021-01-01",
        "2020-10-01",
        "2020-06-01",
        "2020-01-01",
        "2019-11-01",
        "2019-06-01",
        "2018-05-01",
        "2016-09-01",
        "2016-06-01",
        "2016-02-01",
    ),
    "Microsoft.Authorization": (
        "2022-05-01-preview",
        "2022-04-01",
        "2020-10-01-preview",
        "2020-08-01-preview",
        "2020-04-01-preview",
        "2018-09-01-preview",
        "2018-01-01-preview",
        "2015-07-01",
    ),
    "Microsoft.Batch": (
        "2025-06-01",
        "2024-07-01",
        "2024-02-01",
        "2023-11-01",
        "2023-05-01",
        "2022-10-01",
        "2022-06-01",
        "2022-01-01",
        "2021-06-01",
        "2021-01-01",
    ),
    "Microsoft.Storage": (
        "2026-09-01",
        "2026-04-01",
        "2025-08-01",
        "2025-06-01",
        "2025-01-01",
        "2024-01-01",
        "2023-05-01",
        "2023-04-01",
        "2023-01-01",
        "2022-09-01",
        "2022-05-01",
        "2021-09-01",
        "2021-08-01",
        "2021-06-01",
        "2021-04-01",
        "2021-02-01",
        "2021-01-01",
        "2019-06-01",
    ),
    "Microsoft.ManagedIdentity": (
        "2025-05-31-preview",
        "2025-01-31-preview",
        "2024-11-30",
        "2023-07-31-preview",
        "2023-01-31",
        "2022-01-31-preview",
        "2018-11-30",
    ),
    "Microsoft.Orbital": ("2026-04-15", "2025-02-11-preview"),
}
"""By namespace, newest first."""

_BY_NAMESPACE = {namespace.lower(): versions for namespace, versions in API_VERSIONS.items()}


def check_version(version: str | None, namespace: str, types: str) -> None:
    """Refuse a request without an api-version, or with one that the provider does not know."""
    if not version:
        raise ApiError(
            400,
            "MissingApiVersionParameter",
            "The api-version query parameter (?api-version=) is required for all requests.",
        )
    known = _BY_NAMESPACE.get(namespace.lower())
    if known is None:
        raise ApiError(404, "InvalidResourceNamespace", f"The resource namespace '{namespace}' is invalid.")
    if version.lower() in known:
        return
    supported = ", ".join(known)
    if namespace == "Microsoft.Resources":
        raise ApiError(
            400,
            "InvalidApiVersionParameter",
            f"The api-version '{version}' is invalid. The supported versions are '{supported}'.",
        )
    raise ApiError(
        400,
        "NoRegisteredProviderFound",
        f"No registered resource provider found for API version '{version}' for type '{types}'. "
        f"The supported api-versions are '{supported}'.",
    )
