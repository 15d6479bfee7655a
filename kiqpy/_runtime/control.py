"""Run-time control of an app: its queues, their limits, and its jobs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kiqpy._declare.checks import count, queue_name
from kiqpy._flow.thread import LoopThread, from_any_loop
from kiqpy._runtime.lifecycle import Lifecycle

if TYPE_CHECKING:
    from kiqpy.admin import Admin


@from_any_loop()
class ControlFace:
    """The run-time control of an app. What is changed for "this process" ends with the process.

    All else is kept in Redis. Uses nothing of the app but its lifecycle.
    """

    _lifecycle: Lifecycle

    @property
    def _home(self) -> LoopThread | None:
        return self._lifecycle.home

    @property
    def admin(self) -> Admin:
        """Inspect and change jobs, queues and processes, on a server or a client-only app."""
        from kiqpy.admin import Admin  # an expensive import that only operators need

        engine = self._lifecycle.running()
        queues = [*engine.config.queues, *engine.pipelines.queues()]  # a client has no pipelines
        home = engine.enqueuer.thread
        store = engine.store
        return Admin(store.census, engine.clock, queues, engine.effects_of, home, store.lanes)

    async def quiet(self, on: bool = True) -> None:
        """Claim no more jobs in this process until `quiet(False)`; running jobs go on.

        Event: `process.quiet`. Enqueueing continues.
        """
        await self._lifecycle.running().quiet(on)

    async def pause(self, queue: str) -> bool:
        """Let no process claim a job of the queue from now on; False: it was paused already.

        Claimed jobs are run. Kept in Redis; Sidekiq Pro's processes heed it, too. Events:
        `queue.pausing`, `queue.paused`, in each process as it notices, within seconds. Raises
        ConfigError for a queue's name that is none.
        """
        changed = await self.admin.pause(queue)
        await self._notice(queue)
        return changed

    async def resume(self, queue: str) -> bool:
        """Let the queue be claimed from again; False: it was not paused. Event: `queue.running`."""
        changed = await self.admin.resume(queue)
        await self._notice(queue)
        return changed

    async def _notice(self, queue: str) -> None:
        """Let this process see at once what was changed in Redis."""
        pipeline = self._lifecycle.running().pipelines.find(queue)
        if pipeline is not None:
            await pipeline.wake()

    async def add_queue(self, name: str, limit: int = 25) -> None:
        """Work on one more queue in this process, on up to `limit` of its jobs at a time.

        If it was removed and its last jobs still run, it is added when they have ended. Raises
        ConfigError if the process works on it already; LifecycleError for a client. Cancel: it is
        added, or it is not.
        """
        await self._lifecycle.running().add_queue(queue_name(name), count("limit", limit))

    async def remove_queue(self, name: str) -> None:
        """Claim no more jobs of a queue in this process; its running jobs go on.

        Raises ConfigError if the process does not work on it, or it belongs to a group.
        """
        await self._lifecycle.running().pipelines.remove(name)

    async def unsubscribe_all(self) -> None:
        """Claim no more jobs of any queue in this process; `add_queue` adds one again."""
        await self._lifecycle.running().pipelines.drain()

    def scale(self, name: str, limit: int) -> None:
        """Run up to `limit` jobs of a queue (or of its group) at a time in this process.

        Jobs above a lower limit are not interrupted. A queue whose workers are all plain runs no
        more than there are threads or child processes for them.

        Raises ConfigError if the process does not work on the queue, or `limit` is below 1.
        """
        self._lifecycle.running().pipelines.scale(name, count("limit", limit))

    def subscriptions(self) -> dict[str, int]:
        """Each queue that this process claims from, with its limit."""
        return self._lifecycle.running().pipelines.subscriptions()

    async def wake(self, queue: str | None = None) -> None:
        """Look for jobs now, in one queue or in all, and for due ones.

        Raises ConfigError if the process does not work on the queue.
        """
        engine = self._lifecycle.running()
        engine.loops.wake()
        await engine.pipelines.wake(queue)

    async def cancel(self, jid: str, *, keep: bool = True) -> str:
        """Cancel a job wherever it is; a running one is interrupted within a second.

        It ends in the dead set with reason `cancelled`, and is not retried; `keep=False`: it is
        gone. Returns where it was: see `Admin.cancel`. A job in a thread can't be interrupted.
        """
        where = await self.admin.cancel(jid, keep=keep)
        self._lifecycle.running().loops.wake_one("cancel")
        return where

    async def clear(self, *, force: bool = False) -> int:
        """Delete all jobs, statistics and other keys; how many keys. See `Admin.clear_all`.

        Raises StoreRefused while other processes run, unless `force`.
        """
        return await self.admin.clear_all(force=force)
