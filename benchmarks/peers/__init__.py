"""The peers: their packages and the kind of body that each runs. Standard library only."""

from __future__ import annotations

from typing import Literal, NamedTuple

Kind = Literal["async", "sync"]


class Peer(NamedTuple):
    """One row of the comparison; `benchmarks/peers/MODULE.py` is run by its own interpreter."""

    name: str
    module: str
    packages: tuple[str, ...]
    pace: int  # about how many no-op jobs a second: decides how many it is given
    settings: str
    kind: Kind = "async"
    python: str = ""  # a version it needs; else the one that runs the benchmarks

    @property
    def venv(self) -> str:
        """The folder under `.bench/`; variants of one peer share it."""
        return self.module


UV = "uvloop; sys_platform != 'win32'"
REDIS = "redis[hiredis]"

_ALL = (
    Peer("arq", "arq", ("arq", "hiredis", UV), 2_500, "poll_delay 0.01 s, keep_result 0"),
    Peer("saq", "saq", ("saq[redis,hiredis]", "orjson", "typing_extensions", UV), 2_500,
         "orjson, max_concurrent_ops = concurrency"),
    Peer("streaq", "streaq", ("streaq", UV), 1_400, "coredis.Config.optimized, silent, ttl 0"),
    Peer("taskiq-list", "taskiq", ("taskiq", "taskiq-redis", "hiredis", UV), 3_000,
         "list broker (at most once), no result backend, prefetch = concurrency"),
    Peer("taskiq-stream", "taskiq", ("taskiq", "taskiq-redis", "hiredis", UV), 3_500,
         "stream broker, no result backend, prefetch = concurrency, xread_count 100"),
    Peer("docket", "docket", ("pydocket", "hiredis", UV), 2_200,
         "execution_ttl 0, max_connections raised"),
    Peer("repid", "repid", ("repid[redis]", "typing_extensions", "hiredis", UV), 10_000,
         "batch_size 100"),
    Peer("ardiq", "ardiq", ("ardiq", UV), 15_000, "Rust core; results can't be switched off",
         python="3.13"),
    Peer("mayu", "mayu", ("mayu", UV), 17_000, "Rust core, async bodies, results off",
         python="3.13"),
    Peer("mayu-sync", "mayu", ("mayu", UV), 40_000, "Rust core, bodies in threads", "sync",
         "3.13"),
    Peer("dramatiq", "dramatiq", ("dramatiq[redis]", "hiredis"), 6_000,
         "32 threads of one process", "sync"),
    Peer("huey", "huey", ("huey", REDIS), 5_500, "no results, 1 thread (sleeps: 100)", "sync"),
    Peer("celery", "celery", ("celery[redis]", "hiredis"), 1_300,
         "solo pool (100 threads for sleeps), no results, prefetch 100", "sync"),
    Peer("rq", "rq", ("rq", "hiredis"), 500, "SimpleWorker, no fork, result_ttl 0", "sync"),
)  # fmt: skip
PEERS: dict[str, Peer] = {peer.name: peer for peer in _ALL}
