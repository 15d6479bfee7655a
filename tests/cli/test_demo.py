"""`kiqpy demo`: the report adds up, whatever happened during the run."""

from __future__ import annotations

import ast
import json
import os
import signal
import sqlite3
import sysconfig
import warnings
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.cli.process import Kiqpy, kiqpy
from tests.server import TestServer, until

AT_ONCE = 4  # claims of one start


def rows(folder: Path, ask: str) -> list[Any]:
    """Read the results; nothing, if there are none yet."""
    path = folder / ".kiqpy" / "demo.sqlite3"
    if not path.exists():
        return []
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=10)) as db:
        try:
            return db.execute(ask).fetchall()
        except sqlite3.OperationalError:  # no tables yet
            return []


def ended(folder: Path) -> int:
    """How many files have their end."""
    return sum(n for (n,) in rows(folder, "SELECT count(*) FROM file WHERE state != 'todo'"))


def with_target(demo: Kiqpy, folder: Path, files: int) -> None:
    """Return when so many files are over, and the demo still runs."""
    until(lambda: ended(folder) >= files or not demo.alive(), f"{files} files", 60)
    assert demo.alive(), demo.err


def lines(folder: Path) -> list[dict[str, Any]]:
    """The demo's own log."""
    text = (folder / ".kiqpy" / "demo.log").read_text()
    return [json.loads(line) for line in text.splitlines()]


def finish(folder: Path, *words: str) -> dict[str, Any]:
    """Start it (again), and let it come to its end."""
    code, out, err = kiqpy(folder, "demo", "--json", *words)
    assert code == 0, err
    report: dict[str, Any] = json.loads(out)
    return report


def adds_up(folder: Path, report: dict[str, Any], files: int) -> None:
    """Count again what the report says, file by file, without any job."""
    paths = [path for (path,) in rows(folder, "SELECT path FROM file")]
    assert len(paths) == len(set(paths)) == files
    home = sysconfig.get_path("stdlib")
    assert all(path.startswith((home, sysconfig.get_path("purelib"))) for path in paths)
    trees: dict[str, ast.Module] = {}
    total = 0
    for path in paths:
        source = Path(path).read_bytes()
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                trees[path] = ast.parse(source)
        except (SyntaxError, ValueError):
            continue
        total += len(source.splitlines())
    nodes = [(path, node) for path, tree in trees.items() for node in ast.walk(tree)]
    functions = [
        (node.end_lineno - node.lineno + 1, node.name, path, node.lineno)  # type: ignore[operator]
        for path, node in nodes
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    ]
    functions.sort(key=lambda function: (-function[0], function[2], function[3]))
    assert (report["files"], report["parsed"]) == (files, len(trees))
    assert report["lines"] == total
    assert report["functions"] == len(functions)
    assert report["imports"] == sum(isinstance(n, ast.Import | ast.ImportFrom) for _, n in nodes)
    assert [tuple(f.values()) for f in report["longest"]] == functions[:10]
    assert report["failed"] == files - len(trees)
    assert {f["path"] for f in report["failures"]} == set(paths) - trees.keys()
    assert all(f["reason"].startswith(("SyntaxError", "ValueError")) for f in report["failures"])


def test_its_report_adds_up(tmp_path: Path) -> None:
    report = finish(tmp_path, "--files", "120")
    adds_up(tmp_path, report, 120)
    assert report["starts"] == 1
    assert report["files_now"] == 120
    assert 0 < report["wait_p50_s"] <= report["wait_p99_s"] < report["seconds_now"]
    assert report["loop_late_ms"] < 250


def test_a_finished_run_is_followed_by_a_new_one(tmp_path: Path) -> None:
    first = finish(tmp_path, "--files", "12")
    second = finish(tmp_path, "--files", "8")
    assert first["run"] != second["run"]
    adds_up(tmp_path, second, 8)


def test_it_is_written_for_people(tmp_path: Path) -> None:
    code, out, err = kiqpy(tmp_path, "demo", "--files", "40", "--dir", "elsewhere/deep")
    assert code == 0, err
    assert "The ten longest functions" in out
    assert "40 files in" in out
    assert "p99" in out
    assert str(tmp_path / "elsewhere" / "deep" / "demo.sqlite3") in out
    assert "40 files of Python" in err
    assert "job.failure" not in err


@pytest.mark.slow
def test_ctrl_c_stops_it_and_it_goes_on(tmp_path: Path) -> None:
    with Kiqpy(tmp_path, "demo", "--files", "240") as demo:
        with_target(demo, tmp_path, 100)
        demo.ctrl_c()
        assert demo.ends() == 130
        assert "start it again" in demo.err
    before = ended(tmp_path)
    assert 100 <= before < 240
    assert f"stopped at {before} of 240 files" in demo.err
    report = finish(tmp_path)
    adds_up(tmp_path, report, 240)
    assert report["files_now"] == 240 - before
    assert report["rescued_now"] == 0
    assert done(tmp_path) == report["parsed"]


def done(folder: Path) -> int:
    """How many jobs have ended well."""
    return sum(line["event"] == "job.success" for line in lines(folder))


@pytest.mark.slow
@pytest.mark.parametrize("shares", [(0.3, 0.6, 0.9), (0, 0, 0.01), (0.99,)])
def test_killed_and_started_again(tmp_path: Path, shares: tuple[float, ...]) -> None:
    files = 240
    for share in shares:
        with Kiqpy(tmp_path, "demo", "--files", str(files)) as demo:
            demo.says(" files ")
            with_target(demo, tmp_path, int(files * share))
            demo.kill()
    report = finish(tmp_path)
    adds_up(tmp_path, report, files)
    assert report["starts"] == len(shares) + 1
    assert report["seconds_now"] < 20, "the dead start's claims must be taken over at once"
    assert done(tmp_path) <= report["parsed"] + AT_ONCE * len(shares), "files were done needlessly"


@pytest.mark.slow
def test_redis_may_forget_everything(tmp_path: Path, clean: TestServer) -> None:
    redis = ("--redis", clean.url)
    with Kiqpy(tmp_path, "demo", "--files", "300", *redis) as demo:
        with_target(demo, tmp_path, 100)
        demo.kill()
    clean.cli("FLUSHALL")
    with Kiqpy(tmp_path, "demo", *redis, "--json") as demo:
        with_target(demo, tmp_path, 200)
        clean.cli("FLUSHALL")  # while it runs: it finds that nothing moves, and looks again
        assert demo.ends(60) == 0, demo.err
    adds_up(tmp_path, json.loads(demo.out), 300)


@pytest.mark.slow
def test_a_child_that_is_killed_fails_its_job_only(tmp_path: Path) -> None:
    kills = 0
    with Kiqpy(tmp_path, "demo", "--files", "400", "--json") as demo:
        with_target(demo, tmp_path, 50)
        while not broken(tmp_path):
            [child, *_] = until_some(lambda: children(demo.pid))
            os.kill(int(child.name), signal.SIGKILL)
            kills += 1
            until(lambda c=child: not alive(c), "the child's end")  # type: ignore[misc]
            more = ended(tmp_path) + 10
            until(lambda n=more: ended(tmp_path) > n, "more files")  # type: ignore[misc]
        assert demo.ends(60) == 0, demo.err
    adds_up(tmp_path, json.loads(demo.out), 400)
    assert 1 <= len(broken(tmp_path)) <= kills
    assert all(line["retry_in_s"] is not None for line in broken(tmp_path))


def broken(folder: Path) -> list[dict[str, Any]]:
    """Failures of jobs whose child has died."""
    failed = [line for line in lines(folder) if line["event"] == "job.failure"]
    return [line for line in failed if "BrokenChild" in line["error"]]


def until_some(find: Callable[[], list[Path]]) -> list[Path]:
    until(find, "a child")
    return find()


def children(pid: int) -> list[Path]:
    """The child processes that jobs run in."""
    each_threads = [path.read_text() for path in Path(f"/proc/{pid}/task").glob("*/children")]
    found = [Path("/proc", child) for child in " ".join(each_threads).split()]
    return [c for c in found if b"multiprocessing.spawn" in command(c)]


def command(process: Path) -> bytes:
    try:
        return process.joinpath("cmdline").read_bytes()
    except OSError:  # it has ended
        return b""


def alive(process: Path) -> bool:
    try:
        return process.joinpath("stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_a_dead_job_stays_in_the_dead_set(tmp_path: Path, clean: TestServer) -> None:
    source = tmp_path / "source"
    source.mkdir()
    for n in range(4):
        (source / f"good{n}.py").write_text("def f():\n    return 1\n")
        (source / f"bad{n}.py").write_text("def f(:\n")
    report = finish(tmp_path, "--redis", clean.url, "--source", str(source))
    assert (report["files"], report["parsed"], report["failed"]) == (8, 4, 4)
    assert clean.cli("ZCARD", "dead") == report["failed"]
    assert clean.cli("ZCARD", "retry") == 0
    assert clean.cli("KEYS", "queue:*") == []


def test_two_at_once_are_one_too_many(tmp_path: Path) -> None:
    with Kiqpy(tmp_path, "demo", "--files", "240") as demo:
        with_target(demo, tmp_path, 1)
        code, _, err = kiqpy(tmp_path, "demo")
        assert code == 1
        assert err.count("\n") == 1, err
        assert "a demo is already running in" in err
        demo.send(signal.SIGTERM)
        assert demo.ends() == 130


@pytest.mark.parametrize("name", ["demo.sqlite3", "demo.lock"])
def test_what_can_not_be_used_is_said_in_one_line(tmp_path: Path, name: str) -> None:
    folder = tmp_path / ".kiqpy"
    folder.mkdir(mode=0o700)
    if name == "demo.lock":
        (folder / name).mkdir()
    else:
        (folder / name).write_bytes(b"no database" * 1000)
    code, out, err = kiqpy(tmp_path, "demo", "--files", "5")
    assert (code, out) == (1, "")
    assert err.count("\n") == 1, err
    assert name in err


def test_a_server_that_is_away_is_said_in_one_line(tmp_path: Path) -> None:
    words = ("--files", "5", "--redis", "redis://127.0.0.1:1/0")
    code, _, err = kiqpy(tmp_path, "demo", *words)
    assert code == 1
    assert err.splitlines()[-1].startswith("kiqpy: redis://127.0.0.1:1/0 gave no answer")
    assert "Traceback" not in err


def test_a_folder_without_python_is_said_so(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    code, out, err = kiqpy(tmp_path, "demo", "--source", "empty")
    assert (code, out) == (1, "")
    assert "there is no Python file below empty" in err
