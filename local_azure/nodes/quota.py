"""How many nodes of a pool the Batch account's core quotas leave room for.

https://learn.microsoft.com/azure/batch/batch-quota-limit. Dedicated cores are counted in total and, where
the account enforces it, per VM family; Spot cores in total only.
"""

from collections.abc import Iterable

from local_azure.arm.vm_sizes import VM_SIZES, VmSize
from local_azure.store import Document

_DEDICATED = ("AccountCoreQuotaReached", "The specified account has reached core quota")
_FAMILY = ("AccountVMSeriesCoreQuotaReached", "The specified account has reached VM series core quota for {family}")
_SPOT = ("AccountLowPriorityCoreQuotaReached", "The specified account has reached low priority core quota")


def vm_size(pool: Document) -> VmSize:
    """What is known of the pool's VM size."""
    return VM_SIZES[pool["properties"]["vmSize"].lower()]


def room(account: Document, size: VmSize, *, dedicated: bool, taken: Iterable[VmSize]) -> tuple[int, Document]:
    """Nodes of `size` that fit beside those that are there, and the resize error if more are wanted."""
    taken = list(taken)
    quotas = account["properties"]
    if not dedicated:
        return _fit(quotas["lowPriorityCoreQuota"], size, taken), _error(_SPOT)
    total = _fit(quotas["dedicatedCoreQuota"], size, taken)
    if not quotas.get("dedicatedCoreQuotaPerVMFamilyEnforced"):
        return total, _error(_DEDICATED)
    families = {quota["name"].lower(): quota["coreQuota"] for quota in quotas["dedicatedCoreQuotaPerVMFamily"]}
    relatives = [other for other in taken if other.family.lower() == size.family.lower()]
    in_family = _fit(families.get(size.family.lower(), 0), size, relatives)
    if in_family < total:
        return in_family, _error((_FAMILY[0], _FAMILY[1].format(family=size.family)))
    return total, _error(_DEDICATED)


def _fit(cores: int, size: VmSize, taken: Iterable[VmSize]) -> int:
    return max(0, (cores - sum(other.cores for other in taken)) // size.cores)


def _error(code_and_message: tuple[str, str]) -> Document:
    code, message = code_and_message
    return {"code": code, "message": message, "details": []}
