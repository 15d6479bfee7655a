"""Creates a venv for each peer under `.bench/PEER/`, from PyPI, when it is first needed."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

from benchmarks.peers import Peer

ROOT = Path(__file__).parents[2] / ".bench"
STAMP = "installed.json"
INSTALL_S = 600


class NotInstalled(Exception):
    """Why a peer is not to be had here, in a line."""


def python(peer: Peer) -> Path:
    """The peer's interpreter; installs it first if it is not there. NotInstalled says why not."""
    home = ROOT / peer.venv
    stamp = home / STAMP
    wanted = list(peer.packages)
    if not stamp.exists() or json.loads(stamp.read_text())["packages"] != wanted:
        _make(home, wanted, interpreter(peer.python) if peer.python else sys.executable)
        stamp.write_text(json.dumps({"packages": wanted, "versions": _freeze(home)}, indent=1))
    return home / "bin" / "python"


def versions(peer: Peer) -> dict[str, str]:
    """Every package of the peer's venv with its version; empty when it is not installed."""
    stamp = ROOT / peer.venv / STAMP
    found: dict[str, str] = json.loads(stamp.read_text())["versions"] if stamp.exists() else {}
    return found


def interpreter(version: str) -> str:
    """A Python of that version that really runs (a shim may not)."""
    ask = [f"python{version}", "-c", "import sys; print(sys.executable)"]
    ran = (
        subprocess.run(
            ask, capture_output=True, text=True, env={**os.environ, "PYENV_VERSION": version}
        )
        if shutil.which(ask[0])
        else None
    )
    if ran is None or ran.returncode:
        raise NotInstalled(f"needs Python {version}, which is not here")
    return ran.stdout.strip()


def _make(home: Path, packages: list[str], base: str) -> None:
    print(f"installing {home.name} ...", file=sys.stderr, flush=True)
    _run([base, "-m", "venv", "--clear", str(home)])
    _run([str(home / "bin" / "python"), "-m", "pip", "install", "-q", "-q",
          "--disable-pip-version-check", *packages])  # fmt: skip


def _freeze(home: Path) -> dict[str, str]:
    listed = _run([str(home / "bin" / "python"), "-m", "pip", "list", "--format=json",
                   "--disable-pip-version-check"])  # fmt: skip
    return {row["name"].lower(): row["version"] for row in json.loads(listed)}


def _run(command: list[str]) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=INSTALL_S)
    except subprocess.TimeoutExpired:
        raise NotInstalled(f"not installed after {INSTALL_S} s") from None
    if done.returncode:
        lines = done.stderr.strip().splitlines() or ["no reason given"]
        raise NotInstalled(lines[-1][:200])
    return done.stdout
