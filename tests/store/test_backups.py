"""Backups: jobs that a process puts straight into its own private hash, on each backend."""

from __future__ import annotations

import pytest

from kiqpy.errors import LeaseLost, StoreUnavailable
from kiqpy.outcome import Done, Lock, Release, Retry
from kiqpy.store import Pushed
from kiqpy.store._session import Session
from kiqpy.store.backups import Backup, BackupFrame
from tests.faults import Faults
from tests.store.contract import RedisWorld, World, frees, jids, outgoing, payload

pytestmark = pytest.mark.anyio
LOCK = Lock("token", 60.0)


class Keeper:
    """A process that numbers its frames."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self.sequence = 0

    def frame(
        self, *names: str, lock: Lock | None = None, done: int = 0, failed: int = 0
    ) -> BackupFrame:
        self.sequence += 1
        first = self.session.reserve("q", len(names))
        backups = [Backup(first + n, jid, payload(jid), lock) for n, jid in enumerate(names)]
        return BackupFrame("q", self.sequence, backups, done, failed)

    async def keep(self, *names: str, lock: Lock | None = None) -> BackupFrame:
        frame = self.frame(*names, lock=lock)
        assert set(await self.session.backups.keep(frame)) == {Pushed("queued")}
        return frame


async def keeper(world: World, faults: Faults | None = None, beat: bool = True) -> Keeper:
    return Keeper(await world.process("q", faults=faults, beat=beat))


def deliveries(frame: BackupFrame) -> list[int]:
    return [backup.delivery for backup in frame.backups]


async def test_a_backup_is_a_claim(world: World) -> None:
    process = await keeper(world)
    frame = await process.keep("a", "b")
    held = await process.session.holding("q")
    assert jids(held) == ["a", "b"]
    assert [claim.delivery for claim in held] == deliveries(frame)
    assert [claim.raw for claim in held] == [payload("a"), payload("b")]
    world.check(["a", "b"])


async def test_backups_and_fetches_share_one_count(world: World) -> None:
    process = await keeper(world)
    await world.push(outgoing("fetched"))
    await process.keep("a")
    await process.session.fetch("q", 5)
    await process.keep("b")
    assert sorted(jids(await process.session.holding("q"))) == ["a", "b", "fetched"]
    world.check(["a", "b", "fetched"])


async def test_what_settles_claims_settles_them(world: World) -> None:
    process = await keeper(world)
    one, two, three = deliveries(await process.keep("a", "b", "c"))
    verdicts = [Done(one), Retry(two, payload("b", retry_count=0), 9.0), Release(three)]
    assert await process.session.settle(process.session.frame("q", verdicts)) == [True] * 3
    assert world.stat("processed") == 2
    assert world.due_at("retry").keys() == {"b"}
    assert jids(world.queue("q")) == ["c"]
    world.check(["a", "b", "c"], done=["a"])


async def test_what_rescues_claims_rescues_them(world: World) -> None:
    process, other = await keeper(world), await world.process("q")
    await process.keep("a", "b")
    await world.die(process.session)
    assert [job.jid for job in await world.rescued(other)] == ["b", "a"]
    assert jids(world.queue("q")) == ["a", "b"]


async def test_a_backup_whose_reply_was_lost_is_kept_once(world: World) -> None:
    faults = Faults()
    process = await keeper(world, faults)
    frame = process.frame("a", done=2, failed=1)
    faults.fail("keep", "after")
    with pytest.raises(StoreUnavailable):
        await process.session.backups.keep(frame)
    assert await process.session.backups.keep(frame) == [Pushed("queued")]
    assert (world.stat("processed"), world.stat("failed")) == (2, 1)
    world.check(["a"])


async def test_a_late_backup_brings_back_nothing(world: World) -> None:
    """Sent twice: the second was answered and its job settled, before the first arrives."""
    faults = Faults()
    process = await keeper(world, faults)
    frame = process.frame("a")
    faults.fail("keep", "late")
    with pytest.raises(StoreUnavailable):
        await process.session.backups.keep(frame)
    await process.session.backups.keep(frame)
    verdicts = [Done(n) for n in deliveries(frame)]
    assert await process.session.settle(process.session.frame("q", verdicts)) == [True]
    await faults.release()
    assert world.private(process.session) == {}
    await process.keep("b")
    await faults.release()
    world.check(["a", "b"], done=["a"])


async def test_an_older_number_is_refused(world: World) -> None:
    process = await keeper(world)
    old = process.frame("a")
    await process.keep("b")
    with pytest.raises(Exception, match=r"(?i)sequence"):
        await process.session.backups.keep(old)
    world.check(["b"])


async def test_without_a_lease_nothing_is_kept(world: World) -> None:
    process = await keeper(world, beat=False)
    frame = process.frame("a")
    with pytest.raises(LeaseLost):
        await process.session.backups.keep(frame)
    world.check([])
    world.beat(process.session, "q")
    assert await process.session.backups.keep(frame) == [Pushed("queued")]
    world.check(["a"])


async def test_a_lock_is_taken_in_the_same_step(world: World) -> None:
    process = await keeper(world)
    frame = await process.keep("a", lock=LOCK)
    second = process.frame("b", lock=LOCK)
    assert await process.session.backups.keep(second) == [Pushed("duplicate", "a")]
    assert await process.session.backups.keep(second) == [Pushed("duplicate", "a")]
    world.check(["a"])
    verdict = Done(deliveries(frame)[0], effects=frees("a", LOCK))
    await process.session.settle(process.session.frame("q", [verdict]))
    await process.keep("c", lock=LOCK)


async def test_thousands_in_one_frame(world: World) -> None:
    process = await keeper(world)
    names = [f"j{n:04}" for n in range(3000)]
    await process.keep(*names)
    assert jids(await process.session.holding("q")) == names


async def test_what_ended_without_a_backup_is_counted(world: World) -> None:
    process = await keeper(world)
    assert await process.session.backups.keep(process.frame(done=5, failed=2)) == []
    day = f"processed:{date_of(world)}"
    assert [world.stat(name) for name in ("processed", "failed", day)] == [5, 2, 5]


def date_of(world: World) -> str:
    from datetime import UTC, datetime

    return datetime.fromtimestamp(world.now(), UTC).date().isoformat()


async def test_the_lapses_of_a_lease_are_counted(world: World) -> None:
    """Others may have rescued the backups each time the process was without its lease."""
    process = await keeper(world)
    assert process.session.lapses == 0
    world.beat(process.session, "q")
    assert process.session.lapses == 0
    world.beat(process.session, "q", lease_s=0.4)
    await world.eventually(lambda: not process.session.trusted())
    world.beat(process.session, "q")
    assert process.session.lapses == 1


async def test_a_key_of_another_type_is_said(world: World) -> None:
    if not isinstance(world, RedisWorld):
        pytest.skip("the memory store has no keys of another type")
    process = await keeper(world)
    world.cli("SET", f"kiq:private|{process.session.ident}|q", "text")
    with pytest.raises(Exception, match="WRONGTYPE"):
        await process.session.backups.keep(process.frame("a"))
    world.cli("DEL", f"kiq:private|{process.session.ident}|q")
