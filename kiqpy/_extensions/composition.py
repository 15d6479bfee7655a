"""Combines the parts of all extensions, each kind in the order of the extensions."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import chain
from typing import final

from kiqpy._extensions.extension import Extension, Host, MakeExtension, OwnQueue
from kiqpy._flow.forks import forget_in_child
from kiqpy._flow.loop import Loop
from kiqpy._intake.protocol import JobClient, JobEnqueuer
from kiqpy._reporting.bus import Bus, Handler
from kiqpy._rules.effects import EffectsOf
from kiqpy._spec import Spec
from kiqpy._stages.gates import Gate
from kiqpy._stages.perform import Steps
from kiqpy.middleware import ClientMiddleware, compile_server
from kiqpy.reporter import Reporter


@final
class Composition:
    """The extensions of one started app."""

    def __init__(self, host: Host, makers: Iterable[MakeExtension]) -> None:
        self._extensions: list[Extension] = [make(host) for make in makers]
        self._handlers: list[Handler] = []
        self._bus: Bus | None = None
        forget_in_child(self._forget)

    def around_enqueuer(self, enqueuer: JobEnqueuer) -> JobEnqueuer:
        """The enqueuer, wrapped by each extension; the first extension's is the outermost."""
        for extension in reversed(self._extensions):
            enqueuer = extension.around_enqueuer(enqueuer)
        return enqueuer

    def around_client(self, client: JobClient) -> JobClient:
        """The client with all that stands before it, the first extension's outermost."""
        for extension in reversed(self._extensions):
            client = extension.around_client(client)
        return client

    def own_queues(self) -> list[OwnQueue]:
        """What is worked on besides the declared queues."""
        return list(chain.from_iterable(e.own_queues() for e in self._extensions))

    def client_middleware(self) -> tuple[ClientMiddleware | type[object], ...]:
        """Client middleware, called around each push; outermost first."""
        return tuple(chain.from_iterable(e.client_middleware() for e in self._extensions))

    def reporters(self) -> list[Reporter]:
        """Reporters, in the order in which they are started."""
        return list(chain.from_iterable(e.reporters() for e in self._extensions))

    def loops(self) -> list[Loop]:
        """The loops of all extensions, in order."""
        return list(chain.from_iterable(e.loops() for e in self._extensions))

    def steps(self) -> Steps:
        """The checks, gates, contexts and middleware of every attempt."""
        extensions = self._extensions
        return Steps(
            checks=tuple(chain.from_iterable(e.checks() for e in extensions)),
            gates=self._gates,
            contexts=tuple(chain.from_iterable(e.contexts() for e in extensions)),
            around=compile_server(chain.from_iterable(e.server_middleware() for e in extensions)),
        )

    def effects_of(self) -> tuple[EffectsOf, ...]:
        """Rules that choose the effects of settling, rescuing or moving a job."""
        return tuple(chain.from_iterable(e.effects_of() for e in self._extensions))

    def _gates(self, spec: Spec) -> tuple[Gate, ...]:
        return tuple(chain.from_iterable(e.gates(spec) for e in self._extensions))

    def attach(self, bus: Bus) -> None:
        """Attach the extensions' handlers to the bus."""
        self._bus = bus
        for pattern, handler in chain.from_iterable(e.handlers() for e in self._extensions):
            bus.attach(pattern, handler)
            self._handlers.append(handler)

    def detach(self, bus: Bus) -> None:
        """Detach the handlers from the bus. Idempotent."""
        for handler in self._handlers:
            bus.detach(handler)
        self._handlers.clear()

    def _forget(self) -> None:
        """In a forked child, where the app may be started anew: hear of nothing there."""
        if self._bus is not None:
            self.detach(self._bus)
