"""What a capability may add to an app, and what it may use of the app."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

from kiqpy._flow.loop import Loop
from kiqpy._intake.protocol import JobClient, JobEnqueuer
from kiqpy._registry import Registry
from kiqpy._reporting.bus import Bus, Handler
from kiqpy._rules.effects import EffectsOf
from kiqpy._spec import Spec
from kiqpy._stages.consumer import Run
from kiqpy._stages.gates import Gate, JobCheck
from kiqpy.clock import Clock
from kiqpy.config import Config
from kiqpy.job import Job
from kiqpy.middleware import ClientMiddleware, ServerMiddleware
from kiqpy.reporter import Reporter
from kiqpy.store import Store


class RunningQueues(Protocol):
    """The queues that this process works on, as an extension sees them."""

    def runs(self) -> list[Run]:
        """What runs now."""
        ...

    def subscriptions(self) -> dict[str, int]:
        """Each queue that is claimed from, with the limit that it has, alone or with others."""
        ...

    def cancel(self, cancelled: dict[str, bool]) -> None:
        """Interrupt those of the cancelled jobs that run here; they are taken off the list."""
        ...

    async def discover(self, names: Iterable[str]) -> None:
        """Take in those queues that a declaration's pattern matches."""
        ...


class Host(Protocol):
    """The app that an extension is made for; one for each start.

    In the extension's constructor `pipelines` and `client` are not there yet: they are made of
    what the extensions say. All of the rest is.
    """

    @property
    def config(self) -> Config: ...

    @property
    def registry(self) -> Registry: ...

    @property
    def reporters(self) -> Sequence[Reporter]: ...

    @property
    def store(self) -> Store: ...

    @property
    def bus(self) -> Bus: ...

    @property
    def clock(self) -> Clock: ...

    @property
    def pipelines(self) -> RunningQueues: ...

    @property
    def client(self) -> JobClient: ...

    def recompose(self) -> None:
        """Ask all extensions anew for what stands around enqueues and attempts, and for handlers.

        It counts from the next enqueue, attempt and event.
        """
        ...


class Extension:
    """Override the parts that a capability has. Order is the list's.

    Each is asked once a start, and some again after `Host.recompose`. Checks and gates are asked
    of a server only, and of an app that only enqueues run the loops that are `on_clients`.
    """

    def __init__(self, host: Host) -> None:
        self.host = host

    def around_enqueuer(self, enqueuer: JobEnqueuer) -> JobEnqueuer:
        """What stands before the ways in; unlike client middleware it sees a batch as one."""
        return enqueuer

    def client_middleware(self) -> Sequence[ClientMiddleware | type[object]]:
        """Around each push; the first extension's is the outermost."""
        return ()

    def server_middleware(self) -> Sequence[ServerMiddleware | type[object]]:
        """Around each attempt; the first extension's is the outermost."""
        return ()

    def contexts(self) -> Sequence[Callable[[Job], object]]:
        """Called in the job's own context, before the middleware: what they set, the job sees."""
        return ()

    def checks(self) -> Sequence[JobCheck]:
        """Asked first, and again whenever a gate has waited."""
        return ()

    def gates(self, spec: Spec) -> Sequence[Gate]:
        """Asked before each attempt of this worker's jobs; what they took is given back after."""
        return ()

    def effects_of(self) -> Sequence[EffectsOf]:
        """What the store does in the step that settles, rescues or moves a job; see `Effect`."""
        return ()

    def reporters(self) -> Sequence[Reporter]:
        """Told of jobs' ends, each behind a queue of its own."""
        return ()

    def handlers(self) -> Sequence[tuple[str, Handler]]:
        """Pattern and handler, attached from before the start until after the stop."""
        return ()

    def loops(self) -> Sequence[Loop]:
        """Run from the start to the stop."""
        return ()


MakeExtension = Callable[[Host], Extension]
