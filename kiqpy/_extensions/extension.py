"""What a capability may add to an app, and what it may use of the app."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple, Protocol

from kiqpy._declare.sources import QueueSpec
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
from kiqpy.store import Source, Store


class RunningQueues(Protocol):
    """The queues that this process works on, as an extension sees them."""

    def runs(self) -> list[Run]:
        """The runs in progress in this process."""
        ...

    def subscriptions(self) -> dict[str, int]:
        """Each queue that this process claims from, with the limit of its pipeline."""
        ...

    def cancel(self, cancelled: dict[str, bool]) -> None:
        """Interrupt the cancelled jobs that run here, and remove them from `cancelled`."""
        ...

    def claims_from(self, queue: str) -> bool:
        """Whether jobs of a queue begin here now: not before the start, quiet, or at a stop."""
        ...

    async def discover(self, names: Iterable[str]) -> None:
        """Work on the named queues that match a declared pattern."""
        ...


class OwnQueue(NamedTuple):
    """A queue whose claims are fetched and settled through a store's half of its own."""

    spec: QueueSpec
    store: Source


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
    """Base of all extensions: override the parts that yours has. They run in the list's order.

    The app asks for each part once a start, and for some again after `Host.recompose`. An app that
    only enqueues has no checks and gates, and runs only those loops that are `on_clients`.
    """

    def __init__(self, host: Host) -> None:
        self.host = host

    def around_enqueuer(self, enqueuer: JobEnqueuer) -> JobEnqueuer:
        """Wrap the enqueuer. Unlike client middleware, the wrapper sees a batch as one call."""
        return enqueuer

    def around_client(self, client: JobClient) -> JobClient:
        """What stands before the client: it sees jobs that were admitted, whoever enqueued them."""
        return client

    def own_queues(self) -> Sequence[OwnQueue]:
        """Queues that are worked on besides the declared ones. Of a server."""
        return ()

    def client_middleware(self) -> Sequence[ClientMiddleware | type[object]]:
        """Middleware called around each push; the first extension's is the outermost."""
        return ()

    def server_middleware(self) -> Sequence[ServerMiddleware | type[object]]:
        """Middleware called around each attempt; the first extension's is the outermost."""
        return ()

    def contexts(self) -> Sequence[Callable[[Job], object]]:
        """Called in the job's own context, before the middleware: what they set, the job sees."""
        return ()

    def checks(self) -> Sequence[JobCheck]:
        """Checks of each attempt, asked before all gates, and again after each gate that waited."""
        return ()

    def gates(self, spec: Spec) -> Sequence[Gate]:
        """Gates of this worker's jobs, asked before each attempt; runs return what they took."""
        return ()

    def effects_of(self) -> Sequence[EffectsOf]:
        """Rules that choose effects of settling, rescuing or moving a job; see `Effect`."""
        return ()

    def reporters(self) -> Sequence[Reporter]:
        """Reporters, each called behind a queue of its own."""
        return ()

    def handlers(self) -> Sequence[tuple[str, Handler]]:
        """Event patterns, each with a handler, attached before the start until after the stop."""
        return ()

    def loops(self) -> Sequence[Loop]:
        """Loops that run from the start of the app to its stop."""
        return ()


MakeExtension = Callable[[Host], Extension]
