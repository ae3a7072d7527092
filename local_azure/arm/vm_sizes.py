"""Sizes of virtual machines that Batch pools can use here.

https://learn.microsoft.com/azure/virtual-machines/sizes/overview; a choice of common Linux sizes.
"""

from dataclasses import dataclass

_MOST_SLOTS = 256
_MOST_SLOTS_PER_CORE = 4


@dataclass(frozen=True)
class VmSize:
    """A size of virtual machine."""

    name: str
    family: str
    """As quotas name it, such as `standardDSv3Family`."""
    cores: int
    memory_gib: float

    @property
    def most_task_slots(self) -> int:
        """Four for each core, and no more than 256 (https://learn.microsoft.com/azure/batch/batch-parallel-node-tasks)."""
        return min(_MOST_SLOTS, _MOST_SLOTS_PER_CORE * self.cores)


_FAMILIES = {
    "standardA0_A7Family": (("Standard_A1", 1, 1.75), ("Standard_A2", 2, 3.5), ("Standard_A4", 8, 14)),
    "standardAv2Family": (
        ("Standard_A1_v2", 1, 2),
        ("Standard_A2_v2", 2, 4),
        ("Standard_A4_v2", 4, 8),
        ("Standard_A8_v2", 8, 16),
    ),
    "standardDv2Family": (("Standard_D1_v2", 1, 3.5), ("Standard_D2_v2", 2, 7), ("Standard_D4_v2", 8, 28)),
    "standardDSv2Family": (
        ("Standard_DS1_v2", 1, 3.5),
        ("Standard_DS2_v2", 2, 7),
        ("Standard_DS3_v2", 4, 14),
        ("Standard_DS4_v2", 8, 28),
    ),
    "standardDv3Family": (("Standard_D2_v3", 2, 8), ("Standard_D4_v3", 4, 16), ("Standard_D8_v3", 8, 32)),
    "standardDSv3Family": (
        ("Standard_D2s_v3", 2, 8),
        ("Standard_D4s_v3", 4, 16),
        ("Standard_D8s_v3", 8, 32),
        ("Standard_D16s_v3", 16, 64),
        ("Standard_D32s_v3", 32, 128),
        ("Standard_D64s_v3", 64, 256),
    ),
    "standardDDSv4Family": (("Standard_D2ds_v4", 2, 8), ("Standard_D4ds_v4", 4, 16), ("Standard_D8ds_v4", 8, 32)),
    "standardDSv4Family": (("Standard_D2s_v4", 2, 8), ("Standard_D4s_v4", 4, 16), ("Standard_D8s_v4", 8, 32)),
    "standardDSv5Family": (
        ("Standard_D2s_v5", 2, 8),
        ("Standard_D4s_v5", 4, 16),
        ("Standard_D8s_v5", 8, 32),
        ("Standard_D16s_v5", 16, 64),
        ("Standard_D32s_v5", 32, 128),
    ),
    "standardDDSv5Family": (("Standard_D2ds_v5", 2, 8), ("Standard_D4ds_v5", 4, 16), ("Standard_D8ds_v5", 8, 32)),
    "standardDASv4Family": (("Standard_D2as_v4", 2, 8), ("Standard_D4as_v4", 4, 16), ("Standard_D8as_v4", 8, 32)),
    "standardDASv5Family": (
        ("Standard_D2as_v5", 2, 8),
        ("Standard_D4as_v5", 4, 16),
        ("Standard_D8as_v5", 8, 32),
        ("Standard_D16as_v5", 16, 64),
    ),
    "standardDADSv5Family": (("Standard_D2ads_v5", 2, 8), ("Standard_D4ads_v5", 4, 16), ("Standard_D8ads_v5", 8, 32)),
    "StandardDsv6Family": (("Standard_D2s_v6", 2, 8), ("Standard_D4s_v6", 4, 16), ("Standard_D8s_v6", 8, 32)),
    "standardESv3Family": (("Standard_E2s_v3", 2, 16), ("Standard_E4s_v3", 4, 32), ("Standard_E8s_v3", 8, 64)),
    "standardESv5Family": (("Standard_E2s_v5", 2, 16), ("Standard_E4s_v5", 4, 32), ("Standard_E8s_v5", 8, 64)),
    "standardFSv2Family": (
        ("Standard_F2s_v2", 2, 4),
        ("Standard_F4s_v2", 4, 8),
        ("Standard_F8s_v2", 8, 16),
        ("Standard_F16s_v2", 16, 32),
    ),
}

VM_SIZES = {
    name.lower(): VmSize(name, family, cores, memory)
    for family, sizes in _FAMILIES.items()
    for name, cores, memory in sizes
}
"""By name in lower case: Batch ignores the case of a size."""

VM_FAMILIES = tuple(_FAMILIES)
