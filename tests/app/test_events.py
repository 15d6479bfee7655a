"""Every event of the catalogue is emitted by a running app, and reaches `attach`."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Awaitable, Callable
from typing import Any, ClassVar, TypeVar

import pytest

from kiqpy import App, Discard, Job, Reporter, Snooze, event, worker
from kiqpy.event import Event
from kiqpy.periodic import Periodic
from tests.eventually import eventually
from tests.server import TestServer

pytestmark = pytest.mark.anyio

# Events whose cause is still being built: none of them may stay here.
NOT_YET_MADE_TO_HAPPEN: set[str] = set()

K = TypeVar("K", bound=Event)


class Play:
    """A server, and all that the apps of one scenario say."""

    def __init__(self, server: TestServer, monkeypatch: pytest.MonkeyPatch) -> None:
        self.server, self.monkeypatch = server, monkeypatch
        self.events: list[Event] = []
        self.gate = gates[0] = asyncio.Event()
        self.begun = gates[1] = asyncio.Event()
        self.left_over = gates[2] = asyncio.Event()

    def app(self, **options: Any) -> App:
        options = {"redis_url": self.server.url, "workers": WORKERS, "queues": {"default": 5}} | (
            options
        )
        app = App(**options)
        app.attach("*", self.events.append)
        return app

    async def told(self, kind: type[K]) -> K:
        """The first event of this kind, as soon as there is one."""
        await eventually(lambda: self.of(kind), kind.name)
        return self.of(kind)[0]

    def of(self, kind: type[K]) -> list[K]:
        return [told for told in self.events if isinstance(told, kind)]


Scenario = Callable[[Play], Awaitable[None]]
SCENARIOS: dict[type[Event], Scenario] = {}
SLOW: set[Scenario] = set()
gates: dict[int, asyncio.Event] = {}


def scenario(*kinds: type[Event], slow: bool = False) -> Callable[[Scenario], Scenario]:
    """Says which events it makes happen."""

    def register(play: Scenario) -> Scenario:
        SCENARIOS.update(dict.fromkeys(kinds, play))
        SLOW.update([play] if slow else [])
        return play

    return register


# -- the jobs


@worker
async def note(n: int) -> None: ...


@worker
async def unwanted() -> Discard:
    return Discard("not today")


@worker
async def later() -> Snooze:
    return Snooze(1000)


@worker(retry=1, backoff=lambda _count, _error, _job: 500.0)
async def fails() -> None:
    raise ValueError("no")


@worker(retry=0)
async def fails_at_once() -> None:
    raise ValueError("no")


@worker
async def waits() -> None:
    gates[1].set()
    await gates[0].wait()


@worker(timeout=0.05)
async def swallows() -> None:
    while not gates[0].is_set():
        try:
            await gates[0].wait()
        except asyncio.CancelledError:
            continue


@worker(backoff=lambda _count, _error, _job: "soon")
async def junk() -> None:
    raise ValueError("no")


@worker
async def leaks() -> None:
    kept.append(asyncio.create_task(left_over(), name="left over"))


async def left_over() -> None:
    try:
        await asyncio.Event().wait()
    finally:
        gates[2].set()


kept: list[asyncio.Task[None]] = []


@worker
async def blocks() -> None:
    time.sleep(0.6)  # noqa: ASYNC251  # that is what is wrong with it


@worker
def keeps_thread() -> None:
    thread_gate.wait(60)


thread_gate = threading.Event()
WORKERS = [
    *(note, unwanted, later, fails, fails_at_once, waits, swallows, blocks, junk, leaks),
    keeps_thread,
]


# -- jobs that come and go


@scenario(event.JobEnqueued)
async def a_job_is_pushed(play: Play) -> None:
    async with play.app().client_only() as jobs:
        now = await jobs.enqueue(note.new(1))
        soon = await jobs.enqueue(note.new(2), in_=60)
        jobs.enqueue_nowait(note.new(3))
        await jobs.flush()
    told = play.of(event.JobEnqueued)
    assert [(one.job.args, one.state) for one in told] == [
        ([1], "queued"), ([2], "scheduled"), ([3], "queued"),
    ]  # fmt: skip
    assert [one.job.jid for one in told[:2]] == [now.jid, soon.jid]


@scenario(event.JobStarted, event.JobSuccess, event.JobStopped)
async def a_job_runs(play: Play) -> None:
    async with play.app() as jobs:
        receipt = await jobs.enqueue(note.new(1))
        await play.told(event.JobStopped)
    about = [told for told in play.events if getattr(told, "job", None) is not None]
    assert [told.name for told in about] == [
        "job.enqueued", "job.started", "job.success", "job.stopped",
    ]  # fmt: skip
    assert {told.job.jid for told in about} == {receipt.jid}  # type: ignore[attr-defined]
    [success] = play.of(event.JobSuccess)
    assert 0 <= success.took_s < 20
    assert success.waited_s is not None
    assert 0 <= success.waited_s < 20


@scenario(event.JobAborted)
async def a_job_discards_itself_expires_or_is_halted(play: Play) -> None:
    async def halts(job: Job, call_next: Any) -> None:
        if job.class_ != "note":
            await call_next(job)

    async with play.app(middleware=[halts]) as jobs:
        await jobs.enqueue(unwanted.new())
        await jobs.enqueue(note.new(1))
        await jobs.enqueue(Job("waits", expires_in=1e-9))
        await eventually(lambda: len(play.of(event.JobAborted)) == 3, "three aborts")
    reasons = {told.job.class_: told.reason for told in play.of(event.JobAborted)}
    assert reasons == {"unwanted": "not today", "note": "halted", "waits": "expired"}


@scenario(event.JobSnoozed)
async def a_job_snoozes(play: Play) -> None:
    async with play.app() as jobs:
        await jobs.enqueue(later.new())
        assert (await play.told(event.JobSnoozed)).in_s == 1000
        assert play.server.cli("ZCARD", "schedule") == 1


@scenario(event.JobFailure)
async def a_job_fails(play: Play) -> None:
    async with play.app() as jobs:
        await jobs.enqueue(fails.new())
        told = await play.told(event.JobFailure)
        assert (repr(told.error), told.retry_in_s) == ("ValueError('no')", 500.0)
        assert play.server.cli("ZCARD", "retry") == 1


@scenario(event.JobDead)
async def jobs_die(play: Play) -> None:
    async with play.app() as jobs:
        await jobs.enqueue(fails_at_once.new())
        dead = await play.told(event.JobDead)
        assert dead.job is not None
        assert (dead.job.class_, repr(dead.error)) == ("fails_at_once", "ValueError('no')")
        assert json.loads(dead.raw)["error_message"] == "no"
        play.server.cli("LPUSH", "queue:default", "not json")
        await eventually(lambda: len(play.of(event.JobDead)) == 2, "what can't be read")
    unread = play.of(event.JobDead)[1]
    assert (unread.job, unread.raw) == (None, b"not json")


@scenario(event.JobRecovered, event.JobFenced)
async def a_process_loses_its_lease(play: Play) -> None:
    """The first one's lease is gone; the second takes its job over and runs it to its end."""
    patient = {"heartbeat_interval": 60, "lease_ttl": 200}
    async with play.app(**patient) as first:
        receipt = await first.enqueue(waits.new())
        await asyncio.wait_for(play.begun.wait(), 20)
        await first.quiet()
        play.server.cli("DEL", f"kiq:lease:{first.store.ident}")
        async with play.app(suspicion=0.1, heartbeat_interval=0.1, lease_ttl=1) as second:
            recovered = await play.told(event.JobRecovered)
            play.gate.set()
            fenced = await play.told(event.JobFenced)
            await play.told(event.JobSuccess)
            assert second.store.ident != first.store.ident
    assert recovered == event.JobRecovered(receipt.jid, "default", 1, poison=False)
    assert fenced.job is not None
    assert (fenced.job.jid, fenced.queue) == (receipt.jid, "default")


@scenario(event.JobSwallowedCancel)
async def a_job_goes_on_after_its_cancel(play: Play) -> None:
    play.monkeypatch.setattr("kiqpy._stages.consumer._SWALLOWED_S", 0.1)
    async with play.app() as jobs:
        receipt = await jobs.enqueue(swallows.new())
        told = await play.told(event.JobSwallowedCancel)
        play.gate.set()
    assert (told.job.jid, told.after_s) == (receipt.jid, 0.1)


@scenario(event.JobRetried)
async def a_failed_job_is_to_be_tried_again(play: Play) -> None:
    async with play.app() as jobs:
        receipt = await jobs.enqueue(fails.new())
        told = await play.told(event.JobRetried)
    assert (told.job.jid, repr(told.error), told.in_s) == (receipt.jid, "ValueError('no')", 500.0)
    names = [one.name for one in play.events]
    assert names.index("job.failure") < names.index("job.retried") < names.index("job.stopped")


@scenario(event.JobBackoffRefused)
async def a_backoff_answers_junk(play: Play) -> None:
    async with play.app() as jobs:
        receipt = await jobs.enqueue(junk.new())
        told = await play.told(event.JobBackoffRefused)
    assert told.job.jid == receipt.jid
    assert "soon" in told.error


@scenario(event.JobCancelled)
async def jobs_are_cancelled(play: Play) -> None:
    async with play.app() as jobs:
        kept = await jobs.enqueue(waits.new())
        await asyncio.wait_for(play.begun.wait(), 20)
        await jobs.admin.cancel(kept.jid)
        told = await play.told(event.JobCancelled)
        assert (told.job.jid, told.kept) == (kept.jid, True)
        assert play.server.cli("ZCARD", "dead") == 1
        play.begun.clear()
        gone = await jobs.enqueue(waits.new())
        await asyncio.wait_for(play.begun.wait(), 20)
        await jobs.admin.cancel(gone.jid, keep=False)
        await eventually(lambda: len(play.of(event.JobCancelled)) == 2, "the second")
        assert play.of(event.JobCancelled)[1].kept is False
        assert play.server.cli("ZCARD", "dead") == 1


@scenario(event.JobLeakedTask)
async def a_job_leaves_a_task_behind(play: Play) -> None:
    play.monkeypatch.setattr("kiqpy._loops.leaks._LEAKS_S", 0.05)
    async with play.app(leaked_tasks="cancel") as jobs:
        receipt = await jobs.enqueue(leaks.new())
        told = await play.told(event.JobLeakedTask)
        await asyncio.wait_for(play.left_over.wait(), 20)
    assert (told.job.jid, told.task, told.cancelled) == (receipt.jid, "left over", True)
    assert told.place.startswith(__file__)


# -- the client


@scenario(event.FlushFailed, event.FlushRestored)
async def the_server_is_away_for_a_while(play: Play) -> None:
    async with play.app().client_only() as jobs:
        play.server.kill()
        jobs.enqueue_nowait(note.new(1))
        failed = await play.told(event.FlushFailed)
        play.server.start()
        restored = await play.told(event.FlushRestored)
        await jobs.flush()
    assert failed.buffered == 1
    assert failed.error
    assert 0 < restored.away_s < 60
    assert len(play.of(event.FlushFailed)) == 1


@scenario(event.JobRefused)
async def the_server_refuses_a_job(play: Play) -> None:
    play.server.cli("SET", "queue:default", "no list")
    async with play.app().client_only() as jobs:
        receipt = jobs.enqueue_nowait(note.new(1))
        told = await play.told(event.JobRefused)
    assert (told.jid, told.queue) == (receipt.jid, "default")
    assert json.loads(told.payload)["args"] == [1]
    assert told.error


# -- queues


@scenario(event.FetchFailed, event.FetchRestored)
async def a_queue_is_no_queue_for_a_while(play: Play) -> None:
    play.server.cli("SET", "queue:default", "no list")
    async with play.app():
        told = await play.told(event.FetchFailed)
        play.server.cli("DEL", "queue:default")
        restored = await play.told(event.FetchRestored)
    assert told.queue == restored.queue == "default"
    assert told.error
    assert 0 < restored.away_s < 60
    assert len(play.of(event.FetchFailed)) == len(play.of(event.FetchRestored)) == 1


@scenario(event.QueuePausing, event.QueuePaused, event.QueueRunning, slow=True)
async def a_queue_is_paused_and_resumed(play: Play) -> None:
    async with play.app(heartbeat_interval=0.1, lease_ttl=10) as jobs:
        await jobs.enqueue(waits.new())
        await asyncio.wait_for(play.begun.wait(), 20)
        await jobs.admin.pause("default")
        assert await play.told(event.QueuePausing) == event.QueuePausing("default", running=1)
        assert play.of(event.QueuePaused) == []
        play.gate.set()
        assert await play.told(event.QueuePaused) == event.QueuePaused("default")
        await jobs.admin.resume("default")
        assert await play.told(event.QueueRunning) == event.QueueRunning("default")
        await jobs.enqueue(note.new(1))
        await eventually(lambda: len(play.of(event.JobSuccess)) == 2, "the job after the pause")


@scenario(event.QueueRestarted)
async def a_stage_breaks(play: Play) -> None:
    def breaks(*_args: object) -> None:
        play.monkeypatch.undo()
        raise RuntimeError("a defect")

    play.monkeypatch.setattr("kiqpy._stages.settler.decide", breaks)
    async with play.app() as jobs:
        await jobs.enqueue(note.new(1))
        told = await play.told(event.QueueRestarted)
        await play.told(event.JobSuccess)
    assert (told.queue, told.error, told.restarts) == ("default", "RuntimeError('a defect')", 1)


@scenario(event.LoopFailed)
async def a_loop_breaks(play: Play) -> None:
    async def breaks(_self: object, _limit: int) -> None:
        play.monkeypatch.undo()
        raise RuntimeError("a defect")

    play.monkeypatch.setattr("kiqpy.store._session.Session.promote", breaks)
    async with play.app() as jobs:
        assert await play.told(event.LoopFailed) == event.LoopFailed(
            "promote", "RuntimeError('a defect')"
        )
        await jobs.enqueue(note.new(1), in_=0.2)
        await play.told(event.JobSuccess)  # it is tried again
        assert not play.of(event.QueueRestarted)


@scenario(event.ReporterDetached)
async def a_reporter_raises(play: Play) -> None:
    class Raises(Reporter):
        limit: ClassVar[int] = 1

        def handle_success(self, job: Job, meta: event.JobSuccess) -> None:
            raise ValueError("no")

    async with play.app(reporters=[Raises]) as jobs:
        await jobs.enqueue_many([note.new(n) for n in range(6)])
        told = await play.told(event.ReporterDetached)
    assert told.reporter.endswith("Raises")
    assert "ValueError" in told.reason


# -- the process


@scenario(event.ProcessStopping)
async def a_process_is_told_to_stop(play: Play) -> None:
    async with play.app(shutdown_timeout=7) as jobs:
        ident = jobs.store.ident
    assert play.of(event.ProcessStopping) == [event.ProcessStopping(ident, 7.0)]
    names = [told.name for told in play.events]
    assert names.index("process.stopping") < names.index("process.stopped")


@scenario(event.ProcessStarted, event.ProcessQuiet, event.ProcessStopped)
async def a_process_comes_and_goes(play: Play) -> None:
    async with play.app() as jobs:
        ident = jobs.store.ident
        assert [told.identity for told in play.of(event.ProcessStarted)] == [ident]
        await jobs.quiet()
        assert [told.identity for told in play.of(event.ProcessQuiet)] == [ident]
    assert play.events[-1] == event.ProcessStopped(ident, released=0)


@scenario(event.LeaseLapsed)
async def heartbeats_fail_for_too_long(play: Play) -> None:
    async with play.app(heartbeat_interval=0.1, lease_ttl=0.3) as jobs:
        play.server.kill()
        assert (await play.told(event.LeaseLapsed)).identity == jobs.store.ident
        play.server.start()


@scenario(event.LoopLag)
async def a_job_blocks_the_loop(play: Play) -> None:
    async with play.app(heartbeat_interval=0.1, lease_ttl=10) as jobs:
        await jobs.enqueue(blocks.new())
        told = await play.told(event.LoopLag)
        await play.told(event.JobSuccess)
    assert 0.25 < told.lag_s < 20


@scenario(event.ExecutorExhausted)
async def jobs_wait_for_a_thread(play: Play) -> None:
    thread_gate.clear()
    play.monkeypatch.setattr("kiqpy._stages.exhaustion._PATIENCE_S", 0.05)
    async with play.app(threads=1) as jobs:
        await jobs.enqueue_many([keeps_thread.new(), keeps_thread.new()])
        told = await play.told(event.ExecutorExhausted)
        thread_gate.set()
        await eventually(lambda: len(play.of(event.JobSuccess)) == 2, "both to succeed")
    assert play.of(event.ExecutorExhausted) == [told]
    assert told == event.ExecutorExhausted("thread", limit=1, waiting=1)


# -- by the clock


@scenario(event.LeaderElected, event.LeaderResigned, event.PeriodicEnqueued)
async def a_periodic_is_due(play: Play) -> None:
    every_second = Periodic(worker=note, args=[1], every=1, name="tick")
    async with play.app(periodics=[every_second]) as jobs:
        ident = jobs.store.ident
        elected = await play.told(event.LeaderElected)
        enqueued = await play.told(event.PeriodicEnqueued)
        success = await play.told(event.JobSuccess)
    assert elected == event.LeaderElected(ident)
    assert play.of(event.LeaderResigned) == [event.LeaderResigned(ident)]
    assert (enqueued.periodic, enqueued.jid) == ("tick", success.job.jid)
    assert abs(enqueued.tick_at - time.time()) < 60


# -- while it runs


async def test_who_comes_later_hears_from_then_on_and_who_leaves_no_more(
    clean: TestServer,
) -> None:
    """A start was told only to those who had been there when the app started."""
    late: list[Any] = []
    ended: list[int] = []
    async with App(redis_url=clean.url, workers=WORKERS) as jobs:
        await jobs.enqueue(note.new(1))
        await eventually(lambda: clean.cli("GET", "stat:processed") == "1", "its ack")
        jobs.attach("job.*", late.append)
        await asyncio.to_thread(
            jobs.attach, "job.stopped", lambda told: ended.append(told.job.args[0])
        )
        await jobs.enqueue(note.new(2))
        await eventually(lambda: 2 in ended, "the end of the second")
        jobs.detach(late.append)
        await jobs.enqueue(note.new(3))
        await eventually(lambda: 3 in ended, "the end of the third")
    assert [told.name for told in late if told.job.args == [2]] == [
        "job.enqueued", "job.started", "job.success", "job.stopped",
    ]  # fmt: skip
    assert not [told for told in late if told.job.args == [3]]


# -- all of them


def the_catalogue() -> list[type[Event]]:
    found = [kind for kind in vars(event).values() if isinstance(kind, type)]
    return [kind for kind in found if issubclass(kind, Event) and kind is not Event]


def each() -> list[Any]:
    """A case for each event; the same scenario for several of them runs only once."""
    first = {play: kind for kind, play in reversed(SCENARIOS.items())}
    return [
        pytest.param(kind, id=kind.name, marks=[pytest.mark.slow] if play in SLOW else [])
        for play, kind in reversed(first.items())
    ]


@pytest.mark.parametrize("kind", each())
async def test_it_is_heard(
    kind: type[Event], clean: TestServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    play = Play(clean, monkeypatch)
    await SCENARIOS[kind](play)
    for other, scene in SCENARIOS.items():
        assert scene is not SCENARIOS[kind] or play.of(other)


def test_every_event_has_a_scenario() -> None:
    missing = {kind.name for kind in the_catalogue()} - {kind.name for kind in SCENARIOS}
    assert missing <= NOT_YET_MADE_TO_HAPPEN, "write a @scenario for it"
    assert not NOT_YET_MADE_TO_HAPPEN - missing, "it has a scenario: take it off the list"
