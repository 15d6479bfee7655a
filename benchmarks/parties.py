"""The parties: interpreter, module and environment of each."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import NamedTuple

from benchmarks.peers import PEERS, Peer, venvs

OURS = ("kiqpy", "bare", "kiqpy-fast", "bare-fast")
FASTEST = 50_000  # jobs a second, about: decides how many jobs our own get
_ABOUT = {
    "kiqpy": "asyncio's loop and json; default reporters, two middlewares",
    "bare": "redis-py, asyncio, json and our scripts; nothing of kiqpy between",
    "kiqpy-fast": "the same with kiqpy[fast]: uvloop, msgspec",
    "bare-fast": "the bare loop with uvloop, msgspec",
}


class Party(NamedTuple):
    """One column of the comparison. `trouble`: why it can't be measured here, in a line."""

    name: str
    python: str
    module: str
    pace: int
    kind: str
    settings: str
    versions: dict[str, str]
    trouble: str = ""

    @property
    def ours(self) -> bool:
        return self.name in OURS

    @property
    def family(self) -> str:
        """kiqpy or bare, for the measures that only those have."""
        return self.name.removesuffix("-fast")

    def environment(self) -> dict[str, str]:
        plain = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "VIRTUAL_ENV")}
        return plain | {"BENCH_VARIANT": self.name, "C_FORCE_ROOT": "1"}


def ours() -> list[Party]:
    found = installed()
    lacks = [name for name in ("uvloop", "msgspec") if name not in found]
    trouble = f"not installed: {', '.join(lacks)}" if lacks else ""
    return [
        Party(
            name,
            sys.executable,
            "benchmarks.ours.bare" if name.startswith("bare") else "benchmarks.ours.with_kiqpy",
            FASTEST,
            "async",
            _ABOUT[name],
            found,
            trouble if name.endswith("-fast") else "",
        )
        for name in OURS
    ]


def peers(names: list[str]) -> list[Party]:
    """Those peers, installed if they were not; SystemExit for a name that is none."""
    if unknown := [name for name in names if name not in PEERS]:
        raise SystemExit(f"no peer is called {unknown[0]!r}; known: {', '.join(PEERS)}")
    return [_peer(PEERS[name]) for name in names]


def _peer(peer: Peer) -> Party:
    trouble, python = "", ""
    try:
        python = str(venvs.python(peer))
    except venvs.NotInstalled as error:
        trouble = f"not installed: {error}"
    return Party(peer.name, python, f"benchmarks.peers.{peer.module}", peer.pace, peer.kind,
                 peer.settings, venvs.versions(peer), trouble)  # fmt: skip


def installed() -> dict[str, str]:
    """What is installed beside kiqpy, with versions."""
    command = [sys.executable, "-m", "pip", "list", "--format=json", "--disable-pip-version-check"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return {row["name"].lower(): row["version"] for row in json.loads(done.stdout)}
