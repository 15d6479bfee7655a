"""Declaring periodic jobs: what is accepted, what is refused and how, missed ticks."""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta, timezone
from itertools import pairwise
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from kiqpy import App, ArgumentError, ConfigError, Periodic, Worker, worker
from kiqpy.periodic import MAX_CAUGHT_UP, MAX_COUNTED, DueTicks, declared


@worker(queue="mail", retry=7)
async def send(n: int = 0) -> None: ...


class Export(Worker, queue="exports"):
    async def perform(self, n: int) -> None: ...


def at(text: str) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()


def shown(instants: Sequence[float], form: str = "%a %d %H:%M") -> list[str]:
    return [datetime.fromtimestamp(instant, UTC).strftime(form) for instant in instants]


def in_may(cron: str, days: int = 31, form: str = "%d %H:%M", **more: Any) -> list[str]:
    """Of May 2024, which begins on a Wednesday."""
    start = at("2024-05-01") - 1
    return shown(Periodic(cron, send, **more).ticks(start, start + days * 86_400), form)


@pytest.mark.parametrize(
    ("cron", "days", "expected"),
    [
        ("0 9 * * 1-5", 5, ["01 09:00", "02 09:00", "03 09:00"]),
        ("0 9 * * mon-fri", 5, ["01 09:00", "02 09:00", "03 09:00"]),
        ("0 9 * * MON-Fri", 5, ["01 09:00", "02 09:00", "03 09:00"]),
        ("0 9 * * 0", 12, ["05 09:00", "12 09:00"]),
        ("0 9 * * 7", 12, ["05 09:00", "12 09:00"]),
        ("0 9 * * SUN", 12, ["05 09:00", "12 09:00"]),
        ("0 9 * * sat-sun", 6, ["04 09:00", "05 09:00"]),
        ("0 9 * * 6-7", 6, ["04 09:00", "05 09:00"]),
        ("0 9 * * fri-mon", 7, ["03 09:00", "04 09:00", "05 09:00", "06 09:00"]),
        ("0 9 * * 3-3", 10, ["01 09:00", "08 09:00"]),  # croniter: every day
        ("5-5 9-9 2-2 5-5 *", 31, ["02 09:05"]),
        ("0 0 3 * 0", 12, ["03 00:00", "05 00:00", "12 00:00"]),  # both restricted: either
        ("0 0 3 * *", 12, ["03 00:00"]),
        ("0 0 * * 5", 12, ["03 00:00", "10 00:00"]),
        ("0 0 3 * 0-6", 2, ["01 00:00", "02 00:00"]),  # either, and one always does
        ("0 0 ? * 5", 12, ["03 00:00", "10 00:00"]),
        ("0 0 * JAN,may *", 2, ["01 00:00", "02 00:00"]),
        ("0 0 * nov-feb *", 31, []),
        ("0 22-1 * * *", 1, ["01 00:00", "01 01:00", "01 22:00", "01 23:00"]),
        ("*/20,50 23 * * *", 1, ["01 23:00", "01 23:20", "01 23:40", "01 23:50"]),
        ("5/25 23 * * *", 1, ["01 23:05", "01 23:30", "01 23:55"]),
        ("1-10/4 23 * * *", 1, ["01 23:01", "01 23:05", "01 23:09"]),
        ("58-2/2 23 * * *", 1, ["01 23:00", "01 23:02", "01 23:58"]),
        ("0 0 L * *", 31, ["31 00:00"]),
        ("0 0 4W * *", 31, ["03 00:00"]),
        ("0 0 * * fri#2", 31, ["10 00:00"]),
        ("0 0 * * L5", 31, ["31 00:00"]),
        ("@daily", 2, ["01 00:00", "02 00:00"]),
        ("@midnight", 1, ["01 00:00"]),
        ("@weekly", 7, ["05 00:00"]),
        ("@monthly", 31, ["01 00:00"]),
        ("@yearly", 31, []),
        ("@Hourly", 1, [f"01 {hour:02}:00" for hour in range(24)]),
        (" 0  12\t* * * ", 1, ["01 12:00"]),
    ],
)
def test_what_is_understood(cron: str, days: int, expected: list[str]) -> None:
    assert in_may(cron, days) == expected


def test_the_second_comes_first_of_six_fields() -> None:
    found = in_may("*/20 59 23 * * *", 1, "%H:%M:%S")
    assert found == ["23:59:00", "23:59:20", "23:59:40"]
    assert in_may("30 5 1 * * *", 1, "%H:%M:%S") == ["01:05:30"]


def test_every_year() -> None:
    assert shown([Periodic("@annually", send).next(at("2024-05-01"))]) == ["Wed 01 00:00"]
    leap = Periodic("0 0 29 2 *", send)
    assert leap.next(at("2024-02-29")) == at("2028-02-29")


@pytest.mark.parametrize(
    ("cron", "said"),
    [
        ("*/5 25 * * *", "*/5 25 * * *: field 2, hour: 25 is not within 0-23"),
        ("60 * * * *", "field 1, minute: 60 is not within 0-59"),
        ("0 0 0 * *", "field 3, day of month: 0 is not within 1-31"),
        ("0 0 32 * *", "field 3, day of month: 32 is not within 1-31"),
        ("0 0 * 13 *", "field 4, month: 13 is not within 1-12"),
        ("0 0 * * 8", "field 5, weekday: 8 is not within 0-7"),
        ("61 * * * * *", "field 1, second: 61 is not within 0-59"),
        ("0 0 24 * * *", "field 3, hour: 24 is not within 0-23"),
        ("0 5-24 * * *", "field 2, hour: 24 is not within 0-23"),
        ("x5 * * * *", "field 1, minute: 'x5' is not understood; it takes 0-59, *, a-b, */n"),
        ("100 * * * *", "field 1, minute: '100' is not understood"),
        ("-1 * * * *", "field 1, minute: '-1' is not understood"),
        ("5- * * * *", "field 1, minute: '5-' is not understood"),
        ("1,,2 * * * *", "field 1, minute: '' is not understood"),
        ("1.5 * * * *", "field 1, minute: '1.5' is not understood"),
        ("٣ * * * *", "field 1, minute: '٣' is not understood"),
        ("R * * * *", "field 1, minute: 'r' is not understood"),
        ("mon * * * *", "field 1, minute: 'mon' is not understood"),
        ("? * * * *", "field 1, minute: '?' is not understood"),
        ("0 0 * * mno", "field 5, weekday: 'mno' is not understood; did you mean 'mon'?"),
        ("0 0 * juni *", "field 4, month: 'juni' is not understood; did you mean 'jun'?"),
        ("*/0 * * * *", "field 1, minute: a step of 0 is not within 1-59"),
        ("*/90 * * * *", "a step of 90 is not within 1-59; for other intervals use every="),
        ("0 0 15w,20 * *", "field 3, day of month: '15w,20'"),
        ("0 0 31 2,4 *", "0 0 31 2,4 *: no day is ever like that (day 31 of month 2,4)"),
        ("* * * *", "4 fields; give 5 (minute, hour, day of month, month, weekday), or 6"),
        ("* * * * * * *", "7 fields"),
        ("", "0 fields"),
        ("0 9 * * * Europe/Paris", "give the time zone as tz='Europe/Paris'"),
        ("@dayly", "did you mean '@daily'?"),
        ("@every 5m", "for an interval use every="),
        (5, "give an expression such as"),
        (None, "give an expression such as"),
    ],
)
def test_a_bad_expression_names_the_field(cron: Any, said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Periodic(cron, send)
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("given", "name"),
    [
        ("Asia/Tokyo", "Asia/Tokyo"),
        (ZoneInfo("Asia/Tokyo"), "Asia/Tokyo"),
        (ZoneInfo("UTC"), "UTC"),
        (UTC, "UTC"),
    ],
)
def test_a_zone_by_its_name_or_as_an_object(given: Any, name: str) -> None:
    entry = Periodic("0 9 * * *", send, tz=given)
    assert entry == Periodic("0 9 * * *", send, tz=name)
    assert entry.tz == name
    assert declared("periodics", [("0 9 * * *", send, {"tz": given})]) == (entry,)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"tz": "Europe/Copenhagn"}, "did you mean 'Europe/Copenhagen'?"),
        ({"tz": "europe/paris2"}, "did you mean 'Europe/Paris'?"),
        ({"tz": ""}, "no such time zone"),
        ({"tz": None}, "no such time zone"),
        ({"tz": timezone(timedelta(hours=1))}, "no such time zone"),
        ({"tz": "../../etc/passwd"}, "no such time zone"),
        ({"misfire": "al"}, "did you mean 'all'?"),
        ({"misfire": 5}, "give 'one', 'skip' or 'all'"),
        ({"misfire_grace": 0.1}, "at least 1 seconds"),
        ({"jitter": -1}, "at least 0 seconds"),
        ({"every": 30}, "replaces cron="),
        ({"retry": -1}, "retry=-1"),
        ({"queue": "a b"}, "queue name 'a b'"),
        ({"name": ""}, "1 to 200 characters"),
        ({"name": 7}, "1 to 200 characters"),
        ({"args": "ab"}, "args='ab': give a list"),
        ({"args": {"n": 1}}, "give a list"),
        ({"worker": print}, "give a @worker function or a Worker class"),
        ({"worker": None}, "give a @worker function or a Worker class"),
    ],
)
def test_a_bad_option_says_how_it_is_right(options: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Periodic(**{"cron": "* * * * *", "worker": send, **options})
    assert said in str(caught.value)


def test_arguments_that_do_not_fit_are_refused_at_once() -> None:
    with pytest.raises(ArgumentError, match="too many positional"):
        Periodic("* * * * *", send, args=[1, 2])
    with pytest.raises(ArgumentError, match="missing a required argument: 'n'"):
        Periodic("* * * * *", Export)
    with pytest.raises(ArgumentError, match="argument 'n' is a datetime"):
        Periodic("* * * * *", Export, args=[datetime.now(UTC)])


def test_what_is_made_of_it() -> None:
    plain = Periodic("* * * * *", send)
    assert (plain.name, plain.queue) == ("send * * * * *", "mail")
    assert plain.new(5.0).payload == {
        "class": "send", "args": [], "queue": "mail", "retry": 7,
        "periodic": "send * * * * *", "tick_at": 5.0,
    }  # fmt: skip
    assert "tick_at" not in plain.new().payload
    own = Periodic(
        "0 9 * * *", Export, args=[1], queue="other", retry=0, tz="Europe/Paris", name="nine"
    )
    assert (own.name, own.queue) == ("nine", "other")
    assert own.new(5.0).payload["retry"] == 0
    assert Periodic("0 9 * * *", send, tz="Asia/Tokyo").name == "send 0 9 * * * Asia/Tokyo"
    assert own.new(1.0).payload is not own.new(2.0).payload
    with pytest.raises(AttributeError):
        own.tz = "UTC"  # type: ignore[misc]


def test_kiqs_tuples_and_what_is_none() -> None:
    entry = Periodic("5 * * * *", send)
    found = declared("periodics", [
        entry, ("* * * * *", send), ("0 9 * * *", Export, {"args": [1], "tz": "Europe/Paris"}),
        (None, send, {"every": 90, "name": "often"}),
    ])  # fmt: skip
    assert [made.name for made in found] == [
        "send 5 * * * *", "send * * * * *", "Export 0 9 * * * Europe/Paris", "often",
    ]  # fmt: skip
    assert found[0] is entry
    assert found[2].args == (1,)
    assert declared("periodics", found) == found
    for wrong, said in (
        ("* * * * *", "give a list"),
        (5, "give a list"),
        ([("* * * * *",)], "give Periodic("),
        (["* * * * *"], "give Periodic("),
        ([("* * * * *", send, {}, 1)], "give Periodic("),
        ([("* * * * *", send, {"quue": "a"})], "did you mean 'queue'?"),
        ([entry, ("5 * * * *", send)], "two periodics are called 'send 5 * * * *': give one of"),
    ):
        with pytest.raises(ConfigError) as caught:
            declared("periodics", wrong)
        assert said in str(caught.value)


def test_an_app_is_refused_as_it_is_made() -> None:
    class Jobs(App):
        workers = [send]
        periodics = [("*/5 25 * * *", send)]

    with pytest.raises(ConfigError, match="field 2, hour: 25 is not within 0-23"):
        Jobs()
    with pytest.raises(ConfigError, match="two periodics are called"):
        Jobs(periodics=[("* * * * *", send), ("* * * * *", send)])
    with pytest.raises(ConfigError, match="Export is not among workers"):
        App(queues=["exports"], periodics=[("* * * * *", Export, {"args": [1]})])
    App(periodics=[("* * * * *", Export, {"args": [1]})])  # another app runs that queue


def test_every_counts_from_the_epoch_so_that_all_processes_agree() -> None:
    entry = Periodic(worker=send, every=timedelta(minutes=7))
    ticks = entry.ticks(1_700_000_000, 1_700_002_000)
    assert ticks == [1_700_000_400 + 420 * n for n in range(4)]
    assert all(tick % 420 == 0 for tick in ticks)
    assert entry.next(1_700_000_400) == 1_700_000_820
    assert entry.name == "send every 420s"
    thirds = Periodic(worker=send, every=1.1)
    found = thirds.ticks(0, 1_000)
    assert len(found) == 909
    assert all(a < b for a, b in pairwise(found))


def test_ticks_are_bounded() -> None:
    entry = Periodic("* * * * * *", send)
    began = time.process_time()
    ticks = entry.ticks(0, 365 * 86_400)
    assert len(ticks) == MAX_COUNTED
    assert ticks[:2] == [1, 2]
    assert time.process_time() - began < 5


# ---- misfires

MINUTELY = "* * * * *"


def due(cron: str, late: int, minutes: float, **options: Any) -> DueTicks:
    """The last tick was at 12:00, and it is so many minutes and `late` seconds later now."""
    noon = at("2024-05-01T12:00")
    made = Periodic(cron, send, **options).due(noon, noon + 60 * minutes + late)
    return made._replace(ticks=shown(made.ticks, "%H:%M:%S"))


@pytest.mark.parametrize("misfire", ["one", "skip", "all"])
@pytest.mark.parametrize("late", [0, 1, 3, 30, 59])
def test_an_ordinary_tick_is_never_lost(misfire: str, late: int) -> None:
    assert due(MINUTELY, late, 1, misfire=misfire) == (["12:01:00"], 0)
    assert due(MINUTELY, 0, 0, misfire=misfire) == ([], 0)
    assert due(MINUTELY, 59, 0, misfire=misfire) == ([], 0)


def test_one_is_the_latest() -> None:
    assert due(MINUTELY, 5, 10) == (["12:10:00"], 9)
    assert due("*/30 * * * *", 0, 89) == (["13:00:00"], 1)
    assert due("*/30 * * * *", 0, 89, misfire_grace=3600) == (["13:00:00"], 1)
    assert due("*/30 * * * *", 0, 89, misfire_grace=1800) == (["13:00:00"], 1)
    assert due("*/30 * * * *", 0, 89, misfire_grace=60) == ([], 2)


def test_skip_is_the_latest_if_it_is_due_now() -> None:
    assert due(MINUTELY, 5, 10, misfire="skip") == (["12:10:00"], 9)
    assert due("*/30 * * * *", 59, 60, misfire="skip") == (["13:00:00"], 1)
    assert due("*/30 * * * *", 0, 62, misfire="skip") == ([], 2)
    assert due("*/30 * * * *", 0, 62, misfire="skip", misfire_grace=300) == (["13:00:00"], 1)


def test_all_is_each_oldest_first() -> None:
    assert due(MINUTELY, 5, 3, misfire="all") == (["12:01:00", "12:02:00", "12:03:00"], 0)
    assert due(MINUTELY, 5, 3, misfire="all", misfire_grace=70) == (["12:02:00", "12:03:00"], 1)
    long = due(MINUTELY, 0, MAX_CAUGHT_UP + 25, misfire="all")
    assert (len(long.ticks), long.left_out) == (MAX_CAUGHT_UP, 25)
    assert long.ticks[0] == "12:26:00"
    assert due(MINUTELY, 0, MAX_CAUGHT_UP, misfire="all").left_out == 0


@pytest.mark.parametrize(
    ("cron", "misfire", "count", "left_out"),
    [
        ("* * * * * *", "all", MAX_CAUGHT_UP, MAX_COUNTED),
        ("* * * * * *", "one", 1, MAX_COUNTED),
        ("* * 3 * * *", "all", MAX_CAUGHT_UP, MAX_COUNTED),
        ("0 0 1 1 *", "all", 30, 0),
        ("0 0 1 1 *", "skip", 0, 30),
    ],
)
def test_thirty_years_of_ticks_cost_little(
    cron: str, misfire: Any, count: int, left_out: int
) -> None:
    entry = Periodic(cron, send, misfire=misfire, tz="America/New_York")
    began = time.process_time()
    made = entry.due(at("1994-06-01"), at("2024-06-01T12:00"))
    assert (len(made.ticks), made.left_out) == (count, left_out)
    assert time.process_time() - began < 5


def test_what_one_due_leaves_the_next_begins_with() -> None:
    """However often and whenever it is asked, the ticks are those of the expression, each once."""
    entry = Periodic("*/7 3-5 * * *", send, misfire="all", tz="Europe/Copenhagen")
    start = last = at("2024-03-30")
    seen: list[float] = []
    for step in range(400):
        now = start + step * 611.7
        ticks = entry.due(last, now).ticks
        seen += ticks
        last = ticks[-1] if ticks else last
    assert seen == entry.ticks(start, start + 399 * 611.7)
    assert len(seen) > 60
