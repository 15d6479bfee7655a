"""Changes while an app runs: queues, limits, quiet, pauses, groups."""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections import Counter
from typing import Any

import pytest

from benchmarks.traffic import counting
from kiqpy import App, ConfigError, Job, LifecycleError, QueueGroup, StoreRefused, worker
from kiqpy.clock import SystemClock
from kiqpy.event import Event
from tests.crash.journal import held
from tests.eventually import eventually
from tests.server import TestServer

pytestmark = pytest.mark.anyio

gates: dict[str, asyncio.Event] = {}
ran: list[str] = []


@pytest.fixture(autouse=True)
def fresh() -> None:
    gates.clear()
    ran.clear()


def gate(name: str) -> asyncio.Event:
    return gates.setdefault(name, asyncio.Event())


@worker(name="note")
async def note(name: str) -> None:
    ran.append(name)


@worker(name="waits")
async def waits(name: str) -> None:
    ran.append(name)
    await gate(name).wait()


class Jobs(App):
    queues = {"default": 3}
    workers = [note, waits]
    heartbeat_interval = 0.1
    lease_ttl = 20.0


def app(url: str, **changes: Any) -> Jobs:
    return Jobs(redis_url=url, **changes)


def push(server: TestServer, queue: str, *names: str, of: str = "note") -> None:
    """As any client would: no app of ours need be there."""
    for name in names:
        job = {"class": of, "args": [name], "queue": queue, "jid": f"{of}-{queue}-{name}"}
        server.cli("LPUSH", f"queue:{queue}", json.dumps(job))
    server.cli("SADD", "queues", queue)


def size(server: TestServer, queue: str) -> int:
    return int(str(server.cli("LLEN", f"queue:{queue}")))


async def looks_and_finds_nothing(jobs: Jobs) -> None:
    """Looking is what would start a job; three times, each with its answers."""
    before = len(ran)
    for _ in range(3):
        await jobs.wake()
        await jobs.admin.queues()
    assert len(ran) == before


def heard(jobs: Jobs, pattern: str = "queue.*") -> list[Event]:
    events: list[Event] = []
    jobs.attach(pattern, events.append)
    return events


# -- quiet


async def test_quiet_claims_nothing_and_can_be_taken_back(
    redis_url: str, clean: TestServer
) -> None:
    jobs = app(redis_url)
    events = heard(jobs, "process.*")
    async with jobs:
        await jobs.enqueue(waits.new("runs"))
        await eventually(lambda: ran == ["runs"], "the job that runs")
        await jobs.quiet()
        await jobs.quiet()
        await jobs.enqueue(note.new("later"))
        await looks_and_finds_nothing(jobs)
        assert size(clean, "default") == 1
        ident = jobs.store.ident
        await eventually(lambda: clean.cli("HGET", ident, "quiet") == "true", "its mark")
        gate("runs").set()
        await eventually(lambda: not held(clean), "the end of what ran")
        await looks_and_finds_nothing(jobs)
        await jobs.quiet(False)
        await eventually(lambda: ran == ["runs", "later"], "the other job")
        await eventually(lambda: clean.cli("HGET", ident, "quiet") == "false", "no mark")
    assert [event.name for event in events] == [
        "process.started", "process.quiet", "process.stopping", "process.stopped",
    ]  # fmt: skip


async def test_a_queue_that_is_added_to_a_quiet_process_is_quiet_too(
    redis_url: str, clean: TestServer
) -> None:
    """It was claimed from at once."""
    push(clean, "new", "a")
    async with app(redis_url) as jobs:
        await jobs.quiet()
        await jobs.add_queue("new", 2)
        await looks_and_finds_nothing(jobs)
        assert size(clean, "new") == 1
        await jobs.quiet(False)
        await eventually(lambda: ran == ["a"], "the job")


async def test_a_quiet_process_stops(redis_url: str, clean: TestServer) -> None:
    async with app(redis_url) as jobs:
        await jobs.quiet()
        await jobs.enqueue(note.new("stays"))
    assert size(clean, "default") == 1


async def test_quiet_and_stop_from_another_process(redis_url: str, clean: TestServer) -> None:
    jobs, other = app(redis_url), app(redis_url)
    async with jobs, other.client_only():
        ident = jobs.store.ident
        assert await other.admin.quiet_process(ident)
        await eventually(lambda: clean.cli("HGET", ident, "quiet") == "true", "the quiet")
        await other.enqueue(note.new("stays"))
        await looks_and_finds_nothing(jobs)
        assert await other.admin.stop_process(ident)
        await asyncio.wait_for(jobs.wait_stopped(), 10)
        assert not await other.admin.quiet_process("nobody:1:aa")
    assert size(clean, "default") == 1


# -- pause


async def test_a_pause_is_told_step_by_step_in_each_process(
    redis_url: str, clean: TestServer
) -> None:
    one, other = app(redis_url, queues={"default": 1}), app(redis_url, queues={"default": 3})
    at_one, at_other = heard(one), heard(other)
    async with other:  # the only one that could take the job
        await other.enqueue(waits.new("x"))
        await eventually(lambda: ran == ["x"], "the job that runs")
        async with one:
            assert await one.pause("default")
            assert not await one.pause("default")
            push(clean, "default", "waiting")
            await eventually(lambda: [e.name for e in at_one] == ["queue.paused"], "one's pause")
            await eventually(lambda: [e.name for e in at_other] == ["queue.pausing"], "other's")
            assert [getattr(e, "running", None) for e in at_other] == [1]
            gate("x").set()
            await eventually(lambda: len(at_other) == 2, "the end of what ran")
            assert at_other[1].name == "queue.paused"
            assert ran == ["x"]
            assert size(clean, "default") == 1
            assert (await one.admin.paused(), clean.cli("SMEMBERS", "paused")) == (
                ["default"], ["default"],
            )  # fmt: skip
            assert await other.resume("default")
            assert not await other.resume("default")
            await eventually(lambda: len(at_one) == 2 and len(at_other) == 3, "the resumption")
            await eventually(lambda: ran == ["x", "waiting"], "the job that waited")
    names = ["queue.paused", "queue.running"]
    assert [event.name for event in at_one] == names
    assert [event.name for event in at_other] == ["queue.pausing", *names]


@pytest.mark.parametrize("who", ["itself", "another"])
async def test_a_process_whose_slots_are_all_taken_hears_of_a_pause(
    redis_url: str, clean: TestServer, who: str
) -> None:
    """It asked for no job, and so it did not hear until one of its own had ended."""
    jobs, other = app(redis_url, queues={"default": 2}), app(redis_url, queues=["nothing"])
    events = heard(jobs)
    async with jobs, other:
        for name in "xy":
            await jobs.enqueue(waits.new(name))
        await eventually(lambda: len(ran) == 2, "both")
        await (jobs if who == "itself" else other).pause("default")
        await eventually(lambda: [e.name for e in events] == ["queue.pausing"], "the pause")
        assert [getattr(e, "running", None) for e in events] == [2]
        gate("x").set()
        gate("y").set()
        await eventually(lambda: len(events) == 2, "the end of what ran")
        await jobs.resume("default")
        await eventually(lambda: len(events) == 3, "the resumption")
    assert [e.name for e in events] == ["queue.pausing", "queue.paused", "queue.running"]


async def test_to_pause_a_queue_that_is_being_removed(redis_url: str, clean: TestServer) -> None:
    """The queue was paused, and then a ConfigError said that there was no such queue."""
    async with app(redis_url) as jobs:
        await jobs.enqueue(waits.new("x"))
        await eventually(lambda: ran == ["x"], "the job that runs")
        await jobs.remove_queue("default")
        assert await jobs.pause("default")
        assert await jobs.resume("default")
        gate("x").set()


async def test_a_client_may_pause_and_resume(redis_url: str, clean: TestServer) -> None:
    async with app(redis_url).client_only() as jobs:
        assert await jobs.pause("elsewhere")
        assert clean.cli("SMEMBERS", "paused") == ["elsewhere"]
        assert await jobs.resume("elsewhere")


# -- queues come and go


async def test_a_queue_is_added_removed_and_added_again(redis_url: str, clean: TestServer) -> None:
    async with app(redis_url) as jobs:
        await jobs.add_queue("mail", 2)
        assert jobs.subscriptions() == {"default": 3, "mail": 2}
        push(clean, "mail", "1", "2", "3", of="waits")
        await eventually(lambda: ran == ["1", "2"], "two jobs")
        await jobs.remove_queue("mail")
        assert jobs.subscriptions() == {"default": 3}
        again = asyncio.create_task(jobs.add_queue("mail", 1))
        gate("1").set()
        await eventually(lambda: sum(held(clean).values()) == 1, "the end of the first")
        assert not again.done()
        assert ran == ["1", "2"]
        gate("2").set()
        await again
        await eventually(lambda: ran == ["1", "2", "3"], "the third, by the new line")
        assert jobs.subscriptions() == {"default": 3, "mail": 1}
        gate("3").set()
        await eventually(lambda: not held(clean), "the end of the third")
        await jobs.remove_queue("mail")
        push(clean, "mail", "4")
        await looks_and_finds_nothing(jobs)
    assert held(clean) == {}
    assert size(clean, "mail") == 1


async def test_a_queue_that_two_add_at_once_is_worked_on_once(
    redis_url: str, clean: TestServer
) -> None:
    """Both waited for its last jobs to end, and then each started it: claims were run twice."""
    async with app(redis_url) as jobs:
        await jobs.enqueue(waits.new("x"))
        await eventually(lambda: ran == ["x"], "the job that runs")
        await jobs.remove_queue("default")
        both = asyncio.gather(
            *(jobs.add_queue("default", n) for n in (4, 5)), return_exceptions=True
        )
        await asyncio.sleep(0)
        gate("x").set()
        results = await both
        assert sorted(type(result).__name__ for result in results) == ["ConfigError", "NoneType"]
        assert len(jobs.subscriptions()) == 1
        assert len(list(jobs._lifecycle.running().pipelines._tasks)) == 1


async def test_a_queue_that_waits_to_be_added_is_not_when_the_app_stops(
    redis_url: str, clean: TestServer
) -> None:
    """It was started after the stop, on a store that was closed."""
    jobs = app(redis_url)
    async with jobs:
        await jobs.enqueue(waits.new("x"))
        await eventually(lambda: ran == ["x"], "the job that runs")
        await jobs.remove_queue("default")
        adding = asyncio.create_task(jobs.add_queue("default", 1))
        stopping = asyncio.create_task(jobs.stop(grace=20))
        await asyncio.sleep(0)
        gate("x").set()
        with pytest.raises(LifecycleError, match="'default' is not added: the app is stopping"):
            await adding
        await stopping
    assert clean.cli("SMEMBERS", "processes") == []


async def test_what_can_not_be_added_removed_or_scaled_says_why(redis_url: str) -> None:
    group = QueueGroup(["critical", "low"], concurrency=4)
    async with app(redis_url, queues={"default": 3, "urgency": group}) as jobs:
        for wrong, complaint in (
            (lambda: jobs.add_queue("default"), "'default' is worked on already: use scale"),
            (lambda: jobs.add_queue("low"), "'low' is worked on already: use scale"),
            (lambda: jobs.add_queue("low prio"), "low prio"),
            (lambda: jobs.add_queue("mail", 0), "limit=0: give a whole number, 1 or more"),
            (lambda: jobs.remove_queue("mail"), "no queue 'mail' is worked on here; there are: "),
            (lambda: jobs.remove_queue("low"), "'low' belongs to a group: it can be paused"),
            (lambda: jobs.wake("mail"), "no queue 'mail' is worked on here"),
        ):
            with pytest.raises(ConfigError, match=complaint):
                await wrong()
        with pytest.raises(ConfigError, match="no queue 'mail' is worked on here"):
            jobs.scale("mail", 3)
        with pytest.raises(ConfigError, match="limit=0: give a whole number"):
            jobs.scale("low", 0)
        assert jobs.subscriptions() == {"default": 3, "critical": 4, "low": 4}
        jobs.scale("low", 9)
        assert jobs.subscriptions() == {"default": 3, "critical": 9, "low": 9}


async def test_a_client_has_no_queues_to_change(redis_url: str) -> None:
    """`add_queue` raised an AttributeError."""
    async with app(redis_url).client_only() as jobs:
        with pytest.raises(LifecycleError, match="'mail' is not added: this app only enqueues"):
            await jobs.add_queue("mail", 2)
        with pytest.raises(ConfigError, match="no queue 'default' is worked on here; there are: n"):
            await jobs.remove_queue("default")
        assert jobs.subscriptions() == {}
        await jobs.wake()
        await jobs.unsubscribe_all()


async def test_unsubscribe_all_lets_jobs_end_and_queues_come_back(
    redis_url: str, clean: TestServer
) -> None:
    group = QueueGroup(["critical", "tenant-*"], concurrency=4)
    async with app(redis_url, queues={"default": 3, "urgency": group}) as jobs:
        await jobs.enqueue(waits.new("x"))
        await eventually(lambda: ran == ["x"], "the job that runs")
        await jobs.unsubscribe_all()
        assert jobs.subscriptions() == {}
        push(clean, "critical", "a")
        push(clean, "default", "b")
        push(clean, "tenant-1", "c")
        await looks_and_finds_nothing(jobs)
        gate("x").set()
        await jobs.add_queue("default", 1)
        await jobs.add_queue("critical", 1)
        await eventually(lambda: sorted(ran) == ["a", "b", "x"], "the others")
        await looks_and_finds_nothing(jobs)  # the pattern's group is over
        assert jobs.subscriptions() == {"default": 1, "critical": 1}
    assert size(clean, "tenant-1") == 1


async def test_a_group_that_is_ending_takes_in_no_queue(redis_url: str, clean: TestServer) -> None:
    """Nobody could work on it until the last job of that group had ended."""
    async with app(redis_url, queues=[QueueGroup(["tenant-*"], concurrency=2)]) as jobs:
        push(clean, "tenant-1", "x", of="waits")

        async def found() -> bool:
            await jobs.wake()
            return ran == ["x"]

        await eventually(found, "the job that runs")
        await jobs.unsubscribe_all()
        push(clean, "tenant-2", "y")
        await looks_and_finds_nothing(jobs)
        await asyncio.wait_for(jobs.add_queue("tenant-2", 1), 10)
        await eventually(lambda: ran == ["x", "y"], "the other job")
        gate("x").set()


async def test_a_queue_that_is_removed_twice_is_not_offered_as_one_that_there_is(
    redis_url: str, clean: TestServer
) -> None:
    """It said: no queue 'extra' is worked on here; there are: default, extra."""
    async with app(redis_url, queues=["default", "extra"]) as jobs:
        push(clean, "extra", "x", of="waits")
        await eventually(lambda: ran == ["x"], "the job that runs")
        await jobs.remove_queue("extra")
        with pytest.raises(ConfigError, match=r"it was removed; there are: default$"):
            await jobs.remove_queue("extra")
        with pytest.raises(ConfigError, match=r"no queue 'other' .* there are: default$"):
            await jobs.remove_queue("other")
        gate("x").set()


async def test_scale_up_and_down_while_jobs_run(redis_url: str, clean: TestServer) -> None:
    async with app(redis_url, queues={"default": 1}) as jobs:
        push(clean, "default", *"abcdef", of="waits")
        await eventually(lambda: len(ran) == 1, "one")
        jobs.scale("default", 4)
        await eventually(lambda: len(ran) == 4, "four")
        jobs.scale("default", 2)
        gate("a").set()
        gate("b").set()
        await eventually(lambda: sum(held(clean).values()) == 2, "two ends")
        await looks_and_finds_nothing(jobs)
        gate("c").set()
        await eventually(lambda: len(ran) == 5, "the fifth")
        for name in "def":
            gate(name).set()
        await eventually(lambda: len(ran) == 6 and not held(clean), "all")
    assert Counter(ran) == Counter("abcdef")


async def test_the_busy_page_shows_the_queues_there_are(redis_url: str, clean: TestServer) -> None:
    def info() -> dict[str, Any]:
        told: dict[str, Any] = json.loads(str(clean.cli("HGET", ident, "info")))
        return told

    async with app(redis_url) as jobs:
        ident = jobs.store.ident
        await jobs.add_queue("mail", 7)
        await eventually(lambda: info()["queues"] == ["default", "mail"], "the new queue")
        assert (info()["concurrency"], info()["weights"]) == (10, [{"default": 0, "mail": 0}])
        jobs.scale("mail", 2)
        await eventually(lambda: info()["concurrency"] == 5, "its new limit")
        await jobs.remove_queue("mail")
        await eventually(lambda: info()["queues"] == ["default"], "its end")


# -- wake


async def test_wake_finds_a_due_job_at_once(redis_url: str, clean: TestServer) -> None:
    async with app(redis_url, poll_interval=300) as jobs:
        await jobs.wake()
        await jobs.enqueue(Job("note", ["due"]), in_=0.3)
        began = time.monotonic()

        async def woken() -> bool:
            await jobs.wake()
            return ran == ["due"]

        await eventually(woken, "the due job")
        assert time.monotonic() - began < 10  # by itself it looks again after 300 s


async def test_wake_ends_a_pause_that_is_over_and_looks_in_one_queue(
    redis_url: str, clean: TestServer
) -> None:
    async with app(redis_url, queues=["a", "b"]) as jobs:
        await jobs.pause("a")
        push(clean, "a", "1")
        await looks_and_finds_nothing(jobs)
        clean.cli("SREM", "paused", "a")
        await jobs.wake("a")
        await eventually(lambda: ran == ["1"], "the job")


# -- clear


async def test_clear_drops_all_without_keys(clean: TestServer) -> None:
    clean.cli("SET", "somebody-elses", "1")
    async with counting(clean.socket) as (url, counts):
        async with app(url) as jobs:
            await jobs.enqueue(note.new("later"), in_=60)
            push(clean, "elsewhere", *map(str, range(50)))
            with pytest.raises(StoreRefused, match="1 processes live"):
                await jobs.clear()
            assert clean.cli("ZCARD", "schedule") == 1
            assert await jobs.clear(force=True) > 3
            assert clean.cli("EXISTS", "schedule", "queue:elsewhere", "queues") == 0
            await jobs.enqueue(note.new("after"))
            await eventually(lambda: ran == ["after"], "life to go on")
        async with app(url).client_only() as jobs:
            await jobs.clear()
    assert counts.verbs["KEYS"] == 0
    assert clean.cli("DEL", "somebody-elses") == 1


# -- groups


async def test_strict_runs_the_critical_ones_first(redis_url: str, clean: TestServer) -> None:
    push(clean, "low", *(f"low-{n}" for n in range(1000)))
    push(clean, "critical", *(f"critical-{n}" for n in range(50)))
    group = QueueGroup(["critical", "default", "low"], concurrency=5)
    async with app(redis_url, queues=[group]) as jobs:
        await eventually(lambda: len(ran) > 200, "some")
        before = len(ran)
        for n in range(5):
            await jobs.enqueue(Job("note", [f"late-{n}"], queue="critical"))
        await eventually(lambda: len(ran) == 1055, "all")
    assert all(name.startswith("critical") for name in ran[:50])
    if before < 900:  # else there was nothing left to overtake
        assert max(ran.index(f"late-{n}") for n in range(5)) < 1050
    assert len(set(ran)) == 1055
    assert held(clean) == {}


async def test_a_low_job_that_waits_does_not_hold_up_a_critical_one(
    redis_url: str, clean: TestServer
) -> None:
    group = QueueGroup(["critical", "low"], concurrency=2)
    async with app(redis_url, queues=[group]):
        push(clean, "low", *map(str, range(10)), of="waits")
        await eventually(lambda: len(ran) == 2, "two low ones")
        push(clean, "critical", "now")
        gate(ran[0]).set()
        await eventually(lambda: "now" in ran, "the critical one")
        assert ran.index("now") == 2
        for n in range(10):
            gate(str(n)).set()
        await eventually(lambda: len(ran) == 11, "all")


class Seeded(SystemClock):
    """The machine's clock, and the same chance in every run."""

    random = staticmethod(random.Random(5).random)


async def test_weighted_shares_by_the_weights(redis_url: str, clean: TestServer) -> None:
    for queue in ("often", "seldom"):
        push(clean, queue, *(f"{queue}-{n}" for n in range(1500)))
    group = QueueGroup(["often", "seldom"], 4, mode="weighted", weights={"often": 3})
    async with app(redis_url, queues=[group], clock=Seeded()) as jobs:
        await eventually(lambda: len(ran) >= 1500, "half of them")
        share = Counter(name.split("-")[0] for name in ran[:1500])["often"] / 1500
        print(f"weights 3:1, share of the first {share:.3f}")
        assert share == pytest.approx(0.75, abs=0.06)
        await jobs.unsubscribe_all()
    assert len(set(ran)) == len(ran)
    assert held(clean) == {}


async def test_a_pattern_takes_in_queues_as_they_come(redis_url: str, clean: TestServer) -> None:
    push(clean, "tenant-0", "0")
    group = QueueGroup(["critical", "tenant-*"], concurrency=3)
    async with app(redis_url, queues={"tenant-own": 1, "urgency": group}) as jobs:
        await eventually(lambda: ran == ["0"], "the queue that was there")
        push(clean, "tenant-1", "1")
        push(clean, "tenant-own", "own")
        push(clean, "tenant-x|y", "odd")
        push(clean, "other", "other")

        async def found() -> bool:
            await jobs.wake()  # by itself it looks every five seconds
            return sorted(ran) == ["0", "1", "own"]

        await eventually(found, "the new queue")
        assert jobs.subscriptions() == {
            "tenant-own": 1, "critical": 3, "tenant-0": 3, "tenant-1": 3,
        }  # fmt: skip
        await looks_and_finds_nothing(jobs)
    assert size(clean, "tenant-x|y") == size(clean, "other") == 1


@pytest.mark.slow
async def test_a_new_queue_is_found_within_five_seconds(redis_url: str, clean: TestServer) -> None:
    group = QueueGroup(["tenant-*"], concurrency=3)
    push(clean, "tenant-0", "0")
    async with app(redis_url, queues=[group]):
        await eventually(lambda: ran == ["0"], "the first look")
        push(clean, "tenant-1", "1")
        began = time.monotonic()
        await eventually(lambda: ran == ["0", "1"], "the new queue")
        assert time.monotonic() - began < 6.5


async def test_more_queues_than_connections_in_groups(redis_url: str, clean: TestServer) -> None:
    """Twelve in two groups and three alone: those beyond the eighth are told of by the server."""
    groups = [QueueGroup([f"g{k}-{n}" for n in range(6)], concurrency=2) for k in range(2)]
    names = [*(f"g{k}-{n}" for k in range(2) for n in range(6)), "a", "b", "c"]
    async with app(redis_url, queues=["a", "b", "c", *groups]) as jobs:
        tracker = jobs.store._backend._tracker  # type: ignore[attr-defined]
        await eventually(lambda: tracker.live, "word from the server")
        slow: list[tuple[str, float]] = []
        for n in range(3):
            for queue in random.Random(n).sample(names, len(names)):
                began = time.monotonic()
                push(clean, queue, f"{queue}:{n}")
                await eventually(lambda q=queue, n=n: f"{q}:{n}" in ran, f"the job of {queue}")
                if (took_s := time.monotonic() - began) > 1:
                    slow.append((queue, took_s))
        assert slow == []
        assert len(ran) == 3 * len(names)
        await eventually(lambda: not held(clean), "all to be settled")
        for queue in names:  # all at once: more than there are slots
            push(clean, queue, *(f"{queue}-x{n}" for n in range(20)))
        await eventually(lambda: len(ran) == 23 * len(names), "all of them")
        await eventually(lambda: not held(clean), "all to be settled")
    assert len(set(ran)) == 23 * len(names)


async def test_two_processes_share_a_group_and_hoard_nothing(
    redis_url: str, clean: TestServer
) -> None:
    """One slot each, three queues, jobs that come in bursts: none is left in an inbox."""
    group = QueueGroup(["a", "b", "c"], concurrency=1)
    both = [app(redis_url, queues=[group], heartbeat_interval=5) for _ in range(2)]
    async with both[0], both[1]:
        for n in range(60):
            for queue in "abc":
                push(clean, queue, f"{queue}{n}")
            await eventually(lambda n=n: len(ran) == 3 * (n + 1), "the burst", within=4)
        await eventually(lambda: not held(clean), "all to be settled")
    assert len(set(ran)) == 180


@pytest.mark.slow
@pytest.mark.parametrize("queues", [12, 3])
async def test_an_idle_group_costs_half_a_command_a_second_for_each_queue(
    clean: TestServer, queues: int
) -> None:
    group = QueueGroup([f"g{n}" for n in range(queues)], concurrency=5)
    async with counting(clean.socket) as (url, counts):  # noqa: SIM117  # needs the URL
        async with app(url, queues=[group], heartbeat_interval=5):
            await asyncio.sleep(1)  # what is measured is time itself
            counts.clear()
            began = time.monotonic()
            await asyncio.sleep(8)
            took_s, commands, verbs = time.monotonic() - began, counts.commands, dict(counts.verbs)
    print(f"{queues} queues: {commands / took_s:.2f} commands/s {verbs}")
    assert commands / took_s <= 2 + 0.5 * queues
