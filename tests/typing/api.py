"""The public API as a user's type checker sees it. Checked by mypy and pyright, never run.

`# error: TEXT` after a line: each checker must report that line. No other line may be reported.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any, assert_type

from kiqpy import (
    App,
    Config,
    Discard,
    Job,
    Kill,
    Periodic,
    QueueGroup,
    Receipt,
    Reporter,
    Snooze,
    Worker,
    current_job,
    env,
    worker,
)
from kiqpy.event import JobFailure, JobSuccess
from kiqpy.middleware import Next
from kiqpy.queues import Queue
from tests.typing import some_workers


@worker
async def bare(n: int) -> str:
    return str(n)


@worker(queue="mail", retry=10, timeout=timedelta(seconds=30), tags=["a"])
async def send(user_id: int, template: str = "plain", *, loud: bool = False) -> None: ...


@worker(executor="process")
def crunch(path: str) -> int:
    return len(path)


class Export(Worker, queue="exports", retry=5, expires_in=3600):
    async def perform(self, report_id: int, *, fast: bool = False) -> Snooze | Discard | None:
        assert_type(self.job, Job)
        assert_type(self.job.jid, str)
        return Snooze(5) if fast else Discard("done")


class Written(Worker):
    queue = "mail"
    retry = 0
    timeout = timedelta(seconds=5)
    tags = ["a", "b"]
    backoff = "kiq"

    async def perform(self, to: str, n: int = 1) -> bool:
        return n > 1


assert_type(Written.new("x", n=2), Job[bool])


@send.retries_exhausted
async def gave_up(job: Job, error: BaseException) -> None: ...


class Import(Worker, name="Ruby::Import", backoff="kiq", tags=("a", "b"), codecs=[datetime]):
    def perform(self, path: str, rows: int = 0) -> int:
        return rows

    async def retries_exhausted(self, job: Job, error: BaseException) -> None: ...


class Listener(Reporter):
    limit = 10
    overflow = "drop_oldest"

    async def start(self) -> None: ...

    def handle_success(self, job: Job, meta: JobSuccess) -> None:
        assert_type(meta.took_s, float)

    async def handle_failure(self, job: Job, error: BaseException, meta: JobFailure) -> None:
        assert_type(meta.retry_in_s, float | None)


class Jobs(App):
    queues = {"default": 25, "mail": None}
    workers = [bare, send, crunch, Export]
    reporters = [Listener]
    redis_url = env("REDIS", default="redis://localhost")
    shutdown_timeout = 10

    def init(self, config: Config) -> Config:
        return config.replace(shutdown_timeout=5)


async def timed(job: Job, call_next: Next) -> Any:
    return await call_next(job)


class Traced:
    async def __call__(self, job: Job, call_next: Next) -> Any:
        return await call_next(job)


def linear(count: int, error: BaseException, job: Job) -> float | Discard:
    return 15.0 * count


def buried(job: Job, error: BaseException) -> None: ...


async def url() -> str:
    return "redis://localhost"


class All(App):
    queues = ["mail", QueueGroup(["critical", "low"], concurrency=20, mode="strict"), Queue(5)]
    groups = [QueueGroup("tenant-*")]
    workers = (send, Export, some_workers)
    periodics = [
        Periodic("0 9 * * mon-fri", send, args=[1], tz="Europe/Paris"),
        ("*/5 * * * *", Export),
        ("0 9 * * 1-5", Export, {"args": [1], "tz": "Europe/Paris", "jitter": timedelta(1)}),
    ]
    middleware = [timed, Traced, Traced()]
    client_middleware = [timed]
    death_handlers = [buried, gave_up]
    reporters = [Listener(), Listener]
    backoff = linear
    redis_url = url
    schedulers = []
    start_log_level = "info"

    async def init(self, config: Config) -> Config | None:
        return None


class Limits(App):
    queues = {"a": 1, "b": None, "c": QueueGroup(["c", "d"]), "e": env("E", cast=int)}
    retry = env("RETRY", cast=int, default=5)
    timeout = timedelta(minutes=1)
    on_unflushed = env("UNFLUSHED", default="raise")
    start_log_level = env("LEVEL")

    def init(self, config: Config) -> bool:
        return config.embedded


def declared_elsewhere(names: list[str], limits: dict[str, int], more: dict[str, Any]) -> list[App]:
    return [App(queues=names), App(queues=limits, workers=[send]), App(**more)]


# -- right


async def right() -> None:
    assert_type(send.new(1), Job[None])
    assert_type(bare.new(1), Job[str])
    assert_type(Import.new("x", rows=1), Job[int])
    assert_type(Job("Ruby::Worker", [1]), Job[Any])
    job: Job = send.new(1)
    assert_type(job.jid, str)
    send.new(1, "html", loud=True)
    send.new(user_id=1, template="x")
    crunch.new("/tmp")
    assert_type(Export.new(1), Job[Snooze | Discard | None])
    Export.new(1, fast=True)
    assert_type(send.using(queue="slow", in_=timedelta(hours=1)).new(1, "x"), Job[None])
    assert_type(Import.using(queue="slow", in_=5, retry=0).new("x", 1), Job[int])
    assert_type(await Import.using(at=1e9, unique_for=60).enqueue("x"), Receipt[int])
    assert_type(await Import.enqueue("x", rows=5), Receipt[int])
    assert_type(await send.using(at=datetime.now(UTC)).enqueue(1), Receipt[None])
    assert_type(await send.enqueue(1, loud=True), Receipt[None])
    assert_type(await bare(1), str)
    assert_type(crunch("/tmp"), int)
    async with Jobs(redis_url="redis://localhost", shutdown_timeout=timedelta(seconds=3)) as jobs:
        assert_type(jobs, Jobs)
        receipt = await jobs.enqueue(bare.new(1), in_=60)
        assert_type(receipt, Receipt[str])
        kept: Receipt = receipt
        assert_type(kept.jid, str)
        assert_type(await jobs.enqueue(Job("Ruby::Worker", [1])), Receipt[Any])
        assert_type(receipt.state in ("queued", "scheduled", "buffered", "duplicate"), bool)
        await jobs.enqueue(Export.new(1), at=datetime.now(UTC))
        await jobs.enqueue_many([send.new(1), Export.new(2), Job("Ruby::Worker")])
        assert_type(await jobs.enqueue_many([bare.new(1), bare.new(2)]), list[Receipt[str]])
        assert_type(jobs.enqueue_nowait(bare.new(1)), Receipt[str])
        assert_type(jobs.enqueue_sync(bare.new(1), timeout=5), Receipt[str])
        assert_type(jobs.client.snapshot().buffered, int)
        jobs.attach("job.*", print)
        assert_type([row.next_at for row in await jobs.cron()], list[float | None])
        assert_type(await jobs.cron.enable("report"), bool)
        assert_type((await jobs.cron.run_now("report")).jid, str)
        assert_type(len(jobs.periodics), int)
        await jobs.flush()
    async with Jobs().client_only() as jobs:
        assert_type(jobs, Jobs)
    assert_type(current_job(), Job)
    assert_type(current_job(None), Job | None)
    raise Kill("never")


# -- wrong


async def wrong(jobs: Jobs) -> None:
    send.new("1")  # error: a str for an int
    send.new()  # error: user_id is missing
    send.new(1, colour="red")  # error: no such parameter
    send.new(1, "a", "b")  # error: one too many
    crunch.new(3)  # error: an int for a str
    Export.new("1")  # error: a str for an int
    Export.new(1, fast="yes")  # error: a str for a bool
    Export.new(1, slow=True)  # error: no such parameter
    send.using(queue="slow").new("1")  # error: a str for an int
    await send.enqueue("1")  # error: a str for an int
    await bare("1")  # error: a str for an int
    await jobs.enqueue(send)  # error: a worker for a job
    await jobs.enqueue(send.new(1), in_="60")  # error: a str for a duration
    await jobs.enqueue(send.new(1), at="tomorrow")  # error: a str for an instant
    await jobs.enqueue_many(send.new(1))  # error: one job for many
    App(redis_ulr="redis://localhost")  # error: no such option
    App(queues={"a": "b"})  # error: a str for a limit
    App(shutdown_timeout="25")  # error: a str for a duration
    App(periodics=[("* * * * *", send, {"agrs": [1]})])  # error: no such option of a periodic
    App(reporters=[send])  # error: a worker for a reporter
    App(middleware=[buried])  # error: not async, and takes other arguments
    App(test_mode="sandbx")  # error: no such mode
    jobs.override(redis_ulr="redis://localhost")  # error: no such option
    jobs.config.replace(shutdwon_timeout=1)  # error: no such option
    send.using(queu="slow")  # error: no such option
    send.using(max_concurrency=1)  # error: an option of the worker, no job carries it
    Import.using(queu="slow")  # error: no such option
    Import.using(queue="slow").new(1)  # error: an int for a str
    await Import.enqueue(1)  # error: an int for a str
    await Import.using(queue="slow").enqueue("x", colour=1)  # error: no such parameter
    receipt = await jobs.enqueue(send.new(1))
    receipt.state = "queued"  # error: it is frozen
    await jobs.periodics()  # error: the declaration, not the control


@worker(queu="x")  # error: no such option
def misspelt() -> None: ...


@worker(retry="x")  # error: a str for a number
def mistyped() -> None: ...


@send.retries_exhausted  # error: the hook takes an error, too
def short_hook(job: Job) -> None: ...


class Misspelt(Worker, queu="x"):  # error: no such option
    def perform(self) -> None: ...


class MistypedAttribute(Worker):
    queue = 5  # error: an int for a str

    def perform(self) -> None: ...


class Mistyped(Worker, queue=5):  # error: an int for a str
    def perform(self) -> None: ...


class ShortHook(Worker):
    def perform(self) -> None: ...

    def retries_exhausted(self, job: Job) -> None: ...  # error: it takes an error, too


class StringLimit(App):
    queues = {"a": "b"}  # error: a str for a limit


class NoWorker(App):
    workers = [buried]  # error: not made with @worker


class NoPeriodic(App):
    periodics = [("* * * * *",)]  # error: no worker


class NoMiddleware(App):
    middleware = [buried]  # error: not async, and takes other arguments


class NoHandler(App):
    death_handlers = [timed]  # error: takes call_next instead of an error


class NoLevel(App):
    start_log_level = "inof"  # error: no such level


class NoBackoff(App):
    backoff = 3  # error: neither a curve's name nor a function


class NoConfig(App):
    def init(self) -> None: ...  # error: it gets the config


class NoAnswer(App):
    def init(self, config: Config) -> str:  # error: it returns a config
        return config.identity or ""


class NoError(Reporter):
    def handle_failure(self, job: Job, error: BaseException) -> None: ...  # error: and the event
