"""The heartbeat: a thread with a socket of its own, so that a blocked event loop keeps its jobs.

Only when the loop has not turned at all for `stuck_after` seconds are the jobs given up: the thread
then writes every thread's stack to stderr and ends the process, which nothing else could. Others
rescue its jobs when its lease has run out.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol, final

from kiqpy._flow.service import StartStop
from kiqpy._flow.tasks import ended, whole
from kiqpy._runtime.exits import end_stuck
from kiqpy.clock import Clock
from kiqpy.errors import StoreError
from kiqpy.event import LoopLag
from kiqpy.store import Heartbeat, HeartbeatReply, Maintenance

if TYPE_CHECKING:
    from kiqpy._rules.culprit import Culprit

_log = logging.getLogger("kiqpy")
_RETRY_S: Final = 1.0  # after a failed beat; the lease outlives several of them
_TURN_S: Final = 0.1  # how long a beat waits for the loop to say what is new
_LEAVE_S: Final = 5.0  # a store that does not answer must not keep a process from ending
_LAG_S: Final = 0.25  # a loop that takes longer to answer is blocked by something


class HeartbeatSettings(NamedTuple):
    """`stuck_after_s`: for how long the loop may stand still; then the jobs are given up."""

    interval_s: float
    stuck_after_s: float | None = None


class HeartbeatOwner(Protocol):
    """The process that the heartbeat speaks for. All is called in its event loop."""

    def heartbeat(self) -> Heartbeat:
        """What the process says of itself now."""
        ...

    def on_reply(self, reply: HeartbeatReply) -> None:
        """The store has taken a heartbeat, and has answered this."""

    def on_lease_lost(self) -> None:
        """Heartbeats failed for longer than the lease; called once, until one succeeds."""

    def on_lag(self, lag: LoopLag) -> None:
        """The loop took long to answer: something has blocked it."""


class HeartbeatSender(Protocol):
    """Holds the lease of a process from `start` to `stop`: a `Service`."""

    async def start(self) -> None:
        """Beat once, which takes the lease; raises what the store answers. Then go on."""
        ...

    async def stop(self) -> None:
        """Beat no more, and give up the lease. If the store does not answer, it runs out."""
        ...

    def abandon(self) -> None:
        """Beat no more: the event loop was closed without a stop. The lease runs out."""
        ...


MakeHeartbeat = Callable[[Maintenance, Clock, HeartbeatSettings, HeartbeatOwner], HeartbeatSender]


async def leave(store: Maintenance, clock: Clock) -> None:
    """Give up the lease, if the store answers; raises nothing."""
    leaving = asyncio.ensure_future(_leave(store))
    await ended({leaving}, _LEAVE_S, clock)
    leaving.cancel()
    await ended({leaving}, 1.0, clock)


async def _leave(store: Maintenance) -> None:
    try:
        await store.leave()
    except StoreError as error:
        _log.warning("the process could not leave, its lease will run out: %s", error)


@final
class HeartbeatThread:
    """Beats every `interval_s` until it is stopped; passes the replies on to the event loop."""

    def __init__(
        self,
        store: Maintenance,
        clock: Clock,
        settings: HeartbeatSettings,
        owner: HeartbeatOwner,
    ) -> None:
        self._store = store
        self._clock = clock
        self._settings = settings
        self._owner = owner
        self._halt = threading.Event()
        self._answered = threading.Event()  # the loop has said what is new
        self._thread: threading.Thread | None = None
        self._culprit: Culprit | None = None
        self._loop_depth = 0
        self._service = StartStop[None]("the heartbeat", None)

    async def start(self) -> None:
        """See `HeartbeatSender.start`."""
        await self._service.start(self._begin, self._end)

    async def _begin(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._loop_thread = threading.get_ident()
        self._loop.call_soon(self._measure_loop)
        self._halt.clear()
        self._refresh()
        # To its end: a beat that is not awaited could take the lease after it was given up.
        await whole(asyncio.to_thread(self._store.beat, self._latest))
        self._lapsed = False
        self._thread = threading.Thread(target=self._beat_on, name="kiqpy-beat", daemon=True)
        self._thread.start()

    def _refresh(self) -> None:
        """Runs in the loop, and so proves that it turns."""
        self._turned = self._clock.monotonic()
        self._latest = self._owner.heartbeat()
        self._answered.set()

    def _answer(self, asked: float) -> None:
        self._refresh()
        if (lag_s := self._turned - asked) > _LAG_S:
            self._owner.on_lag(LoopLag(lag_s, *(self._culprit or ())))

    def _beat_on(self) -> None:
        interval_s = pause_s = self._settings.interval_s
        while not self._halt.wait(pause_s):
            self._ask_loop()
            self._end_if_stuck()
            try:
                reply = self._store.beat(self._latest)
            except StoreError:
                pause_s = min(_RETRY_S, interval_s)
                if not self._lapsed and not self._store.trusted():
                    self._lapsed = True
                    self._post(self._owner.on_lease_lost)
            else:
                pause_s, self._lapsed = interval_s, False
                self._post(self._owner.on_reply, reply)
            if self._culprit is None and not self._answered.wait(_LAG_S):
                self._look_who_blocks()

    def _ask_loop(self) -> None:
        if self._answered.is_set():  # else it has not answered the last time yet
            self._answered.clear()
            self._culprit = None
            self._post(self._answer, self._clock.monotonic())
        self._answered.wait(_TURN_S)

    def _measure_loop(self) -> None:
        """How many frames there are below a step of the loop: those of the loop and its caller."""
        frame, self._loop_depth = inspect.currentframe(), -1  # this one is not of the loop
        while frame is not None:
            frame, self._loop_depth = frame.f_back, self._loop_depth + 1

    def _look_who_blocks(self) -> None:
        """Look what the loop's thread does, while it does it."""
        from kiqpy._rules.culprit import culprit, stack_of  # only who is blocked pays for it

        self._culprit = culprit(stack_of(self._loop_thread)[self._loop_depth :])

    def _post(self, call: Callable[..., None], *args: object) -> None:
        try:
            self._loop.call_soon_threadsafe(call, *args)
        except RuntimeError:  # the loop is closed
            self._halt.set()

    def _end_if_stuck(self) -> None:
        after_s = self._settings.stuck_after_s
        if after_s is not None and self._clock.monotonic() - self._turned > after_s:
            end_stuck(
                f"the event loop has not turned for {after_s:g} s: this process gives up its jobs "
                "and ends"
            )

    async def stop(self) -> None:
        """See `HeartbeatSender.stop`; waits for the thread to end."""
        await self._service.stop(self._end)

    def abandon(self) -> None:
        """See `HeartbeatSender.abandon`."""
        self._halt.set()

    async def _end(self) -> None:
        self._halt.set()
        if self._thread is not None:
            await asyncio.to_thread(self._thread.join)
            self._thread = None
        await leave(self._store, self._clock)
