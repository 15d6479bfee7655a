"""The measures, in order: command, number of jobs, and the figures that are shown."""

from __future__ import annotations

from typing import NamedTuple

from benchmarks.parties import Party

RATE, CPU, REDIS = "jobs_per_s", "cpu_us_per_job", "redis_us_per_job"
UNITS = {
    RATE: "jobs/s", CPU: "CPU µs/job", REDIS: "Redis CPU µs/job", "rss_mb": "RSS MB",
    "redis_commands_per_job": "Redis commands/job", "p50_ms": "p50 ms", "p99_ms": "p99 ms",
    "cpu_percent": "CPU %", "redis_cpu_percent": "Redis CPU %",
    "redis_commands_per_s": "commands/s", "bytes_per_job": "bytes/job", "import_ms": "ms",
}  # fmt: skip
HIGHER = {RATE}  # is better; of all others lower


class Measure(NamedTuple):
    """`command` is a party's, with `{n}` for the number of jobs; or a module of ours, `module`."""

    group: str  # for --only, and one table each
    title: str
    command: str
    shown: tuple[str, ...] = (RATE, CPU)
    most: int = 0  # jobs for the fastest party
    seconds: float = 0.0  # a slower one gets about as many jobs as it does in this time
    peers: bool = False
    far: bool = False  # at the end of a link with a round trip of 1 ms
    module: str = ""
    rounds: int = 0  # fewer than usual, for what takes long
    only: tuple[str, ...] = ()  # these parties
    patience_s: float = 90.0  # for one run
    least: int = 100  # jobs, for a rate that means something

    @property
    def key(self) -> str:
        return f"{self.group}: {self.title}"

    def jobs(self, party: Party, share: float) -> int:
        """How many jobs this party gets; `share` below 1 is for a quick run."""
        if not self.most:
            return 0
        most = self.most if party.ours else min(self.most, party.pace * self.seconds)
        step = 1000 if "bulk" in self.command else 100
        return max(self.least, int(most * share) // step * step)

    def asked_of(self, party: Party) -> bool:
        return (party.ours or self.peers) and (not self.only or party.name in self.only)


def _enqueue(title: str, way: str, most: int, *, peers: bool = True) -> Measure:
    return Measure(
        "enqueue", title, f"enqueue {way} {{n}}", (RATE, CPU, REDIS), most, 1.0, peers, least=1_000
    )


def _drain(title: str, limit: str, *, peers: bool = False) -> Measure:
    figures = (RATE, CPU, REDIS, "redis_commands_per_job")
    return Measure("drain", title, f"drain {{n}} {limit}", figures, 50_000, 1.5, peers)


def _alone(group: str, title: str, module: str, words: str, **more: object) -> Measure:
    return Measure(group, title, words, module=f"benchmarks.ours.{module}", **more)  # type: ignore[arg-type]


_GROWTH = {"queued": (10_000, 100_000, 1_000_000), "queues": (1, 10, 100),
           "scheduled": (10_000, 100_000, 1_000_000)}  # fmt: skip

MEASURES: tuple[Measure, ...] = (
    _enqueue("one by one", "one", 10_000),
    _enqueue("100 tasks", "tasks100", 30_000),
    _enqueue("bulk of 1,000", "bulk1000", 50_000),
    _enqueue("nowait", "nowait", 50_000, peers=False),
    _drain("its best limit (kiqpy 1,000)", "", peers=True),
    _drain("limit 25", "25"),
    Measure("sleep", "1 ms x 1,000", "sleep 1 1000 {n}", most=30_000, least=2_000),
    Measure("sleep", "10 ms x 1,000", "sleep 10 1000 {n}", most=30_000, seconds=1.5, peers=True,
            least=2_000),
    Measure("sync", "40 threads", "sync {n}", most=15_000, seconds=1.0, peers=True),
    Measure("latency", "idle", "latency 200", ("p50_ms", "p99_ms"), peers=True),
    Measure("latency", "500/s", "latency 1000 500", ("p50_ms", "p99_ms", CPU)),
    Measure("latency", "5,000/s", "latency 10000 5000", ("p50_ms", "p99_ms", CPU)),
    Measure("far", "1 ms away, limit 100", "drain {n} 100", most=20_000, seconds=0.3, peers=True,
            far=True),
    Measure("far", "1 ms away, limit 1,000", "drain {n} 1000", most=20_000, seconds=1.2, peers=True,
            far=True, rounds=1),
    Measure("idle", "3 s without jobs", "idle 3",
            ("rss_mb", "cpu_percent", "redis_commands_per_s", "redis_cpu_percent"), peers=True,
            rounds=1),
    Measure("memory", "a queued job", "memory {n}", ("bytes_per_job",), 10_000, 1.0, True,
            rounds=1),
    Measure("memory", "1,000 running", "running 1000", ("rss_mb",), peers=True, rounds=1),
    Measure("memory", "10,000 running", "running 10000", ("rss_mb",), rounds=1),
    Measure("logged", "two INFO lines a job", "logged {n}", most=20_000),
    Measure("logged", "two INFO lines a job, plain logging", "logged {n} plain", most=20_000),
    *(_alone("processes", f"{n} worker{'s' * (n > 1)}", "processes", f"{{party}} {{n}} {n}",
             most=50_000) for n in (1, 2, 4)),
    _alone("promote", "due jobs", "promote", "{family} {n}", shown=(RATE, CPU, REDIS),
           most=1_000_000, rounds=1, patience_s=300.0),
    *(_alone("growth", f"{many:,} {what}", "growth", f"{what} {many}", shown=(CPU, REDIS),
             rounds=1, only=("kiqpy",)) for what, sizes in _GROWTH.items() for many in sizes),
    _alone("import", "client", "imports", "{family}", shown=("import_ms",), rounds=1),
)  # fmt: skip
QUICK = 0.1  # of the jobs
