"""Azure regions, and how ARM reads the name of one.

https://learn.microsoft.com/azure/reliability/regions-list; a choice of them.
"""

from local_azure.errors import ApiError
from local_azure.store import Document

LOCATIONS = {
    "australiaeast": "Australia East",
    "brazilsouth": "Brazil South",
    "canadacentral": "Canada Central",
    "centralindia": "Central India",
    "centralus": "Central US",
    "eastasia": "East Asia",
    "eastus": "East US",
    "eastus2": "East US 2",
    "francecentral": "France Central",
    "germanywestcentral": "Germany West Central",
    "italynorth": "Italy North",
    "japaneast": "Japan East",
    "koreacentral": "Korea Central",
    "northcentralus": "North Central US",
    "northeurope": "North Europe",
    "norwayeast": "Norway East",
    "polandcentral": "Poland Central",
    "southafricanorth": "South Africa North",
    "southcentralus": "South Central US",
    "southeastasia": "Southeast Asia",
    "spaincentral": "Spain Central",
    "swedencentral": "Sweden Central",
    "switzerlandnorth": "Switzerland North",
    "uaenorth": "UAE North",
    "uksouth": "UK South",
    "ukwest": "UK West",
    "westcentralus": "West Central US",
    "westeurope": "West Europe",
    "westus": "West US",
    "westus2": "West US 2",
    "westus3": "West US 3",
}
"""Display names by name."""


def location_of(body: Document, resource_type: str) -> str:
    """The region that a body names, as ARM writes it: `East US` is `eastus`.

    Raises:
        ApiError: 400 when it is missing, or no region of Azure.
    """
    named = body.get("location")
    if not named:
        raise ApiError(400, "LocationRequired", "The location property is required for this definition.")
    location = str(named).replace(" ", "").lower()
    if location in LOCATIONS:
        return location
    if resource_type == "Microsoft.Resources/resourceGroups":
        code, kind = "LocationNotAvailableForResourceGroup", "resource group"
    else:
        code, kind = "LocationNotAvailableForResourceType", f"resource type '{resource_type}'"
    raise ApiError(
        400,
        code,
        f"The provided location '{named}' is not available for {kind}. "
        f"List of available regions is '{','.join(LOCATIONS)}'.",
    )
