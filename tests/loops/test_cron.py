"""The loop that enqueues ticks, in virtual time, on the memory store."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from kiqpy import Job, Periodic, worker
from kiqpy._flow.loop import LoopRunner
from kiqpy._intake.admission import Admission, AdmissionSettings
from kiqpy._loops.cron import Cron
from kiqpy.errors import ArgumentError, StoreRefused, StoreUnavailable
from kiqpy.event import Event
from kiqpy.job import decode
from kiqpy.store import OutgoingJob
from kiqpy.store._session import Session
from kiqpy.store.calendar import Calendar, PeriodicState, Tick, TickResult
from kiqpy.store.memory.backend import MemoryBackend, MemoryServer
from kiqpy.testing import FakeClock, rest

pytestmark = pytest.mark.anyio
NOON = datetime(2024, 5, 1, 12, tzinfo=UTC).timestamp()


@worker(retry=3, expires_in=30)
async def job() -> None: ...


@worker(queue="other", unique_for=3600)
async def alone() -> None: ...


class Counted:
    """A calendar whose calls are counted, and can be made to fail."""

    def __init__(self, calendar: Calendar) -> None:
        self._calendar = calendar
        self.looks = 0
        self.fail: Callable[[str], Exception | None] = lambda _name: None
        self.fail_after = False

    async def state(self, names: Any) -> PeriodicState:
        self.looks += 1
        return await self._calendar.state(names)

    async def tick(self, name: str, ticks: list[Tick], enabled: bool) -> list[TickResult]:
        error = self.fail(name)
        if error is not None and not self.fail_after:
            raise error
        answer = await self._calendar.tick(name, ticks, enabled)
        if error is not None:
            raise error
        return answer

    def __getattr__(self, name: str) -> Any:
        return getattr(self._calendar, name)


def admitted(admission: Admission, job: Job) -> OutgoingJob:
    outgoing = admission.at_once(job)
    assert isinstance(outgoing, OutgoingJob)
    return outgoing


class ServerClock:
    """The clock of a server, which can be set."""

    def __init__(self, clock: FakeClock) -> None:
        self._clock = clock
        self.set_back_s = 0.0

    def now(self) -> float:
        return self._clock.now() - self.set_back_s

    def __getattr__(self, name: str) -> Any:
        return getattr(self._clock, name)


class Office:
    """Processes that run the cron loop over one store, from 12:00:00 on."""

    def __init__(self, start: float = NOON) -> None:
        self.clock = FakeClock(start)
        self.server_clock = ServerClock(self.clock)
        self.server = MemoryServer(self.server_clock)
        self.told: list[tuple[str, float]] = []
        self.leading = True
        self.defects: list[Exception] = []
        self._runners: list[tuple[LoopRunner, asyncio.Task[None]]] = []

    def hire(
        self, *entries: Periodic, prepare: Callable[[Job], Any] | None = None
    ) -> tuple[Cron, Counted]:
        ident = f"p{len(self._runners)}"
        session = Session(MemoryBackend(self.server, ident), self.clock)
        admission = Admission(AdmissionSettings(retry=25), self.clock)
        calendar = Counted(session.calendar)

        async def admit(job: Job) -> OutgoingJob | None:
            return admitted(admission, job)

        cron = Cron(
            calendar, entries, prepare or admit, lambda: self.leading, self.clock, self._hear
        )
        runner = LoopRunner(cron, self.clock, lambda _name, error: self.defects.append(error))
        self._runners.append((runner, asyncio.create_task(runner.run())))
        return cron, calendar

    def _hear(self, event: Event) -> None:
        self.told.append((event.periodic, event.tick_at - NOON))  # type: ignore[attr-defined]

    def wake(self) -> None:
        for runner, _ in self._runners:
            runner.wake()

    async def close(self) -> None:
        for runner, task in self._runners:
            runner.stop()
            await rest()
            assert task.done()
        assert not self.defects

    def jobs(self, queue: str = "default") -> list[Job]:
        return [decode(raw) for raw in reversed(self.server.queues[queue])]

    def ticks(self, queue: str = "default") -> list[float]:
        return [job.payload["tick_at"] - NOON for job in self.jobs(queue)]


@pytest.fixture
async def office() -> Any:
    office = Office()
    yield office
    await office.close()


async def test_each_minute_for_an_hour(office: Office) -> None:
    office.hire(Periodic("* * * * *", job))
    await office.clock.advance(3600.1)
    expected = [60.0 * n for n in range(1, 61)]
    assert office.ticks() == expected
    assert office.told == [("job * * * * *", tick) for tick in expected]
    late = [job.payload["enqueued_at"] - job.payload["tick_at"] for job in office.jobs()]
    assert 0 <= min(late) <= max(late) < 0.01, "on time to a hundredth of a second"


async def test_the_job_is_like_one_that_was_enqueued(office: Office) -> None:
    office.hire(Periodic("* * * * *", job, name="mine"))
    await office.clock.advance(60.1)
    [made] = office.jobs()
    at = made.payload["enqueued_at"]
    assert len(made.jid) == 24
    assert made.payload == {
        "class": "job", "args": [], "queue": "default", "retry": 3, "periodic": "mine",
        "tick_at": NOON + 60, "jid": made.jid, "created_at": at, "enqueued_at": at,
        "expires_in": 30.0, "expires_at": at + 30,
    }  # fmt: skip


async def test_every_second(office: Office) -> None:
    office.hire(Periodic("* * * * * *", job), Periodic(worker=job, every=7))
    await office.clock.advance(100.1)
    seconds = [tick for name, tick in office.told if name == "job * * * * * *"]
    sevens = [tick for name, tick in office.told if name == "job every 7s"]
    assert seconds == [float(n) for n in range(1, 101)]
    assert len(sevens) == 14
    assert all((tick + NOON) % 7 == 0 for tick in sevens)


async def test_idle_it_looks_once_in_ten_seconds(office: Office) -> None:
    _, calendar = office.hire(Periodic("0 0 1 1 *", job))
    await office.clock.advance(600)
    assert 55 <= calendar.looks <= 70


async def test_any_number_of_leaders_enqueue_each_tick_once(office: Office) -> None:
    for _ in range(4):
        office.hire(Periodic("* * * * *", job), Periodic("*/10 * * * * *", job, misfire="all"))
    await office.clock.advance(600.1)
    assert len(office.ticks()) == 70
    assert len(set(office.told)) == len(office.told) == 70


async def test_who_does_not_lead_does_nothing_until_it_is_woken(office: Office) -> None:
    office.leading = False
    _, calendar = office.hire(Periodic("* * * * * *", job))
    await office.clock.advance(30)
    assert calendar.looks == 0
    office.leading = True
    office.wake()
    await office.clock.advance(3.1)
    assert len(office.ticks()) == 3


async def test_a_new_entry_begins_with_the_next_tick(office: Office) -> None:
    office.hire(Periodic("*/10 * * * *", job, misfire="all"))
    await office.clock.advance(599)
    assert office.ticks() == []
    await office.clock.advance(1.1)
    assert office.ticks() == [600]


@pytest.mark.parametrize(
    ("misfire", "away_s", "expected"),
    [
        ("one", 300, [60, 300]),
        ("one", 330, [60, 300]),
        ("skip", 330, [60, 300]),
        ("all", 330, [60, 120, 180, 240, 300]),
        ("all", 3 * 3600, [60 * n for n in range(1, 181)]),
    ],
)
async def test_downtime(office: Office, misfire: Any, away_s: int, expected: list[int]) -> None:
    """After one tick there is no leader for a while; then one comes."""
    office.hire(Periodic("* * * * *", job, misfire=misfire))
    await office.clock.advance(61)
    office.leading = False
    await office.clock.advance(away_s - 61)
    office.leading = True
    office.wake()
    await rest()
    assert office.ticks() == expected
    await office.clock.advance(60.1)
    assert len(office.ticks()) == len(expected) + 1, "and on it goes"


async def test_what_is_skipped_is_not_thought_about_again(office: Office) -> None:
    entry = Periodic("0 * * * *", job, misfire="skip")
    office.hire(entry)
    await office.clock.advance(1)
    office.leading = False
    await office.clock.advance(5 * 3600 + 300)
    office.leading = True
    office.wake()
    await rest()
    assert office.ticks() == []
    mark = office.server.marks[entry.name]
    assert mark == (office.clock.now(), False)
    await office.clock.advance(3600)
    assert office.ticks() == [6 * 3600]


async def test_disabled_and_enabled_again(office: Office) -> None:
    entry = Periodic("* * * * *", job, misfire="all")
    _, calendar = office.hire(entry)
    await office.clock.advance(61)
    assert await calendar.switch(entry.name, False, True)
    await office.clock.advance(599)
    assert office.ticks() == [60]
    assert await calendar.switch(entry.name, True, True)
    await office.clock.advance(130)
    assert office.ticks() == [60, 720, 780], "what became due meanwhile is not made good"


async def test_declared_as_disabled(office: Office) -> None:
    entry = Periodic("* * * * *", job, enabled=False)
    _, calendar = office.hire(entry)
    await office.clock.advance(200)
    assert office.ticks() == []
    assert await calendar.switch(entry.name, True, False)
    await office.clock.advance(60.1)
    assert office.ticks() == [240]


async def test_jitter_delays_and_differs(office: Office) -> None:
    office.hire(Periodic("* * * * *", job, jitter=30))
    await office.clock.advance(601)
    assert office.ticks() == []
    schedule = office.server.places["schedule"]
    delays = [score - decode(member).payload["tick_at"] for score, member in schedule.slice(0, 99)]
    assert len(delays) == 10 == len(set(delays))
    assert 0 <= min(delays) <= max(delays) <= 30.01
    assert all("enqueued_at" not in decode(member).payload for _, member in schedule.slice(0, 9))


async def test_a_unique_job_is_not_enqueued_beside_itself(office: Office) -> None:
    office.hire(Periodic("* * * * *", alone))
    await office.clock.advance(601)
    assert office.ticks("other") == [60]
    assert len(office.told) == 1, "who is a duplicate was not enqueued"


async def test_the_store_away_for_ten_minutes(office: Office) -> None:
    _, calendar = office.hire(Periodic("* * * * *", job, misfire="all"))
    calendar.fail = lambda _name: StoreUnavailable("gone")
    await office.clock.advance(601)
    assert office.ticks() == []
    calendar.fail = lambda _name: None
    await office.clock.advance(6)
    assert office.ticks() == [60.0 * n for n in range(1, 11)]
    [told] = office.defects  # once for the whole outage
    assert isinstance(told, StoreUnavailable)
    office.defects.clear()


async def test_lost_answers_double_nothing(office: Office) -> None:
    _, calendar = office.hire(Periodic("*/10 * * * * *", job, misfire="all"))
    calendar.fail = lambda _name: StoreUnavailable("no answer") if calendar.looks % 3 else None
    calendar.fail_after = True
    await office.clock.advance(600.1)
    assert sorted(office.ticks()) == [10.0 * n for n in range(1, 61)]


@pytest.mark.parametrize("error", [StoreRefused("queue:q holds a string"), ArgumentError("big")])
async def test_one_bad_entry_does_not_stop_the_others(
    office: Office, error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    bad, good = Periodic("* * * * *", job, name="bad"), Periodic("* * * * *", job, name="good")
    _, calendar = office.hire(bad, good)
    calendar.fail = lambda name: error if name == "bad" else None
    await office.clock.advance(601)
    assert [name for name, _ in office.told] == ["good"] * 10
    said = [r.getMessage() for r in caplog.records if "bad" in r.getMessage()]
    assert said == [f"periodic bad can't be enqueued: {error}"], "once"
    assert calendar.looks < 100, "and not in a hurry"
    calendar.fail = lambda _name: None
    await office.clock.advance(11)
    assert office.told[-1] == ("bad", 600)


async def test_a_middleware_may_stop_a_tick_and_change_its_queue(office: Office) -> None:
    admission = Admission(AdmissionSettings(), office.clock)

    async def prepare(job: Job) -> OutgoingJob | None:
        if job.payload["tick_at"] == NOON + 120:
            return None
        if job.payload["tick_at"] >= NOON + 180:
            job.payload["queue"] = "other"
        return admitted(admission, job)

    office.leading = False
    office.hire(Periodic("* * * * *", job, misfire="all"), prepare=prepare)
    office.leading = True
    office.wake()
    await rest()
    office.leading = False
    await office.clock.advance(241)
    office.leading = True
    office.wake()
    await rest()
    assert office.ticks() == [60]
    assert office.ticks("other") == [180, 240]
    await office.clock.advance(300)
    assert 120 not in office.ticks()


@pytest.mark.parametrize("month_and_day", [(3, 30), (10, 26)])
async def test_the_clocks_change_under_it(month_and_day: tuple[int, int]) -> None:
    """Over the spring gap and the autumn overlap of Copenhagen."""
    office = Office(datetime(2024, *month_and_day, 23, tzinfo=UTC).timestamp())
    office.hire(
        Periodic("30 2 * * *", job, tz="Europe/Copenhagen", name="fixed"),
        Periodic("5 * * * *", job, tz="Europe/Copenhagen", name="hourly"),
    )
    await office.clock.advance(4 * 3600)
    names = [name for name, _ in office.told]
    assert (names.count("fixed"), names.count("hourly")) == (1, 4)
    await office.close()


async def test_more_missed_ticks_than_are_made_good(
    office: Office, caplog: pytest.LogCaptureFixture
) -> None:
    office.hire(Periodic("* * * * *", job, misfire="all"))
    await office.clock.advance(1)
    office.leading = False
    await office.clock.advance(1005 * 60)
    office.leading = True
    office.wake()
    await rest()
    assert office.ticks() == [60.0 * n for n in range(6, 1006)]
    assert "5 missed ticks are not enqueued" in caplog.text


async def test_more_missed_ticks_than_are_counted(
    office: Office, caplog: pytest.LogCaptureFixture
) -> None:
    office.hire(Periodic(worker=job, every=1, misfire="all"))
    await office.clock.advance(1)
    office.leading = False
    await office.clock.advance(12_000)
    office.leading = True
    office.wake()
    await rest()
    assert "10,000 or more missed ticks are not enqueued" in caplog.text


def daily(cron: str, misfire: Any = "all") -> Periodic:
    return Periodic(cron, job, name="report", misfire=misfire)


@pytest.mark.parametrize("misfire", ["one", "skip", "all"])
async def test_a_changed_schedule_begins_at_the_change(office: Office, misfire: Any) -> None:
    """Weekly to hourly, and back: neither enqueues what it would have been due before."""
    office.hire(daily("0 14 * * *", misfire))
    await office.clock.advance(2 * 3600 + 1)
    assert office.ticks() == [2 * 3600]
    await office.close()
    office.hire(daily("0 * * * *", misfire))
    await office.clock.advance(10)
    assert office.ticks() == [2 * 3600]
    await office.clock.advance(30 * 3600)
    assert office.ticks() == [3600 * n for n in range(2, 33)]
    await office.close()
    office.hire(daily("0  14 * * *", misfire))
    await office.clock.advance(10)
    assert office.ticks()[-1] == 32 * 3600, "its tick of yesterday is not enqueued"
    await office.clock.advance(18 * 3600)
    assert office.ticks()[-1] == (24 + 26) * 3600


async def test_a_restart_with_the_same_schedule_catches_up(office: Office) -> None:
    office.hire(daily("0 * * * *"))
    await office.clock.advance(3601)
    await office.close()
    await office.clock.advance(3 * 3600)
    office.hire(daily("0 *  * * *"))
    await rest()
    assert office.ticks() == [3600 * n for n in range(1, 5)]


async def test_two_releases_that_lead_at_once_lose_no_tick(office: Office) -> None:
    """Each with its own schedule for one name: the mark is theirs together."""
    office.hire(daily("0 * * * *"))
    await office.clock.advance(1800)
    office.hire(daily("30 * * * *"))
    await office.clock.advance(3 * 3600 + 1)
    assert office.ticks() == [1800 * n for n in range(2, 8)]


@pytest.mark.parametrize("back_s", [90.0, 600.0, 3500.0, 3600.0])
async def test_a_server_clock_that_is_set_back_stops_no_periodic(
    office: Office, back_s: float, caplog: pytest.LogCaptureFixture
) -> None:
    """It stood still for as long; two that lead at once must not tick twice then, either."""
    entry = Periodic("* * * * *", job, name="each minute")
    office.hire(entry)
    office.hire(entry)
    await office.clock.advance(3630)
    before = len(office.jobs())
    assert before == 60
    office.server_clock.set_back_s = back_s
    await office.clock.advance(75)
    assert 1 <= len(office.jobs()) - before <= 2
    before = len(office.jobs())
    await office.clock.advance(600)
    assert len(office.jobs()) == before + 10
    told = [record for record in caplog.records if "each minute go on" in record.message]
    assert 1 <= len(told) <= 2, "once in a process at the most"


@pytest.mark.parametrize("back_s", [5.0, 20.0, 3000.0])
async def test_a_tick_that_was_done_is_not_done_again_by_a_clock_that_is_set_back(
    office: Office, back_s: float
) -> None:
    office.hire(Periodic("0 13 * * *", job))
    await office.clock.advance(3602)
    assert office.ticks() == [3600.0]
    office.server_clock.set_back_s = back_s
    await office.clock.advance(2 * 3600)
    assert office.ticks() == [3600.0]
    await office.clock.advance(24 * 3600)
    assert office.ticks() == [3600.0, 25 * 3600.0]
