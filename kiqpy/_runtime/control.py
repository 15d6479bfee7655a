"""What an operator or a program changes while an app runs: its queues, their limits, its jobs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kiqpy._declare.checks import count, queue_name
from kiqpy._runtime.lifecycle import Lifecycle

if TYPE_CHECKING:
    from kiqpy.admin import Admin


class Control(Lifecycle):
    """Run-time control; what is said of "this process" ends with it, the rest is kept in Redis."""

    @property
    def admin(self) -> Admin:
        """Look at all there is in the store, and act upon it; also without a server."""
        from kiqpy.admin import Admin  # dear: only operators need it

        engine = self._running()
        queues = [*engine.config.queues, *engine.pipelines.queues()]  # a client has no lines
        return Admin(engine.store.census, engine.clock, queues, engine.effects_of)

    async def quiet(self, on: bool = True) -> None:
        """Claim no more jobs in this process until `quiet(False)`; what runs goes on."""
        await self._running().quiet(on)

    async def pause(self, queue: str) -> bool:
        """No process claims a job of the queue from now on; False: it was paused already.

        What has been claimed is run. Sidekiq Pro's processes heed it too. Events: `queue.pausing`,
        `queue.paused`, in each process as it notices, within seconds.
        """
        changed = await self.admin.pause(queue)
        await self._wake(queue)
        return changed

    async def resume(self, queue: str) -> bool:
        """Let the queue be claimed from again; False: it was not paused. Event: `queue.running`."""
        changed = await self.admin.resume(queue)
        await self._wake(queue)
        return changed

    async def _wake(self, queue: str) -> None:
        pipeline = self._running().pipelines.find(queue)
        if pipeline is not None:
            await pipeline.wake()

    async def add_queue(self, name: str, limit: int = 25) -> None:
        """Work on one more queue in this process.

        If it was removed and its last jobs still run, it is added when they have ended.
        """
        await self._running().add_queue(queue_name(name), count("limit", limit))

    async def remove_queue(self, name: str) -> None:
        """Claim no more of a queue in this process; its running jobs end in their own time."""
        await self._running().pipelines.remove(name)

    async def unsubscribe_all(self) -> None:
        """Claim no more of any queue in this process; `add_queue` brings one back."""
        await self._running().pipelines.drain()

    def scale(self, name: str, limit: int) -> None:
        """Run so many jobs of a queue (or of its group) at a time in this process.

        Jobs above a lower limit are not interrupted.
        """
        self._running().pipelines.scale(name, count("limit", limit))

    def subscriptions(self) -> dict[str, int]:
        """Each queue that this process claims from, with its limit."""
        return self._running().pipelines.subscriptions()

    async def wake(self, queue: str | None = None) -> None:
        """Look for jobs now, in one queue or in all, and for due ones."""
        engine = self._running()
        engine.loops.wake()
        await engine.pipelines.wake(queue)

    async def cancel(self, jid: str, *, keep: bool = True) -> str:
        """Cancel a job wherever it is; a running one is interrupted within a second.

        It ends in the dead set with reason `cancelled`, and is not retried; `keep=False`: it is
        gone. Returns where it was: see `Admin.cancel`. A job in a thread can't be interrupted.
        """
        return await self.admin.cancel(jid, keep=keep)

    async def clear(self, *, force: bool = False) -> int:
        """Delete all jobs, statistics and other keys; how many keys. See `Admin.clear_all`."""
        return await self.admin.clear_all(force=force)
