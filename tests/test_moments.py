"""A moment is to the node scripts what it is to PostgreSQL, which a GeoCatalog keeps items in."""

import random
import runpy
from datetime import UTC, datetime

import psycopg
import pytest
from node_scripts import SCRIPTS

from benchmarks.pgstac import missing, running_postgres

HOLD = """
CREATE FUNCTION hold(told text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE moment timestamptz;
BEGIN
    moment = told::timestamptz;
    IF isfinite(moment) AND extract(year FROM moment) BETWEEN 1 AND 9999 THEN
        RETURN to_char(moment, 'YYYY-MM-DD HH24:MI:SS.US');
    END IF;
    RETURN NULL;
EXCEPTION WHEN OTHERS THEN RETURN NULL;
END $$
"""
YEARS, MONTHS = (
    ["0000", "0001", "1582", "1969", "2020", "2024", "9999"],
    ["00", "01", "1", "02", "06", "12", "13"],
)
DAYS, HOURS = ["00", "01", "3", "28", "29", "30", "31", "32"], ["00", "5", "12", "23", "23", "24", "25"]
MINUTES, SECONDS = ["00", "7", "59", "59", "60"], ["00", "8", "59", "59", "60", "61"]
FRACTIONS = [
    "",
    "",
    ".",
    ".5",
    ".999999",
    ".9999994",
    ".9999995",
    ".9999999",
    ".0000005",
    ".0000015",
    ".0000025",
    ".1234565",
]
ZONES = [
    "Z",
    "z",
    "",
    "+00:00",
    "+01:00",
    "-0130",
    "+01",
    "-14:00",
    "+15:59",
    "+16:00",
    "-15:59",
    "+01:60",
    " +01:00",
    "-1:30",
]


def texts(count: int) -> list[str]:
    """Dates as RFC 3339 has them, with four digits of a year, or almost."""
    draw = random.Random(4).choice  # noqa: S311  # the same every time
    days = (f"{draw(YEARS)}-{draw(MONTHS)}-{draw(DAYS)}" for _ in range(count))
    times = (f"{draw('Tt ')}{draw(HOURS)}:{draw(MINUTES)}:{draw(SECONDS)}{draw(FRACTIONS)}" for _ in range(count))
    zones = (draw(ZONES) for _ in range(count))
    minutes = (f"{draw('T ')}{draw(HOURS)}:{draw(MINUTES)}" for _ in range(count))
    some = zip(days, times, minutes, zones, strict=True)
    return [told for day, time, minute, zone in some for told in (day, day + time + zone, day + minute + zone)]


@pytest.mark.skipif(bool(missing()), reason=missing())
@pytest.mark.parametrize("script", ["compact_items.py"])
def test_a_moment_is_what_postgresql_holds_or_unreadable(script: str) -> None:
    instant = runpy.run_path(str(SCRIPTS / script))["instant"]
    with (
        running_postgres() as port,
        psycopg.connect(f"host=127.0.0.1 port={port} user=pgstac dbname=postgres") as server,
    ):
        server.execute("SET TimeZone = 'UTC'")
        server.execute(HOLD)
        query = "SELECT told, hold(told) FROM unnest(%s::text[]) AS told"
        held = dict(server.execute(query, [texts(5000)]).fetchall())
    read = {told: instant(told) for told in held}
    known = {told: datetime.fromisoformat(moment).replace(tzinfo=UTC) for told, moment in held.items() if moment}
    assert len(known) > 1000
    assert {told: (moment, known.get(told)) for told, moment in read.items() if moment != known.get(told)} == {}


@pytest.mark.parametrize("script", ["compact_items.py"])
def test_a_text_of_another_form_names_no_moment(script: str) -> None:
    instant = runpy.run_path(str(SCRIPTS / script))["instant"]
    odd = [
        "now",
        "infinity",
        "20200101",
        "2020-W01-1",
        "2020-01-01T00:00:00,5Z",
        "\uff12020-01-01",
        "2020-01-01T00:00:00Z\n",
        "",
        None,
        5,
    ]
    assert [instant(told) for told in odd] == [None] * len(odd)
