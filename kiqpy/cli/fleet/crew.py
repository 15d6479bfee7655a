"""Who of a fleet is started, replaced, stopped or killed, and when; touches no process itself."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator, Mapping
from math import inf
from typing import Final, Protocol, final

from kiqpy.cli.fleet.rules import TOLD_AGAIN, cause, delay_after, exit_code, heaviest, processes

GRACE_S: Final = 25.0  # until a worker has told what its app gives to running jobs
MARGIN_S: Final = 30.0  # what a worker may need beyond it: settling, flushing, leaving
START_S: Final = 120.0  # what a replacement may take to be up
PAUSE_S: Final = 60.0  # without recycling, after a replacement that did not come up


class Hands(Protocol):
    """What a crew has done for it."""

    def start(self, slot: int) -> int:
        """Start a process; its pid. Raises OSError."""
        ...

    def ask(self, pid: int, word: str) -> None:
        """`stop` or `now`, to one that is up. It may have just ended."""
        ...

    def signal(self, pid: int, number: signal.Signals) -> None:
        """The same for a signal."""
        ...

    def say(self, text: str) -> None:
        """Tell the operator."""
        ...


@final
class Member:
    """One process, from its start until it is reaped."""

    def __init__(self, pid: int, slot: int, born: float) -> None:
        self.pid, self.slot, self.born = pid, slot, born
        self.up_at: float | None = None
        self.grace_s = GRACE_S
        self.told = False
        self.kill_at = inf

    def __str__(self) -> str:
        return f"worker {self.slot} (pid {self.pid})"


@final
class Crew:
    """Keeps `size` slots filled until it is told to stop.

    The first worker is started alone: if it ends before it is up, so does the fleet, with its
    exit code and what it said. From then on whoever ends is started again, later each time; a
    replacement is up before the one it replaces is told to stop, one slot at a time.
    """

    def __init__(self, size: int, hands: Hands, clock: Callable[[], float]) -> None:
        self.members: dict[int, Member] = {}
        self.stopping = self.quieted = False
        self._size, self._hands, self._clock = size, hands, clock
        self._launched = False
        self._due: dict[int, float] = {1: clock()}
        self._delay: dict[int, float] = {}
        self._codes: list[int] = []
        self._waiting: list[int] = []  # slots to renew
        self._change: tuple[Member, Member] | None = None  # the old one and the new one
        self._rolling = False
        self._pause: dict[int, float] = {}
        self._no_recycling_until = 0.0

    @property
    def finished(self) -> bool:
        """Nobody is left, and nobody will come."""
        return self.stopping and not self.members

    @property
    def code(self) -> int:
        """The fleet's exit code."""
        return exit_code(self._codes)

    def wakes_in(self) -> float | None:
        """Seconds until something is due by time; None: nothing is."""
        times = [*self._due.values(), *(m.kill_at for m in self.members.values())]
        first = min(times, default=inf)
        return None if first == inf else max(0.0, first - self._clock())

    def tick(self) -> None:
        """Do what is due."""
        now = self._clock()
        for slot in sorted(slot for slot, at in self._due.items() if at <= now):
            self._fill(slot)
        self._renew()
        for late in [m for m in self.members.values() if m.kill_at <= now]:
            late.kill_at = inf
            self._hands.say(f"{late} does not {'end' if late.told else 'come up'}: it is killed")
            self._hands.signal(late.pid, signal.SIGKILL)

    # -- what is heard of the workers

    def up(self, pid: int, grace_s: float) -> None:
        """A worker has started its app."""
        member = self.members.get(pid)
        if member is None or member.up_at is not None:
            return
        member.up_at, member.grace_s = self._clock(), grace_s
        if member.told:
            self._ask(member)  # what it was sent before may have come too early
            return
        self._hands.say(f"{member} is up")
        member.kill_at = inf
        if self.quieted:
            self._hands.signal(pid, signal.SIGTSTP)
        if not self._launched:
            self._launched = True
            others = () if self.quieted else range(2, self._size + 1)
            self._due.update(dict.fromkeys(others, self._clock()))
        if self._change and self._change[1] is member:
            self._ask(self._change[0])

    def ended(self, pid: int, code: int) -> None:
        """A worker was reaped; `code` is negative for a signal."""
        member = self.members.pop(pid, None)
        if member is None:
            return
        if self.stopping or not self._launched:
            self._ended_for_good(member, code)
            return
        how = f"{member} {cause(code)}"
        if self._change and member in self._change:
            how += self._changed(member, self._change)
        if self._holder(member.slot) is None and member.slot not in self._due:
            how += self._again(member)
        if code or not member.told:
            self._hands.say(how)

    def _ended_for_good(self, member: Member, code: int) -> None:
        if self.stopping and (member.up_at is None or code in TOLD_AGAIN):
            return  # it was told before it could listen, or once more when its app had stopped
        explained = (0,) if self.stopping else (1, 2)  # its own message is the last line
        self.stopping = True
        self._due.clear()
        self._codes.append(code)
        if code not in explained:
            self._hands.say(f"{member} {cause(code)}")

    def _again(self, member: Member) -> str:
        if self.quieted:
            return "; what is quiet is not started again"
        delay_s = delay_after(self._delay.get(member.slot, 0.0), self._clock() - member.born)
        self._delay[member.slot] = delay_s
        self._due[member.slot] = self._clock() + delay_s
        return f"; it is started again in {delay_s:g} s"

    # -- what the operator wants

    def stop(self) -> None:
        """Let all end in their own time; called again: now."""
        if self.stopping:
            self._hurry()
            return
        self.stopping = True
        self._due.clear()
        grace_s = max((m.grace_s for m in self.members.values()), default=0.0)
        self._hands.say(
            f"stopping {processes(len(self.members))}: running jobs get {grace_s:g} s; "
            "once more stops them now"
        )
        for member in self.members.values():
            if not member.told:
                self._ask(member)

    def _hurry(self) -> None:
        self._hands.say("stopping now: what runs goes back to its queue")
        for member in self.members.values():
            member.kill_at = min(member.kill_at, self._clock() + MARGIN_S)
            if member.up_at is not None:
                self._hands.ask(member.pid, "now")

    def _ask(self, member: Member) -> None:
        member.told = True
        member.kill_at = self._clock() + member.grace_s + MARGIN_S
        if member.up_at is None:
            self._hands.signal(member.pid, signal.SIGTERM)
        else:
            self._hands.ask(member.pid, "stop")

    def quiet(self) -> None:
        """Claim no more jobs, start nobody; `restart` ends it."""
        if self.stopping:
            return
        self.quieted = True
        self._waiting.clear()
        if self._launched:
            self._due.clear()
        self._hands.say("quiet: no more jobs are claimed; what runs ends in its own time")
        for member in self._steady():
            self._hands.signal(member.pid, signal.SIGTSTP)

    def dump(self) -> None:
        """Let all write what they do."""
        for member in self._steady():
            self._hands.signal(member.pid, signal.SIGTTIN)

    def _steady(self) -> Iterator[Member]:
        return (m for m in self.members.values() if m.up_at is not None)

    def restart(self) -> None:
        """Replace all, one at a time."""
        if self.stopping or not self._launched:
            return
        self.quieted, self._rolling = False, True
        self._hands.say(f"restarting {processes(self._size)}, one at a time")
        self._waiting += [s for s in range(1, self._size + 1) if s not in self._waiting]

    def weigh(self, sizes: Mapping[int, float], limit: float) -> None:
        """Replace the largest above `limit`, unless one is being replaced; sizes in MB, by pid."""
        if self.stopping or self.quieted or self._change or self._waiting:
            return
        now = self._clock()
        pid = heaviest({m.pid: sizes.get(m.pid, 0.0) for m in self._ripe(now)}, limit)
        if pid is None or now < self._no_recycling_until:
            return
        member = self.members[pid]
        self._pause[member.slot] = delay_after(
            self._pause.get(member.slot, 0.0), now - (member.up_at or now)
        )
        self._hands.say(f"{member} has {sizes[pid]:.0f} MB, more than {limit:g}: it is replaced")
        self._waiting.append(member.slot)

    def _ripe(self, now: float) -> Iterator[Member]:
        """Who may be recycled: one that grows at once, ever later."""
        for m in self.members.values():
            if m.told or m.up_at is None or now - m.up_at < self._pause.get(m.slot, 0.0):
                continue
            yield m

    # -- starting and replacing

    def _holder(self, slot: int) -> Member | None:
        """Who is to stay there."""
        return next((m for m in self.members.values() if m.slot == slot and not m.told), None)

    def _start(self, slot: int) -> Member | None:
        self._due.pop(slot, None)
        try:
            pid = self._hands.start(slot)
        except OSError as error:
            if not self._launched:
                raise
            self._hands.say(f"worker {slot} can't be started: {error}")
            return None
        self.members[pid] = member = Member(pid, slot, self._clock())
        return member

    def _fill(self, slot: int) -> None:
        if self._start(slot) is None:
            self._delay[slot] = delay_s = delay_after(self._delay.get(slot, 0.0), 0.0)
            self._due[slot] = self._clock() + delay_s

    def _renew(self) -> None:
        if self._change or self.stopping:
            return
        if not self._waiting:
            if self._rolling:
                self._rolling = False
                self._hands.say("restarted: all processes are new")
            return
        slot = self._waiting.pop(0)
        old = self._holder(slot)
        if old is None:
            self._fill(slot)
        elif new := self._start(slot):
            new.kill_at = self._clock() + START_S
            self._change = old, new
        else:
            self._give_up()

    def _give_up(self) -> None:
        self._change, self._rolling = None, False
        self._waiting.clear()
        self._no_recycling_until = self._clock() + PAUSE_S

    def _changed(self, gone: Member, change: tuple[Member, Member]) -> str:
        """One of two has ended: the change is over, unless the old one is still leaving."""
        old, new = change
        if gone is old:
            new.kill_at = inf
            self._change = None
        elif not old.told:
            self._give_up()
            return f" before it was up: {old} goes on, nobody else is replaced"
        return ""
