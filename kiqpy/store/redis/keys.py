"""The names of all Redis keys: Sidekiq's as Sidekiq has them, kiqpy's own begin with `kiq:`."""

from __future__ import annotations

from typing import Final, final

from kiqpy.store.census import counted
from kiqpy.store.lanes import lane_place

_COUNTED: Final = ("processed", "failed")


@final
class Keys:
    """The keys of one namespace. On a Cluster it must contain a hash tag, such as `{shop}:`."""

    def __init__(self, namespace: str = "") -> None:
        self.prefix = namespace
        for name in ("queues", "schedule", "retry", "dead", "processes", "paused"):
            setattr(self, name, namespace + name)
        self.privs = f"{namespace}kiq:privs"
        self.suspects = f"{namespace}kiq:suspects"
        self.trimmed = f"{namespace}kiq:trimmed"
        # hash: periodic -> up to when its ticks are done; negative: set by no tick
        self.cron = f"{namespace}kiq:cron"
        # hash: periodic -> 1 off, 0 on; only those that an operator has switched
        self.cron_off = f"{namespace}kiq:cron:off"
        # hash: periodic -> the expression and zone that its mark belongs to
        self.cron_schedule = f"{namespace}kiq:cron:schedule"
        self.leader = f"{namespace}kiq:leader"
        self.cancels = f"{namespace}kiq:cancels"  # zset: marks of cancelled jobs, by time

    queues: str
    schedule: str
    retry: str
    dead: str
    processes: str
    paused: str

    def queue(self, name: str) -> str:
        return f"{self.prefix}queue:{name}"

    def private(self, ident: str, queue: str) -> str:
        return f"{self.prefix}kiq:private|{ident}|{queue}"

    def inbox(self, ident: str, queue: str) -> str:
        return f"{self.prefix}kiq:inbox|{ident}|{queue}"

    def lease(self, ident: str) -> str:
        return f"{self.prefix}kiq:lease:{ident}"

    def state(self, ident: str) -> str:
        return f"{self.prefix}kiq:settle:{ident}"

    def push(self, source: str) -> str:
        return f"{self.prefix}kiq:push:{source}"

    def lock(self, token: str) -> str:
        return f"{self.prefix}unique:{token}"

    def lane(self, queue: str, name: str) -> tuple[str, ...]:
        """The keys that a step in a lane uses: see `lua/shared/lanes.lua`."""
        return self.queue(queue), self.waiting(queue, name), *self.lanes(queue)

    def waiting(self, queue: str, lane: str) -> str:
        """The jobs that wait in a lane."""
        return self.at(lane_place(queue, lane))

    def lanes(self, queue: str) -> tuple[str, str]:
        """Hashes of a queue: lane -> jid of its head, and lane -> its state, if it has one."""
        return f"{self.prefix}kiq:heads|{queue}", f"{self.prefix}kiq:lanes|{queue}"

    def process(self, ident: str) -> str:
        return f"{self.prefix}{ident}"

    def signals(self, ident: str) -> str:
        return f"{self.prefix}{ident}-signals"

    def work(self, ident: str) -> tuple[str, str]:
        """The hashes in which Sidekiq looks for running jobs: 6.5 and later, and 6.4."""
        return f"{self.prefix}{ident}:work", f"{self.prefix}{ident}:workers"

    def stats(self, day: str, queue: str) -> list[str]:
        """Processed and failed: in total, of a day (as Sidekiq), of a queue (as Verk)."""
        of = ("", f":{day}", f":{counted(queue)}")
        names = [f"{what}{each}" for each in of for what in _COUNTED]
        return [f"{self.prefix}stat:{name}" for name in names]

    def stat(self, name: str) -> str:
        return f"{self.prefix}stat:{name}"

    def at(self, place: str) -> str:
        """The key of "schedule", "retry", "dead" or "queue:NAME"."""
        return self.prefix + place

    def named(self) -> list[str]:
        """Sidekiq's keys that have a fixed name."""
        names = (self.queues, self.schedule, self.retry, self.dead, self.processes, self.paused)
        return [*names, f"{self.prefix}process_cleanup"]

    def patterns(self) -> list[str]:
        """Patterns of all kiqpy's keys, and of Sidekiq's without a fixed name."""
        return [f"{self.prefix}{kind}:*" for kind in ("queue", "stat", "unique", "kiq")]

    def of_process(self, ident: str) -> list[str]:
        """The keys that a process writes about itself, and its signals."""
        return [self.process(ident), self.signals(ident), *self.work(ident)]

    def strays(self) -> tuple[str, str]:
        """Patterns of the keys that hold claims."""
        return f"{self.prefix}kiq:private|*", f"{self.prefix}kiq:inbox|*"

    def member(self, key: str) -> str:
        """`IDENT|QUEUE` of the key of a private hash or an inbox."""
        return key.split("|", 1)[1]
