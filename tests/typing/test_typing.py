"""mypy and pyright accept right calls, and report wrong ones on their lines."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
API = HERE / "api.py"
ROOT = HERE.parent.parent

EXPECTED = {
    number
    for number, line in enumerate(API.read_text().splitlines(), 1)
    if re.search(r"\S  # error: ", line)
}

pytestmark = pytest.mark.slow


def run(*words: str) -> str:
    ran = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=280, check=False)
    assert ran.returncode in (0, 1), ran.stdout + ran.stderr
    return ran.stdout


def check(reported: dict[int, str]) -> None:
    extra = {line: text for line, text in reported.items() if line not in EXPECTED}
    assert not extra, f"right lines that were reported: {extra}"
    missed = EXPECTED - reported.keys()
    assert not missed, f"wrong lines that were not reported: {sorted(missed)}"


def test_mypy(tmp_path: Path) -> None:
    pytest.importorskip("mypy")
    out = run(
        sys.executable, "-m", "mypy", "--strict", "--no-error-summary", "--hide-error-context",
        "--explicit-package-bases", "--cache-dir", str(tmp_path), str(API),
    )  # fmt: skip
    found = re.findall(r"api\.py:(\d+): error: (.*)", out)
    assert found or not EXPECTED, out
    check({int(line): text for line, text in found})


def test_pyright(tmp_path: Path) -> None:
    pyright = Path(sys.executable).with_name("pyright")
    if not pyright.exists():
        pytest.skip("no pyright beside this Python")
    (tmp_path / "api.py").write_text(API.read_text())
    settings = {
        "include": ["api.py"], "extraPaths": [str(ROOT)], "typeCheckingMode": "strict",
        "pythonVersion": "3.11",
    }  # fmt: skip
    project = tmp_path / "pyrightconfig.json"
    project.write_text(json.dumps(settings))
    out = run(str(pyright), "-p", str(project), "--pythonpath", sys.executable, "--outputjson")
    report = json.loads(out)
    assert report["summary"]["filesAnalyzed"] == 1, out
    check(
        {
            one["range"]["start"]["line"] + 1: one["message"]
            for one in report["generalDiagnostics"]
            if one["severity"] == "error" and one["file"].endswith("api.py")
        }
    )
