"""Failing jobs on a real server: retries, hooks, and what is stored."""

from __future__ import annotations

import asyncio
import base64
import inspect
import json
import time
import zlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from kiqpy import App, Discard, Job, Kill, Snooze, Worker, current_job, worker
from kiqpy._loops import leaks as watch
from kiqpy.event import Event
from kiqpy.job import Job as Payload
from kiqpy.job import decode
from tests.eventually import eventually
from tests.server import UTF8, TestServer

pytestmark = pytest.mark.anyio
heard: list[Any] = []  # of the test that runs
gates: list[asyncio.Event] = []


@pytest.fixture(autouse=True)
def fresh() -> None:
    heard.clear()
    gates[:] = [asyncio.Event()]


@worker
async def fails(what: object = None) -> None:
    raise ValueError("no")


@asynccontextmanager
async def working(server: TestServer, *workers: Any, **options: Any) -> AsyncIterator[App]:
    given = {"workers": [fails, *workers], "poll_interval": 0.05, "shutdown_timeout": 0.1}
    async with App(redis_url=server.url, **(given | options)) as app:
        app.attach("*", told.append)
        yield app
        gates[-1].set()


told: list[Event] = []


def events(name: str) -> list[Any]:
    return [event for event in told if event.name == name]


@pytest.fixture(autouse=True)
def nothing_told() -> None:
    told.clear()


def raws(server: TestServer, place: str) -> list[bytes]:
    words = ("LRANGE", place) if place.startswith("queue:") else ("ZRANGE", place)
    found = server.cli(*words, 0, -1)
    assert isinstance(found, list)
    return [str(text).encode(*UTF8) for text in found]


def payloads(server: TestServer, place: str) -> list[dict[str, Any]]:
    return [decode(raw).payload for raw in raws(server, place)]


def count(server: TestServer, place: str) -> int:
    return len(raws(server, place))


async def put_off(server: TestServer, place: str = "retry") -> float:
    """Seconds from now until the one job there is due."""
    await eventually(lambda: count(server, place) == 1, f"a job in {place}")
    reply = server.cli("ZRANGE", place, 0, 0, "WITHSCORES")
    assert isinstance(reply, list)
    return float(str(reply[1])) - time.time()


async def settled(server: TestServer) -> None:
    """Nothing is queued and nothing runs."""

    def empty() -> bool:
        """Looked at in the order in which a job comes through, so that none is overlooked."""
        keys = ("queue:default", "kiq:inbox|*", "kiq:private|*")
        return not any(server.cli("KEYS", key) for key in keys)

    await eventually(empty, "all jobs to be settled")


class TestDelays:
    @pytest.mark.parametrize(
        ("name", "least", "most"),
        [
            ("sidekiq", 15, 24), ("kiq", 17, 46), ("exq", 16, 76), ("toniq", 0.25, 0.25),
            ("queuetopia", 2, 2), ("constant", 15, 15), ("immediate", 0, 0),
        ],
    )  # fmt: skip
    @pytest.mark.parametrize("where", ["worker", "using", "app"])
    async def test_of_each_curve(
        self, clean: TestServer, name: str, least: float, most: float, where: str
    ) -> None:
        mine = worker(backoff=name, name="mine")(fails.__wrapped__)
        app_wide = {"backoff": name} if where == "app" else {}
        job = {"worker": mine.new(), "using": fails.using(backoff=name).new()}.get(where)
        options = {**app_wide, "schedulers": []}  # or it is tried again while we look
        async with working(clean, mine, **options) as app:
            await app.enqueue(job or fails.new())
            in_s = await put_off(clean)
        assert least - 5 <= in_s <= most + 0.1
        (failure,) = events("job.failure")
        assert least <= failure.retry_in_s <= most
        assert [event.in_s for event in events("job.retried")] == [failure.retry_in_s]

    async def test_of_a_callable(self, clean: TestServer) -> None:
        def curve(count: int, error: BaseException, job: Payload) -> float:
            heard.append((count, str(error), job.args))
            return 500

        mine = worker(backoff=curve, name="mine")(fails.__wrapped__)
        async with working(clean, mine) as app:
            await app.enqueue(mine.new("x"))
            assert await put_off(clean) == pytest.approx(500, abs=5)
        assert heard == [(0, "no", ["x"])]

    @pytest.mark.parametrize("answer", [Discard, Discard("enough"), Kill, Kill("bad")])
    async def test_a_callable_may_end_it(self, clean: TestServer, answer: Any) -> None:
        mine = worker(backoff=lambda *_: answer, name="mine")(fails.__wrapped__)
        async with working(clean, mine) as app:
            await app.enqueue(mine.new())
            await eventually(lambda: events("job.stopped"), "the job to end")
            await settled(clean)
        kills = answer is Kill or isinstance(answer, Kill)
        assert (count(clean, "retry"), count(clean, "dead")) == (0, int(kills))
        assert events("job.failure")[0].retry_in_s is None

    @pytest.mark.parametrize("how", ["raises", "exits", "cancels", "junk", "nan"])
    async def test_a_broken_callable_is_told_and_costs_nothing(
        self, clean: TestServer, how: str
    ) -> None:
        """SystemExit in it ended the process: it is called where all jobs are settled."""

        def curve(*_: object) -> Any:
            errors: dict[str, BaseException] = {
                "raises": RuntimeError("mine"), "exits": SystemExit("mine"),
                "cancels": asyncio.CancelledError("mine"),
            }  # fmt: skip
            if how in errors:
                raise errors[how]
            return "soon" if how == "junk" else float("nan")

        mine = worker(backoff=curve, name="mine")(fails.__wrapped__)
        async with working(clean, mine) as app:
            await app.enqueue(mine.new())
            assert 10 < await put_off(clean) < 25
            await eventually(lambda: events("job.backoff_refused"), "the event")
            await app.enqueue(fails.new())
            await eventually(lambda: count(clean, "retry") == 2, "another job to be settled")
        (refused,) = events("job.backoff_refused")
        assert ("mine" in refused.error) == (how in ("raises", "exits", "cancels"))
        assert not events("queue.restarted")


class Class(Worker, retry=1, backoff="immediate"):
    async def perform(self) -> None:
        raise ValueError("no")

    async def retries_exhausted(self, job: Payload, error: BaseException) -> None:
        await asyncio.sleep(0)
        heard.append(("class", job.jid == self.job.jid, str(error)))


class Unmade(Worker, retry=0):
    def __init__(self) -> None:
        raise RuntimeError("no objects of mine")

    async def perform(self) -> None: ...

    def retries_exhausted(self, job: Payload, error: BaseException) -> None: ...


class TestTheEnd:
    def handler(self, job: Payload, error: BaseException) -> None:
        heard.append(("app", job.class_, str(error)))

    async def other(self, job: Payload, error: BaseException) -> None:
        await asyncio.sleep(0)
        heard.append(("async app", job.class_, str(error)))

    async def test_the_workers_hook_then_the_apps(self, clean: TestServer) -> None:
        """After the last failure, not after those before it; and when the job is dead by then."""
        async with working(clean, Class, death_handlers=[self.handler, self.other]) as app:
            await app.enqueue(Class.new())
            await eventually(lambda: len(heard) == 3, "all three")
            assert count(clean, "dead") == 1
        assert heard == [
            ("class", True, "no"), ("app", "Class", "no"), ("async app", "Class", "no"),
        ]  # fmt: skip
        assert len(events("job.failure")) == 2

    @pytest.mark.parametrize("is_async", [False, True])
    async def test_a_functions_hook(self, clean: TestServer, is_async: bool) -> None:
        @worker(retry=0)
        async def breaks() -> None:
            raise ValueError("no")

        if is_async:

            @breaks.retries_exhausted
            async def _(job: Payload, error: BaseException) -> None:
                await asyncio.sleep(0)
                heard.append(job.class_)
        else:

            @breaks.retries_exhausted
            def _(job: Payload, error: BaseException) -> None:
                heard.append(job.class_)

        async with working(clean, breaks) as app:
            await app.enqueue(breaks.new())
            await eventually(lambda: heard == ["breaks"], "the hook")

    @pytest.mark.parametrize("error", [RuntimeError, SystemExit, asyncio.CancelledError])
    async def test_one_that_raises_stops_no_other(
        self, clean: TestServer, error: type[BaseException]
    ) -> None:
        """Seven times: after five errors in a row nobody was told of any death any more."""

        def broken(job: Payload, error_: BaseException) -> None:
            raise error("mine")

        async def broken_later(job: Payload, error_: BaseException) -> None:
            await asyncio.sleep(0)
            raise error("mine")

        @worker(retry=0)
        async def breaks() -> None:
            raise ValueError("no")

        breaks.retries_exhausted(broken)
        handlers = [broken, broken_later, self.handler]
        async with working(clean, breaks, death_handlers=handlers) as app:
            await app.enqueue_many([breaks.new() for _ in range(7)])
            await eventually(lambda: len(heard) == 7, "the last handler, seven times")
            await settled(clean)
        assert not events("reporter.detached")
        assert count(clean, "dead") == 7

    async def test_one_whose_objects_can_not_be_made(self, clean: TestServer) -> None:
        """That is what they died of; the app's handlers did not hear of it, then of nothing."""
        async with working(clean, Unmade, death_handlers=[self.handler]) as app:
            await app.enqueue_many([Unmade.new() for _ in range(7)])
            await eventually(lambda: len(heard) == 7, "the handler, seven times")
        assert set(heard) == {("app", "Unmade", "no objects of mine")}
        assert not events("reporter.detached")

    async def test_one_without_retries_is_dropped_after_its_handlers(
        self, clean: TestServer
    ) -> None:
        async with working(clean, Class, death_handlers=[self.handler]) as app:
            await app.enqueue(Class.using(retry=False).new())
            await eventually(lambda: heard, "the handler")
            await settled(clean)
        assert heard == [("app", "Class", "no")], "it has used up no retries"
        assert (count(clean, "retry"), count(clean, "dead")) == (0, 0)
        assert (clean.cli("GET", "stat:failed"), clean.cli("GET", "stat:processed")) == ("1", "1")

    async def test_none_left_is_dead_at_once(self, clean: TestServer) -> None:
        async with working(clean) as app:
            receipt = await app.enqueue(fails.using(retry=0, backtrace=2).new())
            await settled(clean)
        (dead,) = payloads(clean, "dead")
        assert (dead["jid"], dead["retry_count"]) == (receipt.jid, 0)
        assert (dead["error_class"], dead["error_message"]) == ("ValueError", "no")
        stack = json.loads(zlib.decompress(base64.b64decode(dead["error_backtrace"])))
        assert len(stack) == 2
        assert stack[0].startswith(__file__)
        assert [event.error.args for event in events("job.dead")] == [("no",)]

    async def test_the_last_error_is_the_one_that_is_kept(self, clean: TestServer) -> None:
        """Kiq keeps the payload of the try before."""

        @worker(retry=2, backoff="immediate")
        async def changes() -> None:
            raise ValueError(f"try {current_job().attempt}")

        async with working(clean, changes) as app:
            await app.enqueue(changes.new())
            await eventually(lambda: count(clean, "dead") == 1, "the end")
        (dead,) = payloads(clean, "dead")
        assert (dead["error_message"], dead["retry_count"]) == ("try 3", 2)
        assert dead["failed_at"] < dead["retried_at"]

    async def test_not_kept_if_it_is_not_to_be(self, clean: TestServer) -> None:
        async with working(clean, Class, death_handlers=[self.handler]) as app:
            await app.enqueue(Class.using(dead=False).new())
            await eventually(lambda: len(heard) == 2, "hook and handler")
            await settled(clean)
        assert count(clean, "dead") == 0

    async def test_exactly_so_many_dead_are_kept(self, clean: TestServer) -> None:
        async with working(clean, dead_limit=7) as app:
            await app.enqueue_many([fails.using(retry=0).new(n) for n in range(40)])
            await settled(clean)
            await eventually(lambda: count(clean, "dead") == 7, "the trim")
        assert clean.cli("GET", "kiq:trimmed") == "33"

    async def test_the_dead_are_kept_for_so_long(self, clean: TestServer) -> None:
        clean.cli("ZADD", "dead", time.time() - 101, b"old", time.time() - 99, b"not so old")
        async with working(clean, dead_timeout=100) as app:
            await app.enqueue(fails.using(retry=0).new())
            await settled(clean)
            await eventually(lambda: count(clean, "dead") == 2, "the trim")
        assert b"old" not in raws(clean, "dead")


class TestWhatCanNotRun:
    async def test_an_unknown_class_is_retried_then_dead(self, clean: TestServer) -> None:
        """Somebody may know it: deployments take turns."""
        async with working(clean) as app:
            await app.enqueue(Job("Unheard", [1], jid="a", kiq={"backoff": "constant"}))
            await app.enqueue(Job("Unheard", [2], jid="b", retry=0))
            assert await put_off(clean) == pytest.approx(15, abs=5)
            await settled(clean)
        (retried,), (dead,) = payloads(clean, "retry"), payloads(clean, "dead")
        assert (retried["jid"], dead["jid"]) == ("a", "b")
        assert retried["error_class"] == dead["error_class"] == "UnknownWorker"

    @pytest.mark.parametrize(
        "raw", [b"\xff\xfe no text", b"[1", b"{}", b'{"class": 5, "args": []}']
    )
    async def test_what_is_no_job_is_dead_as_it_is(self, clean: TestServer, raw: bytes) -> None:
        def handler(job: Payload, error: BaseException) -> None:
            heard.append(job)

        async with working(clean, death_handlers=[handler]) as app:
            clean.cli("LPUSH", "queue:default", raw)
            await eventually(lambda: count(clean, "dead") == 1, "it to be dead")
            await app.enqueue(fails.new())
            await eventually(lambda: events("job.retried"), "another job to be run")
        assert raws(clean, "dead") == [raw]
        (dead,) = events("job.dead")
        assert (dead.job, dead.raw) == (None, raw)
        assert not heard, "there is no job to tell of"

    async def test_json_that_is_no_object_is_dead_in_one(self, clean: TestServer) -> None:
        """As it is, `[1]` takes Sidekiq's page of dead jobs down; requeue gives it back."""
        async with working(clean) as app:
            clean.cli("LPUSH", "queue:default", "[1]")
            await eventually(lambda: count(clean, "dead") == 1, "it to be dead")
            [row] = (await app.admin.jobs("dead")).rows
            assert (row.class_, row.args, row.queue) == ("kiqpy.Unreadable", ["[1]"], "default")
            assert row.error_message == "not a JSON object"
            await app.quiet()
            assert (await app.admin.requeue_all("dead")).done == 1
        assert raws(clean, "queue:default") == [b"[1]"]

    async def test_an_error_without_words(self, clean: TestServer) -> None:
        class Mute(Exception):
            def __str__(self) -> str:
                raise RuntimeError("can't speak")

        @worker(backtrace=True)
        async def mute() -> None:
            raise Mute

        async with working(clean, mute) as app:
            await app.enqueue(mute.new())
            await put_off(clean)
        (retried,) = payloads(clean, "retry")
        assert retried["error_class"] == "Mute"
        assert "could not be read" in retried["error_message"]

    async def test_retries_in_a_queue_of_their_own(self, clean: TestServer) -> None:
        mine = worker(retry_queue="slow", backoff="immediate", name="mine")(fails.__wrapped__)
        async with working(clean, mine) as app:
            await app.enqueue(mine.new())
            await eventually(lambda: count(clean, "queue:slow") == 1, "the retry")
        (retried,) = payloads(clean, "queue:slow")
        assert retried["queue"] == "slow"

    @pytest.mark.parametrize("field", ["retry", "retry_for", "backtrace", "kiq", "unique_token",
                                       "unique_for", "retry_count", "failed_at"])  # fmt: skip
    @pytest.mark.parametrize("junk", ['{"a": [1]}', "1e400", "-1e308", '"x"', "[]", "1" * 400])
    async def test_junk_in_a_payload_stops_no_queue(
        self, clean: TestServer, field: str, junk: str
    ) -> None:
        raw = f'{{"class": "fails", "args": [], "jid": "a", "{field}": {junk}}}'
        async with working(clean):
            clean.cli("LPUSH", "queue:default", raw)
            await eventually(lambda: events("job.stopped") or events("job.dead"), "it to end")
            await settled(clean)
        assert count(clean, "retry") + count(clean, "dead") + count(clean, "schedule") == 1
        assert not events("queue.restarted")


@worker(max_concurrency=1)
async def single(n: int) -> None:
    heard.append(n)
    await gates[-1].wait()


@worker(max_concurrency=1, timeout=1.0, retry=0)
async def timed(seconds: float) -> None:
    heard.append(seconds)
    await asyncio.sleep(seconds)


class TestOneAtATime:
    async def test_first_come_first_served(self, clean: TestServer) -> None:
        gates[-1].set()
        async with working(clean, single) as app:
            await app.enqueue_many([single.new(n) for n in range(20)])
            await settled(clean)
        assert heard == list(range(20))

    async def test_never_two(self, clean: TestServer) -> None:
        async with working(clean, single, queues={"default": 10, "other": 10}) as app:
            await app.enqueue_many(
                [single.using(queue=queue).new(n) for n, queue in enumerate(["default", "other"])]
            )
            await eventually(lambda: len(heard) == 1, "one to run")
            await app.enqueue(fails.new())
            await eventually(lambda: events("job.retried"), "a job of another worker")
            assert len(heard) == 1
            gates[-1].set()
            await eventually(lambda: len(heard) == 2, "the other")

    async def test_the_time_it_waits_is_not_its_own(self, clean: TestServer) -> None:
        """Ten that take 0.15 s each, of 1 s: none is late, though the last waits for 1.35 s."""
        async with working(clean, timed) as app:
            await app.enqueue_many([timed.new(0.15) for _ in range(10)])
            await settled(clean)
        assert len(events("job.success")) == 10
        assert max(event.took_s for event in events("job.success")) < 1.0

    async def test_one_that_waits_can_be_cancelled(self, clean: TestServer) -> None:
        async with working(clean, single) as app:
            first, second, third = await app.enqueue_many([single.new(n) for n in range(3)])
            await eventually(lambda: heard == [0], "the first to run")
            await app.cancel(second.jid)
            await eventually(lambda: count(clean, "dead") == 1, "the second to be cancelled")
            gates[-1].set()
            await settled(clean)
        assert heard == [0, 2], "and its place in the row is given up"
        assert [event.job.jid for event in events("job.cancelled")] == [second.jid]
        assert {event.job.jid for event in events("job.success")} == {first.jid, third.jid}

    async def test_who_waits_at_a_stop_goes_back(self, clean: TestServer) -> None:
        async with working(clean, single, shutdown_timeout=0) as app:
            await app.enqueue_many([single.new(n) for n in range(3)])
            await eventually(lambda: heard == [0], "the first to run")
            gates.append(asyncio.Event())  # the first's stays shut
        assert [payload["args"] for payload in payloads(clean, "queue:default")] == [[2], [1], [0]]


class TestSignals:
    @pytest.mark.parametrize("how", ["return", "raise"])
    @pytest.mark.parametrize(
        ("signal", "place"),
        [
            (Snooze(1000), "schedule"), (Kill("bad"), "dead"), (Kill, "dead"),
            (Discard("enough"), None), (Discard, None),
        ],
    )  # fmt: skip
    async def test_returned_and_raised(
        self, clean: TestServer, signal: Any, place: str | None, how: str
    ) -> None:
        @worker(retry=3)
        async def signals() -> Any:
            if how == "raise":
                raise signal
            return signal

        async with working(clean, signals) as app:
            await app.enqueue(signals.new())
            await eventually(lambda: events("job.stopped"), "the end")
            await settled(clean)
        places = {place: count(clean, place) for place in ("retry", "schedule", "dead")}
        assert places == {p: int(p == place) for p in ("retry", "schedule", "dead")}
        if place == "schedule":
            assert await put_off(clean, place) == pytest.approx(1000, abs=5)
            assert "retry_count" not in payloads(clean, place)[0]
        if place is None:
            assert len(events("job.aborted")) == 1

    async def test_killed_is_kept_even_without_retries(self, clean: TestServer) -> None:
        @worker(retry=False)
        async def kills() -> None:
            raise Kill("look at this")

        async with working(clean, kills) as app:
            await app.enqueue(kills.new())
            await eventually(lambda: count(clean, "dead") == 1, "it to be dead")
        assert payloads(clean, "dead")[0]["error_message"] == "look at this"


class TestTimeouts:
    async def test_it_is_a_failure_like_others(self, clean: TestServer) -> None:
        async with working(clean, timed) as app:
            await app.enqueue(timed.new(1000))
            await app.enqueue(timed.using(retry=5).new(1000))
            await eventually(lambda: count(clean, "retry") == 1, "the second to be retried")
        assert payloads(clean, "dead")[0]["error_class"] == "TimeoutError"
        assert all(0.9 < event.took_s < 10 for event in events("job.failure"))

    async def test_using_counts_more(self, clean: TestServer) -> None:
        async with working(clean, timed) as app:
            await app.enqueue(timed.using(timeout=100).new(1.2))
            await eventually(lambda: events("job.success"), "its success")
        assert payloads(clean, "dead") == []

    @pytest.mark.parametrize("huge", [1e9, 100 * 365 * 86_400.0])
    async def test_one_that_never_comes(self, clean: TestServer, huge: float) -> None:
        async with working(clean, timed) as app:
            await app.enqueue(timed.using(timeout=huge).new(0.01))
            await eventually(lambda: events("job.success"), "its success")


class TestLeakedTasks:
    @pytest.fixture(autouse=True)
    def often(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(watch, "_LEAKS_S", 0.02)

    @pytest.mark.parametrize("how", ["cancel", "report", "ignore"])
    async def test_what_outlives_its_job(self, clean: TestServer, how: str) -> None:
        left: list[asyncio.Task[Any]] = []
        looked: list[Any] = []

        @worker
        async def leaks() -> None:
            left.append(asyncio.create_task(gates[-1].wait(), name="left behind"))

        @worker
        async def waits() -> None:
            """Its own task lives no longer than it does."""
            mine = asyncio.create_task(gates[-1].wait())
            looked.append(mine)
            await mine

        async with working(clean, leaks, waits, leaked_tasks=how) as app:
            await app.enqueue_many([waits.new(), leaks.new()])
            if how != "ignore":
                await eventually(lambda: events("job.leaked_task"), "the leak to be found")
                (leak,) = events("job.leaked_task")
                assert (leak.job.class_, leak.task) == ("leaks", "left behind")
                assert leak.cancelled == (how == "cancel")
            else:
                await eventually(lambda: events("job.success"), "the job to end")
            if how == "cancel":
                await asyncio.wait({*left})
                assert left[0].cancelled()
            else:
                assert not left[0].done()
            assert not looked[0].done()
            gates[-1].set()
            await settled(clean)
        assert not looked[0].cancelled()
        assert len(events("job.leaked_task")) == int(how != "ignore")

    async def test_a_client_that_the_first_job_opens_lives_on(self, clean: TestServer) -> None:
        """Its reader was cancelled five seconds later, and each later job that used it hung."""
        requests: asyncio.Queue[asyncio.Future[str]] = asyncio.Queue()
        readers: list[asyncio.Task[None]] = []

        async def read() -> None:
            while True:
                (await requests.get()).set_result("answer")

        @worker
        async def asks() -> None:
            if not readers:
                readers.append(asyncio.create_task(read()))
            request = asyncio.get_running_loop().create_future()
            requests.put_nowait(request)
            heard.append(await request)

        async with working(clean, asks) as app:
            await app.enqueue(asks.new())
            await eventually(lambda: events("job.leaked_task"), "the reader to be told of")
            await app.enqueue(asks.new())
            await eventually(lambda: heard == ["answer"] * 2, "the second job to be answered")
            assert not readers[0].done()
        readers[0].cancel()
        (told,) = events("job.leaked_task")
        line = inspect.getsourcelines(read)[1]
        assert told.place.startswith(f"{__file__}:{line} in ")

    async def test_each_place_is_told_once(self, clean: TestServer) -> None:
        @worker
        async def leaks() -> None:
            asyncio.create_task(gates[-1].wait())  # noqa: RUF006

        @worker
        async def leaks_elsewhere() -> None:
            asyncio.create_task(asyncio.sleep(3600))  # noqa: RUF006

        async with working(clean, leaks, leaks_elsewhere) as app:
            await app.enqueue_many([leaks.new(), leaks.new(), leaks_elsewhere.new()])
            await eventually(lambda: len(events("job.leaked_task")) == 2, "two places")
            await app.enqueue_many([leaks.new(), leaks_elsewhere.new()])
            await settled(clean)
            watching = watch.LeakWatch("report", told.append)
            await watching.tick()
            await watching.tick()
        assert len(events("job.leaked_task")) == 4  # ours, and those of the second watch
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            if task.get_coro().__qualname__ == "sleep":  # type: ignore[union-attr]
                task.cancel()

    async def test_an_app_that_a_job_starts_is_nobodys(self, clean: TestServer) -> None:
        """Its client was cancelled with the job's tasks, and its `enqueue` never returned."""
        other = App(redis_url=clean.url, server=False, workers=[fails])

        @worker
        async def starts() -> None:
            await other.start()

        async with working(clean, starts, leaked_tasks="cancel") as app:
            await app.enqueue(starts.new())
            await eventually(lambda: events("job.success"), "the other app to be started")
            watching = watch.LeakWatch("cancel", told.append)
            await watching.tick()
            receipt = await asyncio.wait_for(other.enqueue(Job("Elsewhere", queue="other")), 20)
            assert receipt.state == "queued"
            await other.stop()
        assert not events("job.leaked_task")

    async def test_a_queue_that_a_job_added_stays(self, clean: TestServer) -> None:
        """Its stages were taken for tasks that the job had left, and the queue stood still."""
        apps: list[App] = []

        @worker
        async def adds() -> None:
            await apps[0].add_queue("more", 2)

        @worker(queue="more", max_concurrency=1)
        async def there(n: int) -> None:
            heard.append(n)
            await gates[-1].wait()

        async with working(clean, adds, there) as app:
            apps.append(app)
            await app.enqueue(adds.new())
            await eventually(lambda: events("job.success"), "the queue to be added")
            await app.enqueue_many([there.new(1), there.new(2)])
            await eventually(lambda: heard == [1], "a job of the queue to run")
            task = next(t for t in asyncio.all_tasks() if t.get_name() == "kiqpy:queue:more")
            leaks = watch.LeakWatch("cancel", told.append)
            await leaks.tick()
            assert not task.cancelling()
            gates[-1].set()
            await eventually(lambda: heard == [1, 2], "both")
            await eventually(lambda: len(events("job.success")) == 3, "all to end")
        assert not events("job.leaked_task")


async def test_a_foreign_job_with_half_a_surrogate_pair_stops_nobody(clean: TestServer) -> None:
    """Its jid and its lock are words of the ack: every process that met it broke."""
    async with working(clean) as app:
        odd = '{"class":"fails","args":[],"jid":"a\\ud800","queue":"default","retry":true'
        clean.cli("LPUSH", "queue:default", odd + "}")
        clean.cli("LPUSH", "queue:default", odd + ',"unique_for":60,"unique_token":"t\\ud801"}')
        await eventually(lambda: clean.cli("ZCARD", "dead") == 2, "both to be buried")
        await app.enqueue(fails.new())
        await eventually(lambda: clean.cli("ZCARD", "retry") == 1, "the next one's turn")
    assert events("queue.restarted") == []


class TestTheLastFailure:
    """Hooks and `job.dead` got the job as it was before it."""

    @pytest.mark.parametrize("options", [{"retry": 1}, {"retry": 1, "dead": False}, {"retry": 0}])
    async def test_hooks_and_events_see_its_fields(
        self, clean: TestServer, options: dict[str, Any]
    ) -> None:
        seen: list[Job] = []

        @worker(backoff="immediate", **options)
        async def dies() -> None:
            raise ValueError("the last word")

        @dies.retries_exhausted
        def gave_up(job: Job, error: BaseException) -> None:
            seen.append(job)

        def handler(job: Job, error: BaseException) -> None:
            seen.append(job)

        async with working(clean, dies, death_handlers=[handler]) as app:
            await app.enqueue(dies.new())
            await eventually(lambda: len(seen) == 2, "both hooks")
        told = [event.job for event in events("job.dead")]
        assert len(told) == (0 if "dead" in options else 1)
        for job in (*seen, *told):
            assert job.payload["error_class"] == "ValueError"
            assert job.payload["error_message"] == "the last word"
            assert job.retry_count == options["retry"]
            assert ("retried_at" in job.payload) == (options["retry"] == 1)
            assert job.attempt == options["retry"] + 1  # the run that failed
        assert [e.job.attempt for e in events("job.failure")] == [*range(1, options["retry"] + 2)]

    async def test_toniq_retries_five_times(self, clean: TestServer) -> None:
        @worker(backoff="toniq")
        async def dies() -> None:
            raise ValueError

        async with working(clean, dies) as app:
            for count, place in ((3, "retry"), (4, "dead")):
                clean.cli("FLUSHALL")
                told.clear()
                await app.enqueue(Job("dies", retry_count=count, retry=True))
                await eventually(lambda: events("job.failure"), "its failure")
                assert count_of(clean) == {place: 1}


def count_of(server: TestServer) -> dict[str, int]:
    found = {place: count(server, place) for place in ("retry", "dead")}
    return {place: n for place, n in found.items() if n}
