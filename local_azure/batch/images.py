"""Marketplace images that Batch supports, each with its node agent.

https://learn.microsoft.com/rest/api/batchservice/account/list-supported-images; ends of support follow
https://learn.microsoft.com/azure/batch/batch-pool-vm-sizes#supported-vm-images.
"""

from dataclasses import dataclass

from local_azure.store import Document


@dataclass(frozen=True)
class Image:
    """A marketplace image, in the words of its publisher."""

    publisher: str
    offer: str
    sku: str
    node_agent: str
    end_of_life: str = ""
    """Day after which Batch no longer supports it; empty where none was announced."""
    capabilities: tuple[str, ...] = ()

    def matches(self, publisher: str, offer: str, sku: str) -> bool:
        """Whether an image reference means this one; letter case does not matter."""
        return (publisher.lower(), offer.lower(), sku.lower()) == (self.publisher, self.offer, self.sku)

    def document(self) -> Document:
        """The image as the service lists it."""
        image: Document = {
            "nodeAgentSKUId": self.node_agent,
            "imageReference": {
                "publisher": self.publisher,
                "offer": self.offer,
                "sku": self.sku,
                "version": "latest",
            },
            "osType": "windows" if "windows" in self.node_agent else "linux",
            "verificationType": "verified",
        }
        if self.capabilities:
            image["capabilities"] = list(self.capabilities)
        return image | ({"batchSupportEndOfLife": f"{self.end_of_life}T00:00:00Z"} if self.end_of_life else {})


_JAMMY, _FOCAL = "2027-06-30", "2025-04-23"
_CONTAINERS = ("DockerCompatible",)

IMAGES: tuple[Image, ...] = (
    Image("canonical", "ubuntu-24_04-lts", "server", "batch.node.ubuntu 24.04"),
    Image("canonical", "0001-com-ubuntu-server-jammy", "22_04-lts", "batch.node.ubuntu 22.04", _JAMMY),
    Image("canonical", "0001-com-ubuntu-server-jammy", "22_04-lts-gen2", "batch.node.ubuntu 22.04", _JAMMY),
    Image("canonical", "0001-com-ubuntu-server-focal", "20_04-lts", "batch.node.ubuntu 20.04", _FOCAL),
    Image("canonical", "0001-com-ubuntu-server-focal", "20_04-lts-gen2", "batch.node.ubuntu 20.04", _FOCAL),
    Image("microsoft-dsvm", "ubuntu-hpc", "2204", "batch.node.ubuntu 22.04", _JAMMY, _CONTAINERS),
    Image(
        "microsoft-azure-batch", "ubuntu-server-container", "20-04-lts", "batch.node.ubuntu 20.04", _FOCAL, _CONTAINERS
    ),
    Image("almalinux", "almalinux-x86_64", "8-gen2", "batch.node.el 8", "2029-03-01"),
    Image("almalinux", "almalinux-x86_64", "9-gen2", "batch.node.el 9", "2032-05-31"),
    Image("debian", "debian-12", "12-gen2", "batch.node.debian 12"),
    Image("microsoftwindowsserver", "windowsserver", "2022-datacenter", "batch.node.windows amd64"),
)
"""The images, the newest Ubuntu first."""
