"""Marketplace images that Batch supports, each with its node agent.

https://learn.microsoft.com/rest/api/batchservice/account/list-supported-images, and the ends of support that
https://learn.microsoft.com/azure/batch/batch-pool-vm-sizes#supported-vm-images and Canonical announce.
"""

from local_azure.store import Document


def _image(
    publisher: str, offer: str, sku: str, agent: str, end: str = "", *, capabilities: tuple[str, ...] = ()
) -> Document:
    image: Document = {
        "nodeAgentSKUId": f"batch.node.{agent}",
        "imageReference": {"publisher": publisher, "offer": offer, "sku": sku, "version": "latest"},
        "osType": "windows" if agent.startswith("windows") else "linux",
        "capabilities": list(capabilities),
        "verificationType": "verified",
    }
    return image | ({"batchSupportEndOfLife": f"{end}T00:00:00Z"} if end else {})


_CONTAINER = ("DockerCompatible",)

SUPPORTED_IMAGES: tuple[Document, ...] = (
    _image("canonical", "ubuntu-24_04-lts", "server", "ubuntu 24.04"),
    _image("canonical", "0001-com-ubuntu-server-jammy", "22_04-lts", "ubuntu 22.04", "2027-06-30"),
    _image("canonical", "0001-com-ubuntu-server-jammy", "22_04-lts-gen2", "ubuntu 22.04", "2027-06-30"),
    _image("canonical", "0001-com-ubuntu-server-focal", "20_04-lts", "ubuntu 20.04", "2025-04-23"),
    _image(
        "microsoft-dsvm", "ubuntu-hpc", "2204", "ubuntu 22.04", "2027-06-30",
        capabilities=("DockerCompatible", "NvidiaTeslaDriverInstalled", "NvidiaGridDriverInstalled"),
    ),
    _image("microsoft-azure-batch", "ubuntu-server-container", "20-04-lts", "ubuntu 20.04", "2025-04-23",
           capabilities=_CONTAINER),
    _image("almalinux", "almalinux-x86_64", "8-gen2", "el 8", "2029-03-01"),
    _image("almalinux", "almalinux-x86_64", "9-gen2", "el 9", "2032-05-31"),
    _image("debian", "debian-12", "12-gen2", "debian 12"),
    _image("microsoftwindowsserver", "windowsserver", "2022-datacenter", "windows amd64"),
)  # fmt: skip
