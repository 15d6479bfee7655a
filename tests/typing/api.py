"""The public API as a user's type checker sees it. Checked by mypy and pyright, never run.

`# error: TEXT` after a line: each checker must report that line. No other line may be reported.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import assert_type

from kiqpy import (
    App,
    Config,
    Discard,
    Job,
    Kill,
    Receipt,
    Reporter,
    Snooze,
    Worker,
    current_job,
    env,
    worker,
)
from kiqpy.event import JobFailure, JobSuccess


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


# -- right


async def right() -> None:
    assert_type(send.new(1), Job)
    send.new(1, "html", loud=True)
    send.new(user_id=1, template="x")
    crunch.new("/tmp")
    assert_type(Export.new(1), Job)
    Export.new(1, fast=True)
    assert_type(send.using(queue="slow", in_=timedelta(hours=1)).new(1, "x"), Job)
    assert_type(await send.using(at=datetime.now(UTC)).enqueue(1), Receipt)
    assert_type(await send.enqueue(1, loud=True), Receipt)
    assert_type(await bare(1), str)
    assert_type(crunch("/tmp"), int)
    async with Jobs(redis_url="redis://localhost", shutdown_timeout=timedelta(seconds=3)) as jobs:
        assert_type(jobs, Jobs)
        receipt = await jobs.enqueue(send.new(1), in_=60)
        assert_type(receipt.state in ("queued", "scheduled", "buffered", "duplicate"), bool)
        await jobs.enqueue(Export.new(1), at=datetime.now(UTC))
        assert_type(await jobs.enqueue_many([send.new(1), Export.new(2)]), list[Receipt])
        assert_type(jobs.enqueue_nowait(send.new(1)), Receipt)
        assert_type(jobs.enqueue_sync(send.new(1), timeout=5), Receipt)
        assert_type(jobs.client.snapshot().buffered, int)
        jobs.attach("job.*", print)
        await jobs.flush()
    async with Jobs().client_only() as jobs:
        assert_type(jobs, Jobs)
    assert_type(current_job(), Job)
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
