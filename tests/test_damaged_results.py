"""Blobs that are damaged or mixed up between the steps of a harvest: it notices, and what it ends with is right.

`HOSTILE_SEED=5` draws the damage; `pytest -m soak` tries each kind alone, at each moment.
"""

import json
import logging
import os
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import zstandard
from azure.storage.blob import ContainerClient
from catalogs import archived
from flow_runs import Site, running_site
from prefect.logging import disable_run_logger

import flows.harvest
from spatiobatch.errors import HarvestError
from spatiobatch.manifest import Harvest
from spatiobatch.names import digest
from spatiobatch.query import Query, query_from
from tasks.environment import read_environment, results

LOGGER = logging.getLogger(__name__)
SEED = int(os.environ.get("HOSTILE_SEED") or 1)
ITEMS = 120
RUNS = 4
"""A harvest may need so many runs to end: one that is interrupted, or refuses what it finds, is run again."""
Lines = dict[tuple[str, str], bytes]


@dataclass(frozen=True)
class Shard:
    """The two blobs of a shard, and how to change them."""

    container: ContainerClient
    path: str

    @property
    def archive(self) -> str:
        """The archive's name."""
        return f"{self.path}.ndjson.zst"

    @property
    def receipt(self) -> str:
        """The receipt's name."""
        return f"{self.path}.receipt.json"

    def read(self, name: str) -> bytes:
        """A blob's content."""
        return bytes(self.container.download_blob(name).readall())

    def write(self, name: str, content: bytes) -> None:
        """Replace a blob."""
        self.container.upload_blob(name, content, overwrite=True)

    @property
    def lines(self) -> list[bytes]:
        """The archived items."""
        return zstandard.ZstdDecompressor().stream_reader(self.read(self.archive)).read().splitlines(keepends=True)

    def archive_lines(self, lines: Sequence[bytes]) -> None:
        """Replace the archive by another one that is sound in itself."""
        self.write(self.archive, zstandard.compress(b"".join(lines)))


@dataclass(frozen=True)
class Victim:
    """A shard, another one of the same harvest, and what an earlier harvest left of a shard."""

    shard: Shard
    other: Shard
    earlier: Shard
    dice: random.Random

    def flipped(self, name: str) -> None:
        """Change one bit of a blob."""
        content = bytearray(self.shard.read(name))
        content[self.dice.randrange(len(content))] ^= 1 << self.dice.randrange(8)
        self.shard.write(name, bytes(content))

    def cut(self, name: str) -> None:
        """Leave the beginning of a blob."""
        content = self.shard.read(name)
        self.shard.write(name, content[: self.dice.randrange(len(content))])

    def swap(self, *suffixes: str) -> None:
        """Exchange blobs with the other shard."""
        for suffix in suffixes:
            mine, others = (shard.read(shard.path + suffix) for shard in (self.shard, self.other))
            self.shard.write(self.shard.path + suffix, others)
            self.other.write(self.other.path + suffix, mine)

    def take_over(self, *suffixes: str) -> None:
        """Put blobs of the earlier harvest in their place."""
        for suffix in suffixes:
            self.shard.write(self.shard.path + suffix, self.earlier.read(self.earlier.path + suffix))

    def of_another_attempt(self, change: Callable[[list[bytes]], list[bytes]]) -> None:
        """Put an archive there as another attempt would have found it."""
        self.shard.archive_lines(change(self.shard.lines))


def edited(lines: list[bytes]) -> list[bytes]:
    """The same ids, and one item of another version."""
    return [lines[0].replace(b'"properties"', b'"edited": true, "properties"', 1), *lines[1:]]


ARCHIVE, RECEIPT = ".ndjson.zst", ".receipt.json"
DAMAGES: dict[str, Callable[[Victim], None]] = {
    "a bit of an archive": lambda victim: victim.flipped(victim.shard.archive),
    "a bit of a receipt": lambda victim: victim.flipped(victim.shard.receipt),
    "a cut archive": lambda victim: victim.cut(victim.shard.archive),
    "a cut receipt": lambda victim: victim.cut(victim.shard.receipt),
    "no archive": lambda victim: victim.shard.container.delete_blob(victim.shard.archive),
    "no receipt": lambda victim: victim.shard.container.delete_blob(victim.shard.receipt),
    "swapped archives": lambda victim: victim.swap(ARCHIVE),
    "swapped receipts": lambda victim: victim.swap(RECEIPT),
    "swapped shards": lambda victim: victim.swap(ARCHIVE, RECEIPT),
    "an earlier archive": lambda victim: victim.take_over(ARCHIVE),
    "an earlier receipt": lambda victim: victim.take_over(RECEIPT),
    "an earlier shard": lambda victim: victim.take_over(ARCHIVE, RECEIPT),
    "an attempt that found less": lambda victim: victim.of_another_attempt(lambda lines: lines[1:]),
    "an attempt that found more": lambda victim: victim.of_another_attempt(
        lambda lines: [*lines, lines[0].replace(b'"id":"', b'"id":"x', 1).replace(b'"id": "', b'"id": "x', 1)]
    ),
    "an attempt that found another version": lambda victim: victim.of_another_attempt(edited),
}
MOMENTS = ("between two runs", "before compaction")


class InterruptedRunError(Exception):
    """Ends a run before compaction."""


@dataclass(frozen=True)
class World:
    """An environment before the demo catalog, its items, and an earlier harvest of some of them."""

    site: Site
    container: ContainerClient
    items: Lines
    earlier: str

    def shards(self, harvest_id: str) -> list[Shard]:
        """The shards of a harvest that brought items."""
        names = self.container.list_blob_names(name_starts_with=f"harvests/{harvest_id}/items/")
        found = [Shard(self.container, name.removesuffix(ARCHIVE)) for name in names if name.endswith(ARCHIVE)]
        return [shard for shard in found if shard.lines]

    def damage(self, harvest_id: str, kinds: Sequence[str], dice: random.Random) -> None:
        """Do so many kinds of damage, to shards of their own as far as there are enough."""
        shards = self.shards(harvest_id)
        dice.shuffle(shards)
        for number, kind in enumerate(kinds):
            shard, other = shards[number % len(shards)], shards[number - 1]
            same = [each for each in self.shards(self.earlier) if collection_of(each) == collection_of(shard)]
            DAMAGES[kind](Victim(shard, other, dice.choice(same or self.shards(self.earlier)), dice))


def sibling(receipt: Path) -> Path:
    """The archive that a receipt is of."""
    return receipt.with_name(receipt.name.replace(RECEIPT, ARCHIVE))


def collection_of(shard: Shard) -> str:
    """The folder that a shard is in."""
    return shard.path.split("/")[-2]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory, prefect_server: None) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("site")
    flags = ("--demo-items", str(ITEMS), "--clock", "instant")
    with running_site(folder, *flags, requests_per_second="400") as site:
        site.provision()
        earlier = site.harvest(query_from(content="items", bbox="-120,-50,20,60"), output=folder / "earlier")
        site.harvest(query_from(content="items"), output=folder / "whole")
        with site.environment(), disable_run_logger():
            container = results(site.azure, read_environment.fn(site.azure))
        yield World(site, container, archived(folder / "whole"), earlier.manifest.harvest_id)


def harvested(world: World, query: Query, damages: Sequence[tuple[str, Sequence[str]]], output: Path) -> Harvest:
    """Harvest while damage is done, at one moment of each run, until a run ends well."""
    untouched, dice, left = flows.harvest.compact, random.Random(SEED), [*damages]  # noqa: S311  # it guards nothing

    def compact(*arguments: Any) -> Any:
        if left:
            moment, kinds = left.pop(0)
            world.damage(arguments[3], kinds, dice)
            if moment == "between two runs":
                raise InterruptedRunError
        return untouched(*arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(flows.harvest, "compact", compact)
        for _ in range(RUNS - 1):
            try:
                return world.site.harvest(query, output=output)
            except (HarvestError, InterruptedRunError) as error:
                LOGGER.warning("%s: %s", type(error).__name__, error)
        return world.site.harvest(query, output=output)


def check(world: World, damages: Sequence[tuple[str, Sequence[str]]], output: Path) -> None:
    """Harvest under damage, and compare what is called complete with the catalog."""
    query = query_from(content="items", filter=f"id <> '{digest(repr(damages), 12)}'")
    done = harvested(world, query, damages, output)
    assert (done.manifest.complete, done.manifest.verified) == (True, True)
    found = archived(output)
    assert sorted(found) == sorted(world.items)
    assert found == world.items
    for file in output.glob(f"harvests/*/items/*/*{RECEIPT}"):
        lines = zstandard.ZstdDecompressor().stream_reader(sibling(file).read_bytes()).read().splitlines()
        receipt = json.loads(file.read_bytes())
        assert (receipt["name"], receipt["count"]) == (file.name.removesuffix(RECEIPT), len(lines))


def test_damage_between_the_steps_of_a_harvest_does_not_reach_its_end(world: World, tmp_path: Path) -> None:
    dice = random.Random(SEED)  # noqa: S311  # it guards nothing
    of_archives = sorted(kind for kind in DAMAGES if "receipt" not in kind and "shard" not in kind)
    check(world, [(MOMENTS[0], dice.sample(sorted(DAMAGES), 4)), (MOMENTS[1], dice.sample(of_archives, 3))], tmp_path)


@pytest.mark.soak
@pytest.mark.timeout(120)
@pytest.mark.parametrize("moment", MOMENTS)
@pytest.mark.parametrize("kind", DAMAGES)
def test_each_kind_of_damage_alone_does_not_reach_the_end(world: World, kind: str, moment: str, tmp_path: Path) -> None:
    check(world, [(moment, [kind])], tmp_path)
