"""An app on the memory store, in virtual time, with a plan of faults."""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from collections.abc import Coroutine
from types import TracebackType
from typing import Any, TypeVar

from kiqpy import App, Job, StoreUnavailable, current_job, worker
from kiqpy._runtime.engine import Engine, EngineParts
from kiqpy._runtime.environment import Environment, MakeEngine
from kiqpy._runtime.heartbeat import HeartbeatOwner, HeartbeatSettings, leave
from kiqpy.clock import Clock
from kiqpy.config import Config
from kiqpy.job import decode
from kiqpy.store import Maintenance
from kiqpy.store._session import Session
from kiqpy.store.memory.backend import MemoryBackend, MemoryServer
from kiqpy.testing import FakeClock, rest
from tests.faults import Faults, Faulty

T = TypeVar("T")
PLACES = ("schedule", "retry", "dead")


@worker(name="good", retry=False)
async def good() -> None:
    house = House.now
    house.starts[current_job().jid] += 1
    await house.clock.sleep(1.0)


@worker(name="bad", retry=1, backoff=lambda *_: 2.0)
async def bad() -> None:
    House.now.starts[current_job().jid] += 1
    raise ValueError("as always")


class House:
    """One memory server and its time; apps live in it one after the other, or together."""

    now: House

    def __init__(self) -> None:
        House.now = self
        self.clock = FakeClock()
        self.server = MemoryServer(self.clock)
        self.starts: Counter[str] = Counter()
        self.done: Counter[str] = Counter()
        self.pushed: set[str] = set()
        self.troubles: list[str] = []

    def app(self, ident: str, faults: Faults, **options: Any) -> Tenant:
        tenant = Tenant(self, ident, faults, **options)
        tenant.attach("job.success", lambda event: self.done.update([event.job.jid]))
        for pattern in ("queue.restarted", "job.fenced", "job.swallowed_cancel"):
            tenant.attach(pattern, lambda event: self.troubles.append(repr(event)))
        return tenant

    async def meanwhile(self, run: Coroutine[Any, Any, T], within_s: float = 120.0) -> T:
        """Await something while time passes, a tenth of a second at a time."""
        task = asyncio.ensure_future(run)
        for _ in range(int(within_s * 10)):
            await rest()
            if task.done():
                return task.result()
            await self.clock.advance(0.1)
        task.cancel()
        raise AssertionError(f"not done within {within_s:g} s")

    def where(self) -> dict[str, list[str]]:
        """Each jid with every place it is in."""
        found: defaultdict[str, list[str]] = defaultdict(list)
        server = self.server
        for name, jobs in server.queues.items():
            for raw in jobs:
                found[decode(raw).jid].append(f"queue {name}")
        for place, ranked in server.places.items():
            for _, raw in ranked.slice(0, len(ranked)):
                found[decode(raw).jid].append(place)
        for owner, held in server.privates.items():
            for raw in held.values():
                found[decode(raw).jid].append(f"private {owner}")
        for owner, box in server.inboxes.items():
            for raw in box:
                found[decode(raw).jid].append(f"inbox {owner}")
        for jid, times in self.done.items():
            found[jid] += ["done"] * times
        return found

    def check(self, *buffers: list[str]) -> None:
        """The invariant: each jid is in exactly one place."""
        found = self.where()
        for jids in buffers:
            for jid in jids:
                found[jid].append("buffer")
        wrong = {jid: found[jid] for jid in self.pushed if len(found[jid]) != 1}
        assert not wrong, wrong
        assert not self.troubles, self.troubles

    async def look(self, tenant: Tenant) -> None:
        """The invariant now; or in a moment, if a settling waits for its second answer."""
        if any(not found for found in map(self.where().get, self.pushed - {*tenant.buffered()})):
            await self.clock.advance(1.0)  # three lost answers take so long
        self.check(tenant.buffered())

    def held(self) -> list[str]:
        """What private hashes and inboxes hold."""
        found = (jid for jid, at in self.where().items() if at[0].startswith(("private", "inbox")))
        return sorted(found)


class ByHand:
    """In the place of the heartbeat's thread: beats when the test says so."""

    def __init__(
        self, store: Maintenance, clock: Clock, _settings: HeartbeatSettings, owner: HeartbeatOwner
    ) -> None:
        self._store = store
        self._clock = clock
        self._owner = owner
        self._beats = False

    async def start(self) -> None:
        self._store.beat(self._owner.heartbeat())
        self._beats = True

    async def stop(self) -> None:
        beat, self._beats = self._beats, False
        if beat:
            await leave(self._store, self._clock)


class SweepEnvironment:
    """A tenant's half of the store in memory, with the faults that are planned for it."""

    def __init__(self, tenant: Tenant) -> None:
        self._tenant = tenant

    async def build(self, config: Config, make: MakeEngine) -> Engine:
        house = self._tenant.house
        backend = MemoryBackend(house.server, self._tenant.ident, suspicion_s=config.suspicion)
        faulty = Faulty(backend, self._tenant.faults)
        store = Session(faulty, house.clock, ("schedule", "retry"))
        return make(config, EngineParts(store=store, heartbeat=ByHand))

    async def close(self) -> None: ...


class Tenant(App):
    """The app. Its heartbeats come from the test: `beat()`."""

    queues = {"sweep": 2}
    workers = [good, bad]
    heartbeat_interval = 60.0
    lease_ttl = 1000.0
    redis_url = "redis://nowhere"

    def __init__(self, house: House, ident: str, faults: Faults, **options: Any) -> None:
        super().__init__(clock=house.clock, **options)
        self.house, self.ident, self.faults = house, ident, faults
        self.engine: Engine | None = None

    def _choose_environment(self, _mode: str | None, _clock: Clock) -> Environment:
        return SweepEnvironment(self)

    def buffered(self) -> list[str]:
        """The jids that the client holds."""
        assert self.engine is not None
        client = self.engine.client
        pending = [*client._sending, *client._buffer._fresh]
        return [each.jid for some in pending for each in some.outgoing]

    async def begin(self) -> Tenant:
        """Start; a first call that fails is made again."""
        while True:
            try:
                await self.start()
            except StoreUnavailable:
                continue
            self.engine = self._lifecycle.engine
            return self

    def take(self, jid: str, name: str = "good", in_s: float | None = None) -> None:
        self.house.pushed.add(jid)
        self.enqueue_nowait(
            Job(name, queue="sweep", jid=jid, retry=1 if name == "bad" else False), in_=in_s
        )

    async def beat(self) -> None:
        """A heartbeat, in the loop rather than in its thread."""
        engine = self.engine
        assert engine is not None
        try:
            reply = engine.store.beat(engine.heartbeat())
        except StoreUnavailable:
            return
        engine.on_reply(reply)
        await rest()

    async def __aexit__(
        self,
        *_exc: type[BaseException] | BaseException | TracebackType | None,
    ) -> None:
        await self.house.meanwhile(self.stop())
