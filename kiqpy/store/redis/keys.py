"""Every Redis key, formatted here and nowhere else. Sidekiq's names are Sidekiq's; ours: `kiq:`."""

from __future__ import annotations

from typing import Final, final

_COUNTED: Final = ("processed", "failed")


@final
class Keys:
    """The keys of one namespace; on a Cluster it must hold a hash tag, such as `{shop}:`."""

    def __init__(self, namespace: str = "") -> None:
        self.prefix = namespace
        for name in ("queues", "schedule", "retry", "dead", "processes", "paused"):
            setattr(self, name, namespace + name)
        self.privs = f"{namespace}kiq:privs"
        self.suspects = f"{namespace}kiq:suspects"
        self.trimmed = f"{namespace}kiq:trimmed"
        self.cron = f"{namespace}kiq:cron"  # hash: periodic -> last tick (negative: none yet)
        self.cron_off = f"{namespace}kiq:cron:off"  # hash: name -> 1 off, 0 on, if not as declared
        self.leader = f"{namespace}kiq:leader"
        self.cancels = f"{namespace}kiq:cancels"  # zset: what was cancelled, by time

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

    def process(self, ident: str) -> str:
        return f"{self.prefix}{ident}"

    def signals(self, ident: str) -> str:
        return f"{self.prefix}{ident}-signals"

    def work(self, ident: str) -> tuple[str, str]:
        """Where busy jobs are shown: by Sidekiq 6.5 and later, and by 6.4."""
        return f"{self.prefix}{ident}:work", f"{self.prefix}{ident}:workers"

    def stats(self, day: str, queue: str) -> list[str]:
        """Processed and failed: in all, of a day (as Sidekiq), of a queue (as Verk)."""
        names = [f"{what}{of}" for of in ("", f":{day}", f":{queue}") for what in _COUNTED]
        return [f"{self.prefix}stat:{name}" for name in names]

    def stat(self, name: str) -> str:
        return f"{self.prefix}stat:{name}"

    def at(self, place: str) -> str:
        """The key of "schedule", "retry", "dead" or "queue:NAME"."""
        return self.prefix + place

    def named(self) -> list[str]:
        """All of Sidekiq's keys that have one name."""
        names = (self.queues, self.schedule, self.retry, self.dead, self.processes, self.paused)
        return [*names, f"{self.prefix}process_cleanup"]

    def patterns(self) -> list[str]:
        """Patterns of all keys of kiqpy's, and of Sidekiq's that have many names."""
        return [f"{self.prefix}{kind}:*" for kind in ("queue", "stat", "unique", "kiq")]

    def of_process(self, ident: str) -> list[str]:
        """What a process has written about itself, and what waits for it."""
        return [self.process(ident), self.signals(ident), *self.work(ident)]

    def strays(self) -> tuple[str, str]:
        """Patterns of the keys that hold claims."""
        return f"{self.prefix}kiq:private|*", f"{self.prefix}kiq:inbox|*"

    def member(self, key: str) -> str:
        """`IDENT|QUEUE` of a private hash's or inbox's key."""
        return key.split("|", 1)[1]
