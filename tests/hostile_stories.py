"""Stories of a hostile catalog, drawn from seeds: its items, its manner, what its adversary does, what is harvested."""

import json
import random
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, fields, replace
from datetime import datetime, timedelta
from typing import Any

from hostile_catalog import BEGAN, COLLECTION, HARMLESS, Catalog, Manner, Page
from hostile_items import Json

YEAR_START = datetime.fromisoformat("2020-01-01T00:00:00Z")
FAR_END = (
    "9999-12-31T23:59:59.9999999Z",
    "9999-12-31T23:59:59.999999Z",
    "2016-12-31T23:59:60Z",
    "2030-06-30T24:00:00Z",
    "10000-01-01T00:00:00Z",
    "0044-03-15T12:00:00Z BC",
    "0001-01-01T00:00:00Z",
)
_MARKED = tuple(f"a{mark}b" for mark in " +?#/%\\")
ODD_IDS = ("..", ".", "%2F", 'q"', "it's", "Köln", "ß", "日本", "~", "_", "-", *_MARKED)
LIES_TOLD = ("leaves out", "ends early", "forgets link", "repeats link", "goes back", "twice", "shuffles", "strangers")
Dice = random.Random


def body(item_id: str, dates: Json, stamp: datetime | None, collection: str = COLLECTION, **properties: Any) -> bytes:
    """An item's bytes; `_msft:ts` beside `properties`, as a GeoCatalog has it."""
    written = {} if stamp is None else {"_msft:ts": f"{stamp:%Y-%m-%dT%H:%M:%S.%fZ}", "_msft:etag": f"{stamp:%f}"}
    document = {
        "id": item_id,
        "type": "Feature",
        "links": None if item_id.endswith("7") else [],
        "assets": {},
        **written,
        "geometry": {"type": "Point", "coordinates": [1.5, 2]},
        "collection": collection,
        "properties": {**dates, **properties},
        "stac_version": "1.0.0",
    }
    return json.dumps(document, ensure_ascii=len(item_id) % 2 == 0).encode()


def text_of(moment: datetime) -> str:
    """As GeoCatalog writes it."""
    return moment.isoformat().replace("+00:00", "Z")


def at(moment: datetime) -> Json:
    """The dates of an item of one instant."""
    return {"datetime": text_of(moment)}


@dataclass(frozen=True)
class Moves:
    """What an adversary does: how likely each move is, per call or page."""

    chances: tuple[tuple[str, float], ...] = ()
    seed: int = 0
    stamped: bool = True
    """Whether its edits change `_msft:ts`."""
    least_stable: int = 0
    """Items that it never touches are not fewer."""

    def before(self, catalog: Catalog) -> None:
        """Edit anywhere."""
        self._play(catalog, ANYWHERE, None)

    def after(self, catalog: Catalog, page: Page) -> None:
        """Edit around the end of the page just served."""
        if page.items:
            self._play(catalog, AT_THE_PAGE, page)

    def _play(self, catalog: Catalog, moves: "dict[str, Move]", page: Page | None) -> None:
        dice = Dice(f"{self.seed}/{catalog.calls}/{page is None}")
        for name, chance in self.chances:
            if name in moves and dice.random() < chance:
                moves[name](Edit(catalog, page, dice, self))


@dataclass
class Edit:
    """One move of an adversary."""

    catalog: Catalog
    page: Page | None
    dice: Dice
    moves: Moves

    @property
    def stamp(self) -> datetime | None:
        """When the catalog writes it."""
        return self.catalog.now if self.moves.stamped else None

    def put(self, item_id: str, dates: Json, **properties: Any) -> None:
        """Add or replace an item."""
        if self._may_touch(item_id):
            self.catalog.put(body(item_id, dates, self.stamp, n=self.catalog.calls, **properties))

    def remove(self, item_id: str) -> bool:
        """Delete an item, if it may be touched and is there."""
        there = item_id in self.catalog.items and self._may_touch(item_id)
        if there:
            self.catalog.remove(item_id)
        return there

    def _may_touch(self, item_id: str) -> bool:
        catalog = self.catalog
        return item_id not in catalog.stable or len(catalog.stable) > self.moves.least_stable

    def anyone(self) -> str | None:
        """The id of an item."""
        return self.dice.choice(sorted(self.catalog.items)) if self.catalog.items else None

    @property
    def last(self) -> str:
        """The id of the last item of the page."""
        assert self.page
        return self.page.items[-1].id

    @property
    def following(self) -> str:
        """The id of the first item behind the page, or of the last one in it."""
        assert self.page
        return self.page.rest[0].id if self.page.rest else self.last

    def dates(self, item_id: str) -> Json:
        """The dates that an item has now; of one that is gone, a date far behind."""
        found = self.catalog.items.get(item_id)
        held = (found.document.get("properties") or {}) if found else EARLIER
        return {name: value for name, value in held.items() if name.endswith("datetime")}


Move = Callable[[Edit], object]
LATER, EARLIER = at(datetime.fromisoformat("2090-01-01T00:00:00Z")), at(datetime.fromisoformat("1950-01-01T00:00:00Z"))


def _near(edit: Edit) -> Json:
    """A date of an item a little behind the page, or else far behind."""
    rest = edit.page.rest[1:6] if edit.page else []
    return edit.dates(edit.dice.choice(rest).id) if rest else LATER


def _rename(edit: Edit) -> None:
    dates = edit.dates(edit.last)
    if edit.remove(edit.last):
        edit.put(f"{edit.last}-renamed", dates)


def _swap(edit: Edit) -> None:
    one, other = edit.anyone(), edit.anyone()
    if one and other:
        dates = edit.dates(one), edit.dates(other)
        edit.put(one, dates[1])
        edit.put(other, dates[0])


def _back_again(edit: Edit) -> None:
    """Delete an item, and write it again as it was."""
    name = edit.anyone()
    if name:
        dates = edit.dates(name)
        if edit.remove(name):
            edit.put(name, dates)


def _grow_at(prefix: str, dates: Json) -> Move:
    """Add an item at one end, each one farther out."""

    def grow(edit: Edit) -> None:
        distance = timedelta(days=edit.catalog.calls)
        moment = datetime.fromisoformat(dates["datetime"])
        edit.put(f"{prefix}{edit.catalog.calls:05}", at(moment + (distance if dates is LATER else -distance)))

    return grow


AT_THE_PAGE: dict[str, Move] = {
    "last far ahead": lambda edit: edit.put(edit.last, LATER),
    "last ahead": lambda edit: edit.put(edit.last, _near(edit)),
    "last behind": lambda edit: edit.put(edit.last, EARLIER),
    "last deleted": lambda edit: edit.remove(edit.last),
    "last renamed": _rename,
    "last edited": lambda edit: edit.put(edit.last, edit.dates(edit.last)),
    "next behind": lambda edit: edit.put(edit.following, EARLIER),
    "next deleted": lambda edit: edit.remove(edit.following),
    "tie added": lambda edit: edit.put(f"{edit.last}{edit.dice.choice('!z~')}", edit.dates(edit.last)),
}
ANYWHERE: dict[str, Move] = {
    "tail grows": _grow_at("tail", LATER),
    "head grows": _grow_at("head", EARLIER),
    "re-dated": lambda edit: edit.put(name, edit.dates(edit.anyone() or name)) if (name := edit.anyone()) else None,
    "deleted": lambda edit: edit.remove(name) if (name := edit.anyone()) else None,
    "edited": lambda edit: edit.put(name, edit.dates(name)) if (name := edit.anyone()) else None,
    "swapped": _swap,
    "back again": _back_again,
}


@dataclass(frozen=True)
class Story:
    """A catalog, its adversary, and what is harvested."""

    seed: int
    bodies: tuple[bytes, ...] = field(repr=False)
    manner: Manner = field(default_factory=Manner)
    moves: Moves = field(default_factory=Moves)
    shard: tuple[tuple[str, Any], ...] = ()

    @property
    def honest(self) -> bool:
        """Whether nothing excuses a harvest that is not complete: neither oddities nor edits of others do."""
        return self.manner.honest and all(b'"collection": "c"' in line and b"NaN" not in line for line in self.bodies)

    def __str__(self) -> str:
        """What differs from a small, quiet GeoCatalog."""
        odd = {each.name: getattr(self.manner, each.name) for each in fields(Manner)}
        odd = {name: value for name, value in odd.items() if value != getattr(Manner, name)}
        return f"{len(self.bodies)} items; {odd}; {dict(self.moves.chances)}; {dict(self.shard)}"

    @property
    def page_size(self) -> int:
        """Items of the smallest full page; a client that is refused may halve its limit, as far as one."""
        least_accepted = 1 if self.manner.refuses else (self.manner.largest_limit or 2000) // 2 + 1
        return min(int(dict(self.shard)["page_size"]), self.manner.cap or 1000, least_accepted)

    @property
    def most_calls(self) -> int:
        """More calls than a harvest of it can need: it may start over three times, while the catalog grows."""
        return 80 + 24 * (-(-len(self.bodies) // self.page_size) + 1)

    def catalog(self) -> Catalog:
        """The catalog that tells it."""
        return Catalog(self.bodies, self.manner, self.moves, self.seed, self.most_calls)

    def simpler(self) -> Iterator["Story"]:
        """The same with something left out."""
        for size in (len(self.bodies) // 2, len(self.bodies) - 1):
            for some in (self.bodies[:size], self.bodies[-size:]):
                yield replace(self, bodies=some)
        for default in fields(Manner):
            plain = getattr(Manner(), default.name)
            if getattr(self.manner, default.name) != plain:
                yield replace(self, manner=replace(self.manner, **{default.name: plain}))
        for part in ("manner", "moves"):
            chances = getattr(self, part).chances
            for chance in chances:
                fewer = tuple(other for other in chances if other != chance)
                yield replace(self, **{part: replace(getattr(self, part), chances=fewer)})
        for pair in self.shard:
            if pair[0] != "page_size":
                yield replace(self, shard=tuple(other for other in self.shard if other != pair))


def simplest(story: Story, fails: Callable[[Story], bool], seconds: float = 8) -> Story:
    """The simplest story found in that time that still fails."""
    end = time.monotonic() + seconds
    while True:
        for simpler in story.simpler():
            if time.monotonic() > end:
                return story
            if fails(simpler):
                story = simpler
                break
        else:
            return story


def story_of(seed: int) -> Story:
    """The story of a seed."""
    dice = Dice(seed)
    bodies = tuple(_bodies(dice))
    calm = dice.random() < 0.3
    manner = _manner(dice, honest=calm or dice.random() < 0.35)
    moves = Moves() if calm else _moves(dice, seed, len(bodies))
    return Story(seed, bodies, manner, moves, tuple(_shard(dice, bodies).items()))


def _bodies(dice: Dice) -> Iterator[bytes]:
    count = min(dice.randint(10, 150), dice.randint(10, 150))
    odd_ids, unstamped, spelled = dice.random() < 0.4, dice.random() < 0.2, dice.random() < 0.1
    moments = dice.choice((_days, _few_instants, _milliseconds, _mixed))
    ahead = dice.random() < 0.2
    foretold = dice.random() < 0.15
    not_numbers = 0.05 if dice.random() < 0.05 else 0
    for name in _ids(dice, count, odd_ids):
        stamp = BEGAN + (timedelta(seconds=dice.randint(30, 120)) if ahead else -timedelta(days=dice.random() * 90))
        told = {"created": "2031-01-01T00:00:00Z", "updated": "2031-01-01T00:00:00Z"} if foretold else {}
        dates = _dates(dice, moments(dice))
        collection = dice.choice((COLLECTION, COLLECTION.upper())) if spelled else COLLECTION
        line = body(name, dates, None if unstamped else stamp, collection, kind=dice.choice("ab"), **told)
        yield line.replace(b'"kind"', b'"height": NaN, "kind"') if dice.random() < not_numbers else line


def _ids(dice: Dice, count: int, odd: bool) -> list[str]:
    names = [f"i{number:05}" for number in range(count)]
    if odd:
        spelled = [dice.choice(("A-{}", "a{}", "B_{}", "b.{}", "{}", "a-{}")).format(n // 2) for n in range(count)]
        names = list(dict.fromkeys([*ODD_IDS, *spelled]))[:count]
    dice.shuffle(names)
    return names


def _days(dice: Dice) -> datetime:
    return YEAR_START + timedelta(days=dice.randint(0, 364))


def _few_instants(dice: Dice) -> datetime:
    return YEAR_START + timedelta(days=100 * dice.choice((0, 1, 1, 1, 1, 2)))


def _milliseconds(dice: Dice) -> datetime:
    return YEAR_START + timedelta(microseconds=dice.randint(0, 20_000))


def _mixed(dice: Dice) -> datetime:
    return dice.choice((_days, _few_instants, _milliseconds))(dice)


def _dates(dice: Dice, moment: datetime) -> Json:
    """Dates as catalogs write them, some of them oddly."""
    kind = dice.random()
    if kind < 0.04:
        return {"datetime": None}
    if kind < 0.1:
        later = text_of(moment + timedelta(days=dice.randint(1, 400)))
        return {"datetime": dice.choice((None, later)), "start_datetime": text_of(moment), "end_datetime": later}
    if kind < 0.14:
        return {"datetime": f"{moment + timedelta(hours=2):%Y-%m-%dT%H:%M:%S.%f}+02:00"}
    if kind < 0.17:
        return {"datetime": f"{moment:%Y-%m-%dT%H:%M:%S.%f}{dice.randint(1, 9)}Z"}
    if kind < 0.18:
        return {"datetime": dice.choice(FAR_END)}
    return at(moment)


def _manner(dice: Dice, *, honest: bool) -> Manner:
    english = dice.random() < 0.25
    cap = dice.choice((None, None, None, dice.randint(2, 10)))
    chances = [(name, dice.uniform(0.02, 0.1)) for name in HARMLESS if dice.random() < 0.12]
    manner = Manner(
        link=dice.choice(("token", "token", "merge", "get")),
        cap=cap,
        matched=dice.choice(("none", "none", "right")),
        sorts_english=english,
        compares_english=english,
        compressed=dice.random() < 0.1,
        null_links=dice.random() < 0.1,
        chances=tuple(chances),
    )
    for _ in range(0 if honest else dice.choice((1, 1, 2))):
        manner = dice.choice(DISHONESTIES)(dice, manner)
    return manner


Dishonesty = Callable[[Dice, Manner], Manner]


def _lie(dice: Dice, manner: Manner) -> Manner:
    return replace(manner, chances=(*manner.chances, (dice.choice(LIES_TOLD), dice.uniform(0.03, 0.3))))


DISHONESTIES: tuple[Dishonesty, ...] = (
    *[_lie] * 10,
    lambda dice, manner: replace(manner, lacks=tuple(dice.sample(("sort", "fields", "filter"), dice.randint(1, 3)))),
    lambda dice, manner: replace(manner, ignores=(dice.choice(("sort", "fields", "filter")),)),
    lambda dice, manner: replace(manner, ignores=(dice.choice(("direction", "second key")),)),
    lambda dice, manner: replace(manner, refuses=(dice.choice(("sortby", "fields", "filter", "ids")),)),
    lambda _dice, manner: replace(manner, link="none"),
    lambda dice, manner: replace(manner, cap=dice.randint(2, 10), ends_at_cap=True),
    lambda dice, manner: replace(manner, largest_limit=dice.randint(1, 20)),
    lambda dice, manner: replace(manner, matched=dice.choice(("more", "zero"))),
    lambda _dice, manner: replace(manner, sorts_english=not manner.sorts_english),
    lambda _dice, manner: replace(manner, milliseconds=True),
    lambda dice, manner: replace(manner, ids_comparison=dice.choice(("true", "unknown"))),
    lambda _dice, manner: replace(manner, inclusive=True),
    lambda dice, manner: replace(manner, ids=dice.choice(("other", "foreign", "alone", "ignored", "any-case"))),
    lambda dice, manner: replace(manner, item=dice.choice(("other", "foreign"))),
    lambda dice, manner: replace(manner, stale=dice.randint(1, 3)),
    lambda _dice, manner: replace(manner, undated_first=True),
    lambda _dice, manner: replace(manner, byte_order_mark=True),
    lambda dice, manner: replace(manner, overlap=dice.randint(1, 3)),
    lambda _dice, manner: replace(manner, chances=(*manner.chances, ("429", 0.03))),
)


ODDITIES: dict[str, Manner] = {
    **{f"it {lie} now and then": Manner(chances=((lie, 0.3),)) for lie in LIES_TOLD},
    **{f"it lacks {feature}": Manner(lacks=(feature,)) for feature in ("sort", "fields", "filter")},
    **{
        f"it ignores {feature}": Manner(ignores=(feature,))
        for feature in ("sort", "fields", "filter", "direction", "second key")
    },
    **{f"it refuses {member}": Manner(refuses=(member,)) for member in ("sortby", "fields", "filter", "ids")},
    **{f"ids: {way}": Manner(ids=way) for way in ("other", "foreign", "alone", "ignored", "any-case")},
    **{f"comparisons of ids are {result}": Manner(ids_comparison=result) for result in ("true", "unknown")},
    **{f"numberMatched is {count}": Manner(matched=count) for count in ("more", "zero")},
    "no link leads on": Manner(link="none"),
    "pages end early without a link": Manner(cap=4, ends_at_cap=True),
    "a limit is refused": Manner(largest_limit=4),
    "ids are sorted otherwise than compared": Manner(sorts_english=True),
    "ids are compared otherwise than sorted": Manner(compares_english=True),
    "whole milliseconds are compared": Manner(milliseconds=True),
    "comparisons are inclusive": Manner(inclusive=True),
    "answers are old": Manner(stale=2),
    "undated items come first": Manner(undated_first=True),
    "pages begin with a byte order mark": Manner(byte_order_mark=True),
    "pages overlap": Manner(overlap=2),
}
"""Manners that are odd in one way."""


def odd_story(manner: Manner, seed: int) -> Story:
    """A story of a catalog that is odd in that way, and of edits every now and then."""
    story = story_of(seed)
    moves = replace(story.moves, chances=(("last ahead", 0.2), ("deleted", 0.1)), least_stable=len(story.bodies) // 2)
    bodies = tuple(line.replace(b'"collection": "C"', b'"collection": "c"') for line in story.bodies)
    return replace(story, bodies=bodies, manner=manner, moves=moves, shard=(("page_size", 6),))


def _moves(dice: Dice, seed: int, count: int) -> Moves:
    names = dice.sample([*AT_THE_PAGE, *ANYWHERE], dice.randint(1, 4))
    chances = tuple((name, dice.choice((0.1, 0.4, 1.0))) for name in names)
    return Moves(chances, seed, dice.random() < 0.8, dice.randint(count // 3, count - 1))


def _shard(dice: Dice, bodies: tuple[bytes, ...]) -> Json:
    shard: Json = {"page_size": dice.randint(2, 25)}
    kind = dice.random()
    if kind < 0.1:
        shard["undated"] = True
    elif kind < 0.5:
        first, last = sorted((_mixed(dice), _mixed(dice)))
        shard |= {"start": text_of(first)} if dice.random() < 0.8 else {}
        shard |= {"end": text_of(last)} if last > first and dice.random() < 0.8 else {}
    if dice.random() < 0.15 and "undated" not in shard and ("start" in shard or "end" in shard):
        shard["page_quota"] = dice.randint(1, 4)
    if dice.random() < 0.1:
        shard["filter"] = {"op": "=", "args": [{"property": "kind"}, "a"]}
    return shard
