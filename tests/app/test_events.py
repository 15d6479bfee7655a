"""Every event of the catalogue, made to happen in a running app and heard through `attach`."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable
from typing import Any, ClassVar, TypeVar

import pytest

from kiqpy import App, Discard, Job, Reporter, Snooze, event, worker
from kiqpy.event import Event
from tests.eventually import eventually
from tests.server import TestServer

pytestmark = pytest.mark.anyio

# Events whose cause is still being built: none of them may stay here.
NOT_YET_MADE_TO_HAPPEN = {
    "job.cancelled", "job.retried", "job.backoff_refused", "job.leaked_task", "queue.running",
    "queue.pausing", "queue.paused", "process.stopping", "leader.elected", "leader.resigned",
    "periodic.enqueued",
}  # fmt: skip

K = TypeVar("K", bound=Event)


class Play:
    """A server, and all that the apps of one scenario say."""

    def __init__(self, server: TestServer, monkeypatch: pytest.MonkeyPatch) -> None:
        self.server, self.monkeypatch = server, monkeypatch
        self.events: list[Event] = []
        self.gate = gates[0] = asyncio.Event()
        self.begun = gates[1] = asyncio.Event()

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
gates: dict[int, asyncio.Event] = {}


def scenario(*kinds: type[Event]) -> Callable[[Scenario], Scenario]:
    """Says which events it makes happen."""

    def register(play: Scenario) -> Scenario:
        SCENARIOS.update(dict.fromkeys(kinds, play))
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


@worker
async def blocks() -> None:
    time.sleep(0.6)  # noqa: ASYNC251  # that is what is wrong with it


WORKERS = [note, unwanted, later, fails, fails_at_once, waits, swallows, blocks]


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


@scenario(event.FetchFailed)
async def a_queue_is_no_queue(play: Play) -> None:
    play.server.cli("SET", "queue:default", "no list")
    async with play.app():
        told = await play.told(event.FetchFailed)
    assert told.queue == "default"
    assert told.error


@scenario(event.QueueRestarted)
async def a_stage_breaks(play: Play) -> None:
    def breaks(*_args: object) -> None:
        play.monkeypatch.undo()
        raise RuntimeError("a defect")

    play.monkeypatch.setattr("kiqpy._stages.reporter.decide", breaks)
    async with play.app() as jobs:
        await jobs.enqueue(note.new(1))
        told = await play.told(event.QueueRestarted)
        await play.told(event.JobSuccess)
    assert (told.queue, told.error, told.restarts) == ("default", "RuntimeError('a defect')", 1)


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


# -- all of them


def the_catalogue() -> list[type[Event]]:
    found = [kind for kind in vars(event).values() if isinstance(kind, type)]
    return [kind for kind in found if issubclass(kind, Event) and kind is not Event]


@pytest.mark.parametrize("kind", SCENARIOS, ids=lambda kind: kind.name)
async def test_it_is_heard(
    kind: type[Event], clean: TestServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    play = Play(clean, monkeypatch)
    await SCENARIOS[kind](play)
    assert play.of(kind)


def test_every_event_has_a_scenario() -> None:
    missing = {kind.name for kind in the_catalogue()} - {kind.name for kind in SCENARIOS}
    assert missing <= NOT_YET_MADE_TO_HAPPEN, "write a @scenario for it"
    assert not NOT_YET_MADE_TO_HAPPEN - missing, "it has a scenario: take it off the list"
