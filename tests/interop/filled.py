"""A Redis with jobs in every state, all put there by kiqpy itself."""

from __future__ import annotations

from kiqpy import Job
from tests.eventually import eventually
from tests.interop.python_jobs import Jobs, echo, held, shaky
from tests.interop.told import size
from tests.server import TestServer

# Trap 16: these would be markup on Sidekiq's pages if kiqpy let them be.
TEXT = "<script>é & 'q' \"d\"</script>"
WAITING = 30


async def fill(jobs: Jobs, server: TestServer) -> None:
    """Two run, three are to be retried (one failed twice), four are dead, the rest waits."""
    await jobs.enqueue(shaky.new("twice"))
    await eventually(lambda: size(server, "retry") == 1, "a first failure")
    await jobs.admin.requeue_all("retry")
    await eventually(lambda: _failed(server) == 2, "a second failure")
    await jobs.enqueue(shaky.new("once"))
    await jobs.enqueue(shaky.new("once more"))
    await jobs.enqueue(shaky.using(retry=0, tags=["a", TEXT]).new(TEXT))
    await jobs.enqueue(Job("Nobody", [1], retry=0))
    await eventually(lambda: _failed(server) == 6, "all failures")
    await jobs.enqueue_many([held.new("a"), held.new("b")])
    await eventually(lambda: size(server, "test:began") == 2, "two running jobs")
    mail = echo.using(queue="mail", tags=["x"])
    await jobs.enqueue_many([mail.new(n, {"k": [n, None]}, TEXT) for n in range(WAITING)])
    await jobs.enqueue(echo.using(queue="other", expires_in=60, unique_for=60).new("u"))
    for n in range(3):
        await jobs.enqueue(echo.new("later", n), in_=1000 + n)
    cancelled = await jobs.enqueue(echo.new("cancelled"), in_=900)
    await jobs.cancel(cancelled.jid)
    killed = await jobs.enqueue(echo.using(queue="mail").new("killed"))
    await jobs.admin.kill(killed.jid, "queue:mail")
    busy = jobs.store.ident
    await eventually(lambda: server.cli("HGET", busy, "busy") == "2", "a heartbeat that says so")


def _failed(server: TestServer) -> int:
    return int(str(server.cli("GET", "stat:failed") or 0))
