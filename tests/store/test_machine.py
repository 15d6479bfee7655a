"""Any order of any steps, with lost and late calls, against a model of lists and dicts."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Coroutine
from typing import Any, NamedTuple

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from kiqpy.errors import LeaseLost, StoreUnavailable
from kiqpy.job import Claim
from kiqpy.outcome import Bury, Defer, Done, Lock, Release, Retry, Verdict
from kiqpy.store import Frame, OutgoingJob, Pushed, _orphans
from kiqpy.store._session import Session
from kiqpy.store.backups import Backup, BackupFrame
from tests.faults import Faults
from tests.server import TestServer
from tests.store.contract import MemoryWorld, RedisWorld, World, frees, holds, job_of, outgoing

QUEUES = ("q", "a:b")
LATER = 4e9
TTL_S = 1e6

hows = st.sampled_from([None, None, "before", "after", "late"])
losses = st.sampled_from([None, None, "before", "after"])
whos = st.integers(0, 1)
queues = st.sampled_from(QUEUES)
dues = st.sampled_from([None, None, None, 5.0, 3.0, LATER])
locks = st.sampled_from([None, None, None, "one", "two"])
verdicts = st.sampled_from(["done", "failed", "retry", "retry later", "defer", "bury", "release"])


class Rank(NamedTuple):
    """Where a job stands in a set."""

    score: float
    raw: bytes


class Process:
    """What one process knows of itself, and what the model knows of it."""

    def __init__(self, session: Session, faults: Faults) -> None:
        self.session = session
        self.faults = faults
        self.leased = True
        self.claims: list[Claim] = []  # as handed out, whether still owned or not
        self.held: dict[str, dict[int, str]] = {queue: {} for queue in QUEUES}
        self.inbox: dict[str, list[str]] = {queue: [] for queue in QUEUES}
        self.backed_up = dict.fromkeys(QUEUES, 0)  # the number of the last frame of backups


class StoreMachine(RuleBasedStateMachine):
    """Two processes and a client; whoever dies is replaced."""

    def __init__(self, world: World) -> None:
        super().__init__()
        self.world = world
        self.runner = asyncio.Runner()
        self.client_faults = Faults()
        self.client = self.run(world.process(faults=self.client_faults, beat=False))
        self.processes = [self.new_process(), self.new_process()]
        self.queue: dict[str, list[str]] = {queue: [] for queue in QUEUES}
        self.sets: dict[str, dict[str, Rank]] = {"schedule": {}, "retry": {}, "dead": {}}
        self.home: dict[str, str] = {}
        self.crashes: dict[str, int] = {}
        self.token: dict[str, str] = {}  # jid -> the lock it was pushed with
        self.holder: dict[str, str] = {}
        self.done: set[str] = set()
        self.pushed: set[str] = set()
        self.processed = self.failed = self.steps = 0

    def run(self, step: Coroutine[Any, Any, Any]) -> Any:
        return self.runner.run(step)

    def new_process(self) -> Process:
        faults = Faults()
        return Process(self.run(self.world.process(*QUEUES, faults=faults, lease_s=1e6)), faults)

    def again(self, call: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
        for _ in range(5):
            try:
                return self.run(call())
            except LeaseLost:
                raise
            except StoreUnavailable:
                continue
        raise AssertionError("never answered")

    # ---- steps

    @initialize(queue=queues)
    def fill(self, queue: str) -> None:
        self.push([(queue, None, None)] * 12, None)

    @rule(jobs=st.lists(st.tuples(queues, dues, locks), min_size=1, max_size=6), how=hows)
    def push(self, jobs: list[tuple[str, float | None, str | None]], how: Any) -> None:
        items = [self.outgoing(*job) for job in jobs]
        frame: Frame[OutgoingJob] = self.world.frame(*items)
        if how:
            self.client_faults.fail("push", how)
        results = self.again(lambda: self.client.push(frame))
        assert results == [self.store(one) for one in items]

    def outgoing(self, queue: str, due: float | None, lock: str | None) -> OutgoingJob:
        self.steps += 1
        jid = f"j{self.steps:04}"
        self.home[jid], self.crashes[jid] = queue, 0
        return outgoing(jid, queue, at_s=due, lock=Lock(lock, TTL_S) if lock else None)

    def store(self, one: OutgoingJob) -> Pushed:
        if one.lock:
            holder = self.holder.setdefault(one.lock.token, one.jid)
            if holder != one.jid:
                return Pushed("duplicate", holder)
            self.token[one.jid] = one.lock.token
        self.pushed.add(one.jid)
        if one.at_s is None:
            self.queue[one.queue].append(one.jid)
            return Pushed("queued")
        self.sets["schedule"][one.jid] = Rank(one.at_s, one.payload)
        return Pushed("scheduled")

    @rule(who=whos, queue=queues, limit=st.integers(0, 6), how=hows)
    def fetch(self, who: int, queue: str, limit: int, how: Any) -> None:
        one = self.processes[who]
        queue = queue if self.queue[queue] else max(QUEUES, key=lambda name: len(self.queue[name]))
        if (
            how == "late" and limit == 0
        ):  # it gives the inbox back whenever it comes, as unwait does
            how = None
        if how:
            one.faults.fail("fetch", how)
        if not one.leased and how != "late":
            with pytest.raises(LeaseLost):
                self.again(lambda: one.session.fetch(queue, limit))
            one.faults.heal()
            return
        if not one.leased:
            one.faults.heal()
            return
        claims = self.again(lambda: one.session.fetch(queue, limit))
        jobs = self.queue[queue]
        inbox, one.inbox[queue] = one.inbox[queue], []
        jobs[:0] = inbox
        expected = [jobs.pop(0) for _ in range(min(limit, len(jobs)))]
        assert [job_of(claim).jid for claim in claims] == expected
        one.claims += claims
        one.held[queue].update({claim.delivery: job_of(claim).jid for claim in claims})

    @rule(
        who=whos,
        queue=queues,
        wanted=st.lists(locks, min_size=1, max_size=4),
        done=st.integers(0, 2),
        how=hows,
    )
    def back_up(self, who: int, queue: str, wanted: list[str | None], done: int, how: Any) -> None:
        """Jobs that begin in the process's memory, while `done` others have ended there."""
        one = self.processes[who]
        if how == "late" and not one.leased:  # no process leaves such a frame unanswered
            how = None
        items = [self.outgoing(queue, None, lock) for lock in wanted]
        first = one.session.reserve(queue, len(items))
        backups = [Backup(first + n, i.jid, i.payload, i.lock) for n, i in enumerate(items)]
        one.backed_up[queue] += 1
        frame = BackupFrame(queue, one.backed_up[queue], backups, done, done // 2)
        if how:
            one.faults.fail("keep", how)
        if not one.leased:
            with pytest.raises(LeaseLost):
                self.again(lambda: one.session.backups.keep(frame))
            one.faults.heal()
            return
        results = self.again(lambda: one.session.backups.keep(frame))
        assert results == [self.kept(one, queue, backup) for backup in backups]
        self.processed += done
        self.failed += done // 2

    def kept(self, one: Process, queue: str, backup: Backup) -> Pushed:
        if backup.lock:
            holder = self.holder.setdefault(backup.lock.token, backup.jid)
            if holder != backup.jid:
                return Pushed("duplicate", holder)
            self.token[backup.jid] = backup.lock.token
        self.pushed.add(backup.jid)
        one.held[queue][backup.delivery] = backup.jid
        one.claims.append(Claim(queue, backup.delivery, backup.payload))
        return Pushed("queued")

    @rule(limit=st.integers(1, 6), fetched=hows, kinds=st.lists(verdicts, min_size=1), how=hows)
    def work(self, limit: int, fetched: Any, kinds: list[str], how: Any) -> None:
        """What most of life is: jobs are fetched, and soon settled."""
        who = next(n for n, one in enumerate(self.processes) if one.leased)
        self.fetch(who, QUEUES[0], limit, fetched)
        if self.processes[who].claims:
            claims = self.processes[who].claims
            self.settle(who, claims[-1].queue, kinds, how, random.Random(limit))

    @rule(who=whos, queue=queues)
    def receive(self, who: int, queue: str) -> None:
        """A wait ends with a job, or a forgotten one does."""
        if self.queue[queue]:
            self.world.late_wait(self.processes[who].session.ident, queue)
            self.processes[who].inbox[queue].append(self.queue[queue].pop(0))

    @rule(who=whos, queue=queues, how=losses)
    def unwait(self, who: int, queue: str, how: Any) -> None:
        one = self.processes[who]
        if how:
            one.faults.fail("unwait", how)
        self.again(lambda: one.session.unwait(queue))
        inbox, one.inbox[queue] = one.inbox[queue], []
        self.queue[queue][:0] = inbox

    @precondition(lambda self: any(one.claims for one in self.processes))
    @rule(
        who=whos,
        queue=queues,
        kinds=st.lists(verdicts, min_size=1, max_size=5),
        how=hows,
        order=st.randoms(use_true_random=False),
    )
    def settle(self, who: int, queue: str, kinds: list[str], how: Any, order: Any) -> None:
        one = self.processes[who]
        if all(claim.queue != queue for claim in one.claims):  # rather settle what there is
            one = next(one for one in self.processes if one.claims)
            queue = one.claims[0].queue
        mine = [claim for claim in one.claims if claim.queue == queue][: len(kinds)]
        order.shuffle(mine)
        pairs = list(zip(mine, kinds, strict=False))
        frame = one.session.frame(queue, [self.verdict(claim, kind) for claim, kind in pairs])
        if how:
            one.faults.fail("settle", how)
        self.run(self.world.let_pass(0.001))
        owned = [claim.delivery in one.held[queue] for claim in mine]
        assert self.again(lambda: one.session.settle(frame)) == owned
        self.carry_out(
            one, queue, [pair for pair, is_mine in zip(pairs, owned, strict=True) if is_mine]
        )
        one.claims = [claim for claim in one.claims if claim not in mine]

    def verdict(self, claim: Claim, kind: str) -> Verdict:
        n, raw, jid = claim.delivery, claim.raw, job_of(claim).jid
        token = self.token.get(jid)
        lock = Lock(token, TTL_S) if token else None
        ends = frees(jid, lock) if lock else ()
        in_s = 1e6 if kind == "retry later" else 0.0
        goes_on = holds(jid, lock, in_s) if lock else ()
        match kind:
            case "done" | "failed":
                return Done(n, kind == "failed", ends)
            case "retry" | "retry later":
                return Retry(n, raw, in_s, goes_on)
            case "defer":
                return Defer(n, raw, in_s, goes_on)
            case "bury":
                return Bury(n, raw, ends)
        return Release(n)

    def carry_out(self, one: Process, queue: str, pairs: list[tuple[Claim, str]]) -> None:
        self.steps += 1
        released: list[tuple[int, str]] = []
        for claim, kind in pairs:
            jid = one.held[queue].pop(claim.delivery)
            self.processed += kind not in ("defer", "release")
            self.failed += kind in ("failed", "retry", "retry later", "bury")
            soon = Rank(1e9 + self.steps, claim.raw)
            if kind == "release":
                released.append((claim.delivery, jid))
            elif kind == "bury":
                self.sets["dead"][jid] = soon
            elif kind in ("done", "failed"):
                self.done.add(jid)
            elif kind == "defer":
                self.sets["schedule"][jid] = soon
            else:
                self.sets["retry"][jid] = soon if kind == "retry" else Rank(LATER, claim.raw)
            if kind in ("done", "failed", "bury"):
                self.free(jid)
        self.queue[queue][:0] = [jid for _, jid in sorted(released)]

    def free(self, jid: str) -> None:
        token = self.token.get(jid)
        if token and self.holder.get(token) == jid:
            del self.holder[token]

    @rule(who=whos, how=losses, call=st.integers(1, 2))
    def promote(self, who: int, how: Any, call: int) -> None:
        one = self.processes[who]
        if how:
            verb = ("due", "promote")[call - 1]
            one.faults.fail(verb, how)
        self.run(self.world.let_pass(0.001))
        self.again(lambda: one.session.promote(100))
        one.faults.heal()
        for place in ("schedule", "retry"):
            ranks = self.sets[place]
            for jid in sorted((j for j in ranks if ranks[j].score < LATER), key=ranks.__getitem__):
                del ranks[jid]
                self.queue[self.home[jid]].append(jid)

    @rule(who=whos)
    def beat(self, who: int) -> None:
        one = self.processes[who]
        orders = self.world.beat(one.session, *QUEUES, lease_s=1e6)
        one.leased = True
        assert orders.held == {queue: len(one.held[queue]) for queue in QUEUES}
        assert orders.inbox == {queue: len(one.inbox[queue]) for queue in QUEUES}

    @precondition(lambda self: all(one.leased for one in self.processes))
    @rule(who=whos)
    def lose_lease(self, who: int) -> None:
        one = self.processes[who]
        self.run(self.world.die(one.session))
        one.leased = False

    @precondition(lambda self: not all(one.leased for one in self.processes))
    @rule(how=losses, verb=st.sampled_from(["suspects", "holding", "rescue"]))
    def rescue(self, how: Any, verb: str) -> None:
        """The other process gives back what the one without a lease holds."""
        lost = next(one for one in self.processes if not one.leased)
        saver = next(one for one in self.processes if one.leased)
        if how:
            saver.faults.fail(verb, how)

        async def swept() -> bool:
            try:
                await saver.session.rescue()
            except StoreUnavailable:
                return False
            held = self.world.private(lost.session, "q"), self.world.private(lost.session, "a:b")
            left = self.world.inbox(lost.session, "q"), self.world.inbox(lost.session, "a:b")
            return not any(held + left)

        self.run(self.world.eventually(swept, self.world.suspicion_s / 4))
        saver.faults.heal()
        for queue in QUEUES:
            self.give_back(lost, queue)

    def give_back(self, lost: Process, queue: str) -> None:
        self.steps += 1
        back: list[str] = []
        for _, jid in sorted(lost.held[queue].items()):
            self.crashes[jid] += 1
            if self.crashes[jid] > 3:
                self.sets["dead"][jid] = Rank(1e9 + self.steps, b"")
            else:
                back.append(jid)
        self.queue[queue][:0] = back + lost.inbox[queue]
        lost.held[queue], lost.inbox[queue] = {}, []

    @precondition(lambda self: not all(one.leased for one in self.processes))
    @rule()
    def crash(self) -> None:
        """The process without a lease is gone; its claims are rescued, and another starts."""
        lost = next(one for one in self.processes if not one.leased)
        self.rescue(None, "rescue")
        lost.claims = []
        self.processes[self.processes.index(lost)] = self.new_process()

    @rule()
    def late_calls_arrive(self) -> None:
        """Whatever was sent again and answered changes nothing when it comes once more."""
        for faults in (self.client_faults, *(one.faults for one in self.processes)):
            self.run(faults.release())

    # ---- what must hold

    @invariant()
    def each_job_is_in_one_place(self) -> None:
        self.world.check(self.pushed, self.done)

    @invariant()
    def each_job_is_where_the_model_has_it(self) -> None:
        for queue in QUEUES:
            assert [job_of(raw).jid for raw in self.world.queue(queue)] == self.queue[queue]
        for place in ("schedule", "retry", "dead"):
            assert set(self.world.due_at(place)) == set(self.sets[place])
        privates = self.world.privates()
        for one in self.processes:
            for queue in QUEUES:
                held = privates.get((one.session.ident, queue), {})
                assert {n: job_of(raw).jid for n, raw in held.items()} == one.held[queue]

    @invariant()
    def counts_and_locks_are_right(self) -> None:
        counted = self.world.stat("processed"), self.world.stat("failed")
        assert counted == (self.processed, self.failed)
        for token in ("one", "two"):
            holder = self.world.lock(token)
            assert (holder[0] if holder else None) == self.holder.get(token)

    def teardown(self) -> None:
        self.run(self.world.close())
        self.runner.close()


QUICK = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much]


@pytest.fixture(autouse=True)
def together(monkeypatch: pytest.MonkeyPatch) -> None:
    """The model has no clock: what is rescued is back at once. `test_contract` has it apart."""
    monkeypatch.setattr(_orphans, "_GAP_S", 0.0)


def test_in_memory() -> None:
    run_state_machine_as_test(
        lambda: StoreMachine(MemoryWorld()),
        settings=settings(
            max_examples=120, stateful_step_count=50, deadline=None, suppress_health_check=QUICK
        ),
    )


def test_on_a_server(clean: TestServer) -> None:
    def fresh() -> StoreMachine:
        clean.cli("FLUSHALL")
        world = RedisWorld(clean)
        world.suspicion_s = 0.04
        return StoreMachine(world)

    run_state_machine_as_test(
        fresh,
        settings=settings(
            max_examples=25, stateful_step_count=30, deadline=None, suppress_health_check=QUICK
        ),
    )
