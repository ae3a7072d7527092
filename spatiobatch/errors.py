"""Everything that can be said to a user when it fails.

    SpatiobatchError
    ├── ConfigurationError            what can be known without asking a server; exit code 2
    │   └── InvalidNameError
    ├── OutputError                   the output folder cannot be written
    ├── ServiceError                  Azure answered with an error that a retry did not mend, or did not answer
    │   └── SignInError               nor did whoever gives out tokens
    ├── ProvisioningError
    │   ├── QuotaTooSmallError
    │   ├── PoolDriftError
    │   ├── ForeignResourceError
    │   ├── MissingGrantError
    │   ├── NodeError
    │   └── ProbeError
    └── HarvestError
        ├── NotProvisionedError
        ├── TaskFailedError
        ├── ShardsFailedError
        ├── IncompleteHarvestError
        ├── NoSuchHarvestError
        ├── HarvestRunningError
        ├── JobEndedError
        ├── JobQuotaReachedError
        ├── UnreadableFileError
        ├── NotStacError
        └── UnknownCollectionError

Each carries data and builds its own message: what was asked, what is there, what to do.
"""

import re
from collections.abc import Iterable, Sequence

_MOST_NAMES = 20
_SECRET = re.compile(
    r"(?i:(?<=\bsig=)|(?<=\bAccountKey=)|(?<=\bclient_secret=)|(?<=\bclient_assertion=))[^&;\s\"'<>\\]+"
    r"|\beyJ[\w-]{8,}(\.[\w-]*)*|(?<=://)[^/\s]+(?=@)"
)
"""Signature of a SAS, account key, client secret; access token; user info of an address."""


def without_secrets(text: str) -> str:
    """The text, with every signature, key and token in it replaced: services repeat addresses in what they answer."""
    return _SECRET.sub("(secret)", text)


class SpatiobatchError(Exception):
    """The root of the tree."""

    exit_code = 1

    def __init__(self, sentence: str) -> None:
        super().__init__(without_secrets(sentence))


class ConfigurationError(SpatiobatchError):
    """A setting or argument that cannot be right."""

    exit_code = 2


class InvalidNameError(ConfigurationError):
    """A name that Azure would refuse."""

    def __init__(self, kind: str, name: str, rule: str) -> None:
        super().__init__(f"{name!r} is no name for a {kind}: {rule}.")
        self.kind, self.name, self.rule = kind, name, rule


class OutputError(SpatiobatchError):
    """The output folder cannot be written."""

    def __init__(self, folder: object, reason: str) -> None:
        super().__init__(
            f"Cannot write the output to {folder}: {reason}. Name a folder that you may write with --output."
        )


class ServiceError(SpatiobatchError):
    """Azure answered with an error that a retry did not mend, or did not answer."""


class SignInError(ServiceError):
    """Whoever gives out tokens is out of order; that nobody is signed in is another error."""

    def __init__(self, trouble: str) -> None:
        super().__init__(
            f"No token can be had: {trouble}, also when asked again. That is no question of signing in: check the "
            "network and the cloud's login address, then run again."
        )
        self.trouble = trouble


class ProvisioningError(SpatiobatchError):
    """The environment could not be built."""


class QuotaTooSmallError(ProvisioningError):
    """The pool asks for more cores than the Batch account may have."""

    def __init__(self, account: str, location: str, what: str, needed_cores: int, quota_cores: int) -> None:
        super().__init__(
            f"The pool needs {needed_cores} {what} but Batch account {account} has a quota of {quota_cores}: "
            f"request an increase to at least {needed_cores} {what} for this account in {location} "
            "(Azure portal, the account's Quotas page), or set fewer pool_nodes or a smaller pool_vm_size."
        )
        self.account, self.needed_cores, self.quota_cores = account, needed_cores, quota_cores


class PoolDriftError(ProvisioningError):
    """A property of the pool that Azure fixes at creation differs."""

    def __init__(self, pool: str, differences: dict[str, tuple[object, object]]) -> None:
        listed = "; ".join(f"{name} is {there}, wanted {wanted}" for name, (there, wanted) in differences.items())
        super().__init__(
            f"Pool {pool} cannot be changed in place: {listed}. Run provision with --replace-pool to delete and "
            "create it again (its running tasks end), or set the wanted values to what is there."
        )
        self.pool, self.differences = pool, differences


class ForeignResourceError(ProvisioningError):
    """A resource of somebody else's does not serve as it is."""

    def __init__(self, kind: str, name: str, problem: str, remedy: str) -> None:
        super().__init__(
            f"The {kind} {name} was not made by spatiobatch and is used as it is, but {problem}: {remedy}."
        )


class MissingGrantError(ProvisioningError):
    """Role assignments are missing that the operator may not make, or they do not work.

    Args:
        commands: for each missing grant, in words, what somebody who may assign roles has to run.
        why: how it showed.
    """

    def __init__(self, commands: dict[str, str], why: str) -> None:
        super().__init__(
            f"Missing: {'; '.join(commands)} ({why}). Ask somebody who may assign roles to run: "
            + "\n".join(commands.values())
        )
        self.commands, self.why = commands, why


class NodeError(ProvisioningError):
    """A node cannot take tasks: its start task failed, or it was never allocated."""

    def __init__(self, pool: str, problem: str, stderr_tail: str = "") -> None:
        said = f" Its stderr ends:\n{stderr_tail}" if stderr_tail else ""
        super().__init__(f"Pool {pool} has no node that can take tasks: {problem}.{said}")


class ProbeError(ProvisioningError):
    """The probe task did not get through."""


class HarvestError(SpatiobatchError):
    """The harvest failed."""


class NotProvisionedError(HarvestError):
    """There is no environment to harvest with."""

    def __init__(self, missing: str) -> None:
        super().__init__(f"{missing}. Build the environment, or bring it up to date: python flows/run.py provision")


class TaskFailedError(HarvestError):
    """A Batch task failed."""

    def __init__(self, job: str, task: str, outcome: str, node: str | None, stderr: str) -> None:
        where = f" on node {node}" if node else ""
        super().__init__(f"Task {task} of job {job} {outcome}{where}; {stderr}")
        self.job, self.task, self.node = job, task, node


class ShardsFailedError(HarvestError):
    """Shards could not be harvested, however often."""

    def __init__(self, first: HarvestError, attempts: int, others: int) -> None:
        also = f" and {others} other {'shard' if others == 1 else 'shards'}" if others else ""
        super().__init__(f"A shard{also} failed in {attempts} attempts; what was harvested is kept. {first}")
        self.first, self.others = first, others


class IncompleteHarvestError(HarvestError):
    """A harvest is over, is kept, and cannot be relied on."""

    def __init__(self, harvest_id: str, archive: str, problem: str) -> None:
        super().__init__(f"Harvest {harvest_id} is kept at {archive}, but {problem}.")


class NoSuchHarvestError(HarvestError):
    """There is no unfinished harvest of that id."""

    def __init__(self, harvest_id: str) -> None:
        super().__init__(
            f"There is no unfinished harvest {harvest_id}: it is complete, or never began. Harvest without --resume."
        )


class HarvestRunningError(HarvestError):
    """Somebody else works on the harvest of this query."""

    def __init__(self, harvest_id: str) -> None:
        super().__init__(
            f"The harvest {harvest_id} is still running, and only one of a query runs at a time: wait for its end, or "
            "set running_harvest_wait_minutes for this one to wait longer."
        )


class JobEndedError(HarvestError):
    """The job ended before its tasks did."""

    def __init__(self, job: str, state: str, reason: str | None, unfinished: int) -> None:
        super().__init__(
            f"Job {job} is {state} ({reason or 'no reason given'}) with {unfinished} unfinished tasks: "
            "run the harvest again, with a larger job_wall_clock_minutes if the reason is MaxWallClockTimeExpiry."
        )


class JobQuotaReachedError(HarvestError):
    """The Batch account has no room for another active job."""

    def __init__(self, account: str, quota: int | None, active: Sequence[str], minutes: float) -> None:
        names = ", ".join(active[:_MOST_NAMES]) + ("" if len(active) <= _MOST_NAMES else ", ...")
        super().__init__(
            f"Batch account {account} may have {quota or len(active)} active jobs and job schedules, and for "
            f"{minutes:g} minutes none ended. Of jobs, {len(active)} are active: {names}. End those that nobody needs "
            "(az batch job list, az batch job stop), request a larger quota (Azure portal, the account's Quotas page), "
            "or set job_quota_wait_minutes to wait longer."
        )
        self.account, self.quota, self.active = account, quota, active


class UnreadableFileError(HarvestError):
    """A file in the results container is not what a harvest leaves there."""

    def __init__(self, path: str, problem: str, remedy: str) -> None:
        super().__init__(f"{path} in the results container cannot be read ({problem}): {remedy}.")
        self.path = path


class NotStacError(HarvestError):
    """What the node brought is no STAC."""

    def __init__(self, task: str, problem: str) -> None:
        super().__init__(f"The answer of task {task} is not a list of STAC collections: {problem}.")


class UnknownCollectionError(HarvestError):
    """A collection was asked for that the catalog does not have."""

    def __init__(self, unknown: Iterable[str], known: Iterable[str]) -> None:
        names = sorted(known)
        more = f" and {len(names) - _MOST_NAMES} more" if len(names) > _MOST_NAMES else ""
        there = f"{', '.join(names[:_MOST_NAMES])}{more}" or "none at all"
        super().__init__(f"The catalog has no collection {', '.join(sorted(unknown))}; it has {there}.")
