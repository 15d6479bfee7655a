"""Inspecting and changing jobs, on memory and on a real server, with a namespace too."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime
from typing import Any

import pytest

from kiqpy.errors import StoreRefused
from kiqpy.outcome import Done, FreeLock, Lock
from kiqpy.store.census import Census, Entry, Place, Transfer, busy_row, process_row
from tests.store.contract import MemoryWorld, RedisWorld, World, heartbeat, jids, outgoing, payload

pytestmark = pytest.mark.anyio
UNREADABLE = b"\xff not json"


@pytest.fixture(params=["memory", "valkey", "namespace"])
async def world(request: pytest.FixtureRequest, anyio_backend: object) -> AsyncIterator[World]:
    made: World
    if request.param == "memory":
        made = MemoryWorld()
    else:
        prefix = "{shop}:" if request.param == "namespace" else ""
        made = RedisWorld(request.getfixturevalue("clean"), prefix)
    yield made
    await made.close()


async def census(world: World) -> Census:
    return (await world.process(beat=False)).census


def put(world: World, place: Place, *members: bytes, score: float = 2e9) -> None:
    for n, member in enumerate(members):
        if isinstance(world, MemoryWorld):
            world.server.places[place].add(member, score + n)
        else:
            assert isinstance(world, RedisWorld)
            world.cli("ZADD", world.key(place), score + n, member)


def enqueue(world: World, *members: bytes, queue: str = "q") -> None:
    for member in members:
        if isinstance(world, MemoryWorld):
            world.server.queues[queue].appendleft(member)
        else:
            assert isinstance(world, RedisWorld)
            world.cli("LPUSH", world.key(f"queue:{queue}"), member)


def hold(world: World, token: str, value: str) -> None:
    if isinstance(world, MemoryWorld):
        world.server.locks[token] = (value, world.now() + 1000)
    else:
        assert isinstance(world, RedisWorld)
        world.cli("SET", world.key(f"unique:{token}"), value, "PX", 1_000_000)


def marks(world: World) -> list[str]:
    """Cancel marks, oldest first."""
    if isinstance(world, MemoryWorld):
        return sorted(world.server.cancels, key=lambda mark: world.server.cancels[mark])
    assert isinstance(world, RedisWorld)
    return [mark.decode() for mark in world.raw("ZRANGE", world.key("kiq:cancels"), 0, -1)]


def to_queue(raw: bytes, jid: str, queue: str = "q") -> Transfer:
    return Transfer(raw, "queue", raw.replace(b"Work", b"Again"), queue, jid)


def members(*names: str, **fields: Any) -> list[bytes]:
    return [payload(name, **fields) for name in names]


class TestLook:
    async def test_pages_from_both_ends(self, world: World) -> None:
        it = await census(world)
        put(world, "dead", *members("a", "b", "c", "d", "e"))
        enqueue(world, *members("a", "b", "c", "d", "e"))
        expected = {False: ["a", "b", "c", "d", "e"], True: ["e", "d", "c", "b", "a"]}
        for reverse, names in expected.items():
            for start, count in ((0, 2), (1, 3), (3, 9), (5, 1), (9, 9)):
                part = names[start : start + count]
                found = await it.page("dead", start, count, last_first=reverse)
                assert jids(found) == part
                assert [entry.score for entry in found] == [
                    2e9 + "abcde".index(name) for name in part
                ]
                assert jids(await it.queue_page("q", start, count, newest=reverse)) == part

    async def test_sizes_of_all_at_once(self, world: World) -> None:
        it = await census(world)
        put(world, "retry", *members("a", "b"))
        enqueue(world, *members("c"))
        assert await it.sizes(["q", "none"]) == {
            "q": 1, "none": 0, "schedule": 0, "retry": 2, "dead": 0,
        }  # fmt: skip

    async def test_entries_of_one_score(self, world: World) -> None:
        it = await census(world)
        score = 1795226031.586491
        put(world, "retry", *members("a"), score=score)
        put(world, "retry", *members("b"), score=score + 0.001)
        assert jids(await it.by_score("retry", score)) == ["a"]
        assert await it.by_score("retry", score + 5) == []

    async def test_queues_with_latency_and_pause(self, world: World) -> None:
        it = await census(world)
        await world.push(outgoing("old", "b", enqueued_at=world.now() - 90))
        await world.push(outgoing("new", "b", enqueued_at=world.now()))
        await world.push(outgoing("x", "a")._replace(payload=UNREADABLE))
        await it.pause("b")
        a, b, c = await it.queues(["c", "b"])
        assert (a.name, a.size, a.latency_s, a.paused) == ("a", 1, None, False)
        assert (b.name, b.size, b.paused) == ("b", 2, True)
        assert b.latency_s == pytest.approx(90, abs=5)
        assert c == ("c", 0, 0.0, False)

    async def test_more_queues_than_fit_into_one_step(self, world: World) -> None:
        it = await census(world)
        names = [f"q{n:03}" for n in range(250)]
        await world.push(*(outgoing(name, name, enqueued_at=world.now()) for name in names))
        found = await it.queues()
        assert [(row.name, row.size) for row in found] == [(name, 1) for name in names]

    async def test_counters(self, world: World) -> None:
        it = await census(world)
        zero = (0, 0)
        assert await it.counters(["2026-01-01"], ["q"]) == (zero, {"2026-01-01": zero}, {"q": zero})
        if isinstance(world, MemoryWorld):
            world.server.stats.update(
                {"processed": 5, "failed": 2, "processed:2026-01-02": 3, "failed:q": 1}
            )
        else:
            assert isinstance(world, RedisWorld)
            for name, value in (
                ("processed", 5), ("failed", 2), ("processed:2026-01-02", 3), ("failed:q", 1),
            ):  # fmt: skip
                world.cli("SET", world.key(f"stat:{name}"), value)
        found = await it.counters(["2026-01-01", "2026-01-02"], ["q", "r"])
        assert found.total == (5, 2)
        assert found.days == {"2026-01-01": zero, "2026-01-02": (3, 0)}
        assert found.queues == {"q": (0, 1), "r": zero}
        await it.reset_counters()
        assert (await it.counters([], ["q"])) == (zero, {}, {"q": (0, 1)})

    async def test_a_queue_named_like_a_day_is_not_counted_twice(self, world: World) -> None:
        day = datetime.fromtimestamp(world.now(), UTC).date().isoformat()
        await world.push(outgoing("a", day), outgoing("b", "q"))
        session = await world.process(day, "q")
        for queue in (day, "q"):
            (claim,) = await session.fetch(queue, 1)
            await session.settle(session.frame(queue, [Done(claim.delivery)]))
        found = await (await census(world)).counters([day], [day, "q"])
        assert found == ((2, 0), {day: (2, 0)}, {day: (1, 0), "q": (1, 0)})

    async def test_what_can_not_be_read_is_shown(self, world: World) -> None:
        it = await census(world)
        put(world, "dead", UNREADABLE)
        enqueue(world, UNREADABLE)
        assert await it.page("dead", 0, 1) == [Entry(None, UNREADABLE, 2e9)]
        assert await it.queue_page("q", 0, 1) == [Entry(None, UNREADABLE)]


class TestScan:
    async def find(self, it: Census, place: str, *texts: str, count: int = 100) -> list[Entry]:
        found: dict[bytes, Entry] = {}
        cursor: str | None = ""
        while cursor is not None:
            part = await it.search(place, texts, cursor, count)
            found |= {entry.raw: entry for entry in part.entries}
            cursor = part.cursor
        return list(found.values())

    async def test_a_set_and_a_queue_are_searched_to_their_ends(self, world: World) -> None:
        it = await census(world)
        names = [f"jid-{n:04}-" for n in range(1000)]
        put(world, "retry", *members(*names[:300]))
        enqueue(world, *members(*names))
        for name in (names[0], names[99], names[100], names[299]):
            for place in ("retry", "queue:q"):
                [entry] = await self.find(it, place, name)
                assert jids([entry]) == [name]
                assert (entry.score is not None) == (place == "retry")
        assert await self.find(it, "queue:q", "jid-1000-") == []
        both = await self.find(it, "queue:q", names[3], names[998])
        assert sorted(jids(both)) == [names[3], names[998]]
        assert await self.find(it, "queue:none", "x") == []
        assert await self.find(it, "dead", "x") == []

    async def test_a_page_ends_where_it_says(self, world: World) -> None:
        it = await census(world)
        enqueue(world, *members(*(f"j{n}-" for n in range(250))))
        first = await it.search("queue:q", ["j249-"], "", 100)
        assert (jids(first.entries), first.looked) == (["j249-"], 100)  # the newest comes first
        assert first.cursor is not None
        assert (await it.search("queue:q", ["j249-"], first.cursor, 1000)).looked == 150

    async def test_texts_are_taken_as_they_are(self, world: World) -> None:
        it = await census(world)
        put(world, "dead", *members("a.c", "abc", "%w", "[x]*"), UNREADABLE)
        for text in ("a.c", "%w", "[x]*"):
            assert jids(await self.find(it, "dead", text)) == [text]
        assert await self.find(it, "dead", "not json") == [Entry(None, UNREADABLE, 2e9 + 4)]

    async def test_a_queue_that_is_consumed_meanwhile_hides_nothing(self, world: World) -> None:
        it = await census(world)
        names = [f"j{n:03}-" for n in range(400)]
        enqueue(world, *members(*names))
        first = await it.search("queue:q", ["j150-"], "", 100)
        enqueue(world, *members("later"))
        session = await world.process()
        await session.fetch("q", 100)
        assert first.cursor is not None
        second = await it.search("queue:q", ["j150-"], first.cursor, 1000)
        assert jids(second.entries) == ["j150-"]


class TestTransfer:
    @pytest.mark.parametrize("place", ["schedule", "retry", "dead"])
    async def test_into_a_queue_with_new_bytes(self, world: World, place: Place) -> None:
        it = await census(world)
        a, b = members("a", "b")
        put(world, place, a, b)
        assert await it.transfer(place, [to_queue(a, "a", "other")]) == [True]
        assert world.queue("other") == [a.replace(b"Work", b"Again")]
        assert list(world.members(place)) == [b]
        assert [(row.name, row.size) for row in await it.queues()] == [("other", 1)]

    async def test_only_what_is_still_there(self, world: World) -> None:
        it = await census(world)
        a, b, c = members("a", "b", "c")
        put(world, "dead", a, c)
        wanted = [to_queue(a, "a"), to_queue(b, "b"), to_queue(a, "a"), to_queue(c, "c")]
        assert await it.transfer("dead", wanted) == [True, False, False, True]
        assert await it.transfer("dead", wanted) == [False] * 4
        assert jids(world.queue("q")) == ["a", "c"]

    async def test_two_operators_make_one_copy(self, world: World) -> None:
        one, two = await census(world), await census(world)
        names = [f"j{n:03}" for n in range(500)]
        raws = members(*names)
        put(world, "dead", *raws)
        wanted = [to_queue(raw, name) for raw, name in zip(raws, names, strict=True)]
        done, others = await asyncio.gather(
            one.transfer("dead", wanted), two.transfer("dead", wanted[::-1])
        )
        assert sum(done) + sum(others) == 500
        assert sorted(jids(world.queue("q"))) == names
        assert not world.members("dead")

    async def test_jobs_that_wait_for_none_are_handed_over(self, world: World) -> None:
        session = await world.process()
        waiting = asyncio.create_task(session.wait("q", 20.0))
        await world.blocked(1)
        [a] = members("a")
        put(world, "dead", a)
        await session.census.transfer("dead", [to_queue(a, "a")])
        await asyncio.wait_for(waiting, 10)
        assert jids(await session.fetch("q", 5)) == ["a"]

    async def test_from_a_queue_by_exact_bytes(self, world: World) -> None:
        it = await census(world)
        a, b, c = members("a", "b", "c")
        enqueue(world, a, b, UNREADABLE, c)
        wanted = [
            Transfer(b, "dead", b), Transfer(UNREADABLE, "away"), Transfer(a[:-1], "away"),
        ]  # fmt: skip
        assert await it.transfer("queue:q", wanted) == [True, True, False]
        assert world.queue("q") == [a, c]
        assert list(world.members("dead")) == [b]
        assert await it.transfer("queue:q", wanted) == [False, False, False]
        assert await it.transfer("queue:none", wanted) == [False, False, False]

    async def test_of_equal_jobs_in_a_queue_one_goes(self, world: World) -> None:
        it = await census(world)
        a, b = members("a", "b")
        enqueue(world, a, b, a)
        assert await it.transfer("queue:q", [Transfer(a, "away")]) == [True]
        assert world.queue("q") == [b, a]  # the oldest went

    async def test_into_the_dead_set_which_keeps_its_limit(self, world: World) -> None:
        session = await world.process(beat=False, dead_limit=3)
        raws = members("a", "b", "c", "d")
        put(world, "retry", *raws)
        wanted = [Transfer(raw, "dead", raw) for raw in raws]
        before = world.now()
        assert await session.census.transfer("retry", wanted) == [True] * 4
        assert len(world.members("dead")) == 3
        assert all(before - 1 <= at <= world.now() for at in world.members("dead").values())
        assert world.stat("trimmed") == 1

    @pytest.mark.parametrize("to", ["away", "dead"])
    async def test_locks_are_freed_of_their_owner_only(self, world: World, to: Any) -> None:
        it = await census(world)
        raws = members("mine", "lost", "kiqs", "kept")
        put(world, "retry", *raws)
        for token, value in (("T1", "mine"), ("T2", "newer"), ("T3", "5000"), ("T4", "kept")):
            hold(world, token, value)
        locks = [Lock("T1", 1.0), Lock("T2", 1.0), Lock("T3", 1.0, owned=False), None]
        names = ["mine", "lost", "kiqs", "kept"]
        wanted = [
            Transfer(raw, to, raw, jid=jid, effects=(FreeLock(lock, jid),) if lock else ())
            for raw, jid, lock in zip(raws, names, locks, strict=True)
        ]
        assert await it.transfer("retry", wanted) == [True] * 4
        held = {token: world.lock(token) for token in ("T1", "T2", "T3", "T4")}
        assert held["T1"] is held["T3"] is None
        assert held["T2"] is not None
        assert held["T2"][0] == "newer"
        assert held["T4"] is not None

    async def test_what_was_gone_keeps_its_lock(self, world: World) -> None:
        it = await census(world)
        hold(world, "T", "a")
        [a] = members("a")
        gone = Transfer(a, "away", jid="a", effects=(FreeLock(Lock("T", 1.0), "a"),))
        assert await it.transfer("retry", [gone]) == [False]
        assert world.lock("T") is not None

    async def test_a_key_of_a_wrong_type_stops_all(self, world: World) -> None:
        if not isinstance(world, RedisWorld):
            pytest.skip("there are no keys of a wrong type in memory")
        it = await census(world)
        [a, b] = members("a", "b")
        put(world, "dead", a, b)
        world.cli("SET", world.key("queue:odd"), "text")
        with pytest.raises(StoreRefused, match="holds a string"):
            await it.transfer("dead", [to_queue(a, "a"), to_queue(b, "b", "odd")])
        assert len(world.members("dead")) == 2
        assert world.queue("q") == []

    async def test_large_payloads_go_in_several_steps(self, world: World) -> None:
        it = await census(world)
        raws = members(*(f"j{n}" for n in range(12)), args=json.dumps(["x" * 900_000]))
        put(world, "dead", *raws)
        wanted = [to_queue(raw, f"j{n}") for n, raw in enumerate(raws)]
        assert await it.transfer("dead", wanted) == [True] * 12
        assert len(world.queue("q")) == 12


class TestClear:
    @pytest.mark.parametrize("place", ["schedule", "retry", "dead"])
    async def test_a_set(self, world: World, place: Place) -> None:
        it = await census(world)
        put(world, place, *members("a", "b"), UNREADABLE)
        assert await it.clear(place) == 3
        assert not world.members(place)
        assert await it.clear(place) == 0

    async def test_a_queue_with_its_name(self, world: World) -> None:
        it = await census(world)
        await world.fill(3)
        await world.fill(2, "other")
        assert await it.clear("queue:q") == 3
        assert [(row.name, row.size) for row in await it.queues()] == [("other", 2)]

    async def test_everything_of_ours_and_nothing_else(self, world: World) -> None:
        session = await world.process()
        await world.fill(3)
        await session.fetch("q", 1)
        put(world, "dead", *members("d"))
        hold(world, "T", "x")
        await session.census.cancel("x", keep=True)
        foreign = ("mine", "other:queue:q", "shop:retry", "queuesque")
        if isinstance(world, RedisWorld):
            for name in foreign:
                world.cli("SET", name, "1", "EX", 1000)
            world.cli("SET", world.key(f"{session.ident}-signals"), "x")
        assert await session.census.clear_all() > 5
        assert world.everywhere() == {}
        assert world.lock("T") is None
        assert not world.processes()
        assert not marks(world)
        if isinstance(world, RedisWorld):
            assert sorted(world.cli("KEYS", "*")) == sorted(foreign)

    async def test_all_forgets_what_periodics_leaders_and_clients_have_left(
        self, world: World
    ) -> None:
        session = await world.process()
        it = session.calendar
        await it.register({"daily": "0 9 * * *", "off": "0 9 * * *"})
        await it.switch("off", False, True)
        assert await it.lead(60.0) is True
        frame = world.frame(outgoing("a"))
        await session.push(frame)
        await session.census.clear_all()
        state = await it.state(["daily", "off"])
        assert [dict(each) for each in state[1:]] == [{}, {}, {}]
        assert await (await world.process()).calendar.lead(60.0) is True
        assert [one.state for one in await session.push(frame)] == ["queued"]
        assert jids(world.queue("q")) == ["a"], "its reply was not kept"


class TestProcesses:
    async def test_who_lives_and_what_it_does(self, world: World) -> None:
        session = await world.process(beat=False)
        info = {"hostname": "h", "pid": 7, "tag": "shop", "labels": ["x"], "queues": ["q", "r"],
                "started_at": 5.5, "concurrency": 3, "version": "kiqpy"}  # fmt: skip
        work = {"t1": json.dumps({"queue": "q", "payload": payload("a").decode(), "run_at": 9})}
        told = heartbeat("q", busy=1, work=work)._replace(
            info=json.dumps(info), quiet=True, rss_kb=12
        )
        session.beat(told)
        [row] = await session.census.processes()
        assert row[:10] == (
            session.ident, "h", 7, "shop", "kiqpy", ("x",), ("q", "r"), 5, 1, True,
        )  # fmt: skip
        assert (row.started_at, row.rss_kb) == (5.5, 12)
        assert row.beat_at == pytest.approx(world.now(), abs=5)
        [busy] = await session.census.busy([session.ident, "nobody"])
        assert (busy.ident, busy.queue, busy.run_at, busy.raw) == (
            session.ident, "q", 9.0, payload("a"),
        )  # fmt: skip
        assert busy.job is not None
        assert busy.job.jid == "a"

    async def test_the_dead_are_not_shown_and_pruned(self, world: World) -> None:
        dead, alive = await world.process(), await world.process()
        if isinstance(world, MemoryWorld):
            await world.let_pass(61)
            world.beat(alive)
        else:
            assert isinstance(world, RedisWorld)
            world.cli("DEL", world.key(dead.ident))
            assert await alive.census.prune() == 0, "its lease goes on"
            world.cli("DEL", world.key(f"kiq:lease:{dead.ident}"))
        assert [row.ident for row in await alive.census.processes()] == [alive.ident]
        assert await alive.census.prune() == 1
        assert world.processes() == {alive.ident}
        assert await alive.census.prune() == 0

    async def test_a_signal_comes_with_the_next_beat(self, world: World) -> None:
        session = await world.process()
        assert await session.census.signal(session.ident, "TSTP") is True
        assert await session.census.signal("nobody", "TSTP") is False
        assert world.beat(session).signal == "TSTP"
        assert world.beat(session).signal is None

    async def test_a_signal_that_nobody_fetches_expires(self, world: World) -> None:
        if not isinstance(world, RedisWorld):
            pytest.skip("nothing expires in memory")
        session = await world.process()
        await session.census.signal(session.ident, "TERM")
        assert 0 < world.cli("TTL", world.key(f"{session.ident}-signals")) <= 60

    async def test_pause_and_resume_say_whether_they_changed_anything(self, world: World) -> None:
        it = await census(world)
        assert [await it.pause("q"), await it.pause("q")] == [True, False]
        assert await it.paused() == ["q"]
        assert [await it.resume("q"), await it.resume("q")] == [True, False]
        assert await it.paused() == []

    def test_what_others_say_of_themselves_is_read_leniently(self) -> None:
        assert process_row("h:1:x", {"info": None}) is None
        odd = process_row("h:1:x", {"info": b"[]", "busy": b"nan", "beat": b"x", "quiet": None})
        assert odd is not None
        assert (odd.hostname, odd.pid, odd.busy, odd.beat_at, odd.quiet) == ("h", 0, 0, None, False)

    @pytest.mark.parametrize(
        ("told", "jid"),
        [
            ({"queue": "q", "payload": {"class": "W", "args": [], "jid": "k"}}, "k"),
            ({"queue": "q", "payload": '{"class":"W","args":[],"jid":"s"}'}, "s"),
            ({"queue": "q", "payload": "not json"}, None),
            ({"queue": "q", "payload": {"class": "\ud800", "args": []}}, None),
            ([1], None),
        ],
    )  # fmt: skip
    def test_running_jobs_of_kiq_and_of_all_others(self, told: object, jid: str | None) -> None:
        row = busy_row("h:1:x", json.dumps(told).encode())
        assert (row.job.jid if row.job else None) == jid


class TestClaimed:
    async def test_what_processes_hold_is_found_without_a_heartbeat(self, world: World) -> None:
        first, second = await world.process("q", "r"), await world.process("q")
        await world.fill(3)
        await world.push(outgoing("other", "r"))
        await first.fetch("q", 2)
        await second.fetch("q", 2)
        await first.fetch("r", 1)
        it = first.census
        rows = await it.claimed(["j0000", "j0002", "other", "nowhere"])
        where = {row.job.jid: (row.ident, row.queue) for row in rows if row.job}
        assert where == {
            "j0000": (first.ident, "q"),
            "j0002": (second.ident, "q"),
            "other": (first.ident, "r"),
        }
        assert await it.claimed(["nowhere"]) == []

    async def test_a_settled_job_is_held_no_more(self, world: World) -> None:
        session = await world.process()
        await world.fill(1)
        [claim] = await session.fetch("q", 1)
        await session.settle(session.frame("q", [Done(claim.delivery)]))
        assert await session.census.claimed(["j0000"]) == []

    async def test_a_job_in_an_inbox(self, world: World) -> None:
        session = await world.process()
        waiting = asyncio.create_task(session.wait("q", 5.0))
        await asyncio.sleep(0)
        await world.fill(1)
        assert await waiting is True
        rows = await session.census.claimed(["j0000"])
        assert jids(rows) == ([] if (await session.census.sizes(["q"]))["q"] else ["j0000"])

    async def test_more_jobs_and_bytes_than_one_step_looks_at(self, world: World) -> None:
        session = await world.process()
        names = [f"big{n:04}" for n in range(12)]
        await world.push(*(outgoing(name, args=[7] * 300_000) for name in names))
        held: list[str] = []
        while len(held) < len(names):
            held += jids(await session.fetch("q", 12))
        assert sorted(jids(await session.census.claimed(["big"]))) == names
        assert jids(await session.census.claimed(["big0007"])) == ["big0007"]

    async def test_many_processes(self, world: World) -> None:
        owners = [await world.process(f"q{n}") for n in range(3)]
        for n in range(130):
            world.beat(owners[n % 3], *(f"q{m}" for m in range(n % 3, 130, 3)))
        await world.push(outgoing("last", "q129"))
        await owners[0].fetch("q129", 1)
        assert jids(await owners[1].census.claimed(["last"])) == ["last"]


class TestCancel:
    async def test_one_mark_a_job_the_last_counts(self, world: World) -> None:
        it = await census(world)
        await it.cancel("a", keep=True)
        await it.cancel("b", keep=False)
        assert marks(world) == ["+a", "-b"]
        await it.cancel("a", keep=False)
        assert marks(world) == ["-b", "-a"]

    async def test_a_mark_is_later_than_all_others(self, world: World) -> None:
        """Whoever reads asks for what came after the last mark, whatever the clock did."""
        it = await census(world)
        ahead = world.now() + 5
        if isinstance(world, MemoryWorld):
            world.server.cancels["+x"] = ahead
        else:
            assert isinstance(world, RedisWorld)
            world.cli("ZADD", world.key("kiq:cancels"), f"{ahead:.6f}", "+x")
        for n in range(30):
            await it.cancel(f"j{n:02}", keep=True)
        assert marks(world) == ["+x", *(f"+j{n:02}" for n in range(30))]

    @pytest.mark.parametrize("place", ["schedule", "retry", "dead"])
    async def test_it_is_taken_back_when_the_job_is_queued_again(
        self, world: World, place: Place
    ) -> None:
        it = await census(world)
        a, b, c, d = members("a", "b", "c", "d")
        put(world, place, a, b, c, d)
        await it.cancel("a", keep=True)
        await it.cancel("b", keep=False)
        await it.cancel("d", keep=True)
        wanted = [to_queue(a, "a"), to_queue(b, "b"), to_queue(c, "c"), Transfer(d, "away")]
        await it.transfer(place, wanted)
        assert marks(world) == ["+d", "=a", "=b"]
        await it.cancel("a", keep=True)
        assert marks(world) == ["+d", "=b", "+a"]

    async def test_old_marks_go(self, world: World) -> None:
        it = await census(world)
        old: Sequence[tuple[str, float]] = [("+old", 7 * 86_400 + 9), ("=young", 6 * 86_400)]
        for mark, age_s in old:
            if isinstance(world, MemoryWorld):
                world.server.cancels[mark] = world.now() - age_s
            else:
                assert isinstance(world, RedisWorld)
                world.cli("ZADD", world.key("kiq:cancels"), world.now() - age_s, mark)
        await it.cancel("a", keep=True)
        assert marks(world) == ["=young", "+a"]
        if isinstance(world, RedisWorld):
            assert 0 < world.cli("TTL", world.key("kiq:cancels")) <= 7 * 86_400


async def test_no_command_that_walks_the_key_space_at_once(world: World) -> None:
    """KEYS is never sent; neither are its likes for sets and hashes of unknown size."""
    if not isinstance(world, RedisWorld):
        pytest.skip("there are no commands in memory")
    session = await world.process()
    await world.fill(5)
    world.cli("CONFIG", "RESETSTAT")
    it = session.census
    put(world, "dead", *members("a"))
    await it.queues()
    await it.processes()
    await it.search("dead", ["a"], "", 100)
    await it.transfer("dead", [to_queue(members("a")[0], "a")])
    await it.paused()
    await it.prune()
    await it.clear("queue:q")
    await it.clear_all()
    used = world.cli("INFO", "commandstats")
    assert "cmdstat_sscan" in used
    for command in ("keys", "smembers", "hgetall", "flushdb", "flushall"):
        assert f"cmdstat_{command}:" not in used
