"""Everything that can be said to a user when it fails.

    SpatiobatchError
    ├── ConfigurationError            what can be known without asking a server; exit code 2
    │   └── InvalidNameError
    ├── OutputError                   the output folder cannot be written
    ├── FolderError                   nor can one that things are kept in between runs
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
        ├── HarvestTakenError
        ├── JobEndedError
        ├── JobQuotaReachedError
        ├── UnreadableFileError
        ├── NotStacError
        └── UnknownCollectionError

Each carries data and builds its own message: what was asked, what is there, what to do.
"""

from collections.abc import Iterable, Sequence

from spatiobatch.text import plain, plain_lines, without_secrets

_MOST_NAMES = 20


class SpatiobatchError(Exception):
    """The root of the tree.

    Args:
        sentence: what went wrong and what to do; it stays on one line, whatever names are in it.
        lines: what belongs below the sentence, such as the last lines of a node's stderr.
    """

    exit_code = 1

    def __init__(self, sentence: str, lines: str = "") -> None:
        self.sentence, self.lines = plain(without_secrets(sentence)), plain_lines(without_secrets(lines))
        super().__init__(f"{self.sentence}\n{self.lines}" if lines else self.sentence)


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

    def __init__(self, folder: object, reason: str, *, full: bool = False, harvest_id: str | None = None) -> None:
        remedy = "Free some space there, or name another folder" if full else "Name a folder that you may write"
        kept = (
            f" Harvest {harvest_id} is kept, and the next run of the same query goes on with it." if harvest_id else ""
        )
        super().__init__(f"Cannot write the output to {folder}: {reason}. {remedy} with --output.{kept}")


class FolderError(SpatiobatchError):
    """A folder that things are kept in between runs cannot be written."""

    def __init__(self, folder: object, reason: str, *, full: bool = False) -> None:
        remedy = "Free some space there" if full else "Make it a folder that you may write"
        super().__init__(f"Cannot write to {folder}: {reason}. {remedy}, then run again.")


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
            f"Missing: {'; '.join(commands)} ({why}). Ask somebody who may assign roles to run:",
            "\n".join(commands.values()),
        )
        self.commands, self.why = commands, why


class NodeError(ProvisioningError):
    """A node cannot take tasks: its start task failed, or it was never allocated."""

    def __init__(self, pool: str, problem: str, stderr_tail: str = "") -> None:
        said = " Its stderr ends:" if stderr_tail else ""
        super().__init__(f"Pool {pool} has no node that can take tasks: {problem}.{said}", stderr_tail)


class ProbeError(ProvisioningError):
    """The probe task did not get through."""


class HarvestError(SpatiobatchError):
    """The harvest failed."""


class NotProvisionedError(HarvestError):
    """There is no environment to harvest with."""

    def __init__(self, missing: str) -> None:
        super().__init__(f"{missing}. Build the environment, or bring it up to date: python flows/run.py provision")


class TaskFailedError(HarvestError):
    """A Batch task failed.

    Args:
        job: of which job.
        task: which one.
        outcome: how, in words.
        node: where, if it ran.
        remark: what else there is to say, such as why there is no stderr.
        stderr: its last lines.
    """

    def __init__(self, job: str, task: str, outcome: str, node: str | None, remark: str, stderr: str = "") -> None:
        where = f" on node {node}" if node else ""
        super().__init__(f"Task {task} of job {job} {outcome}{where}; {remark}", stderr)
        self.job, self.task, self.node = job, task, node


class ShardsFailedError(HarvestError):
    """Shards could not be harvested, however often."""

    def __init__(self, first: HarvestError, attempts: int, others: int) -> None:
        also = f" and {others} other {'shard' if others == 1 else 'shards'}" if others else ""
        told = f"A shard{also} failed in {attempts} attempts; what was harvested is kept. {first.sentence}"
        super().__init__(told, first.lines)
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


class HarvestTakenError(HarvestError):
    """The run does not hold its harvest any more."""

    def __init__(self, harvest_id: str, lease_seconds: int) -> None:
        super().__init__(
            f"Harvest {harvest_id} is not this run's any more: it was stopped, asleep with its machine, or cut off "
            f"from the storage account for longer than the {lease_seconds} seconds of its lease, and the next run of "
            "the same query may go on with it since. What is harvested is kept: see how that run ends, or run again."
        )


class JobEndedError(HarvestError):
    """The job ended before its tasks did."""

    def __init__(self, job: str, state: str, reason: str | None, unfinished: int) -> None:
        late = reason == "MaxWallClockTimeExpiry"
        remedy = "with a larger job_wall_clock_minutes" if late else "when nobody ends its job meanwhile"
        super().__init__(
            f"Job {job} is {state} ({reason or 'no reason given'}) with {unfinished} unfinished tasks: what is "
            f"harvested is kept, run the harvest again, {remedy}."
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
