"""`kiqpy new`: the files it writes are right and run, and it overwrites nothing."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from click.testing import CliRunner

from kiqpy.cli import main
from kiqpy.cli.new import new
from tests.cli.process import ROOT, Kiqpy, kiqpy
from tests.server import TestServer, until

FILES = {
    "my_shop.py": ("app", "MyShop"),
    "send_welcome.py": ("worker", "SendWelcome", "-q", "mail", "-r", "3", "--no-dead"),
    "send_digest.py": ("worker", "send_digest"),
    "http_call.py": ("worker", "HTTPCall", "-q", "q" * 60, "--retry", "12345"),
    "honeybadger.py": ("reporter", "Honeybadger"),
}


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def made(*words: str) -> str:
    """What it says; fails if it does not succeed."""
    ran = CliRunner().invoke(new, words, catch_exceptions=False)
    assert ran.exit_code == 0, ran.output
    return ran.output


def refused(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    """The one line that says why not."""
    assert main(["new", *words]) != 0
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1, lines
    return lines[0]


# -- what is written


def test_a_worker_has_what_was_asked_for(project: Path) -> None:
    said = made("worker", "SendWelcome", "-q", "mail", "-r", "3", "--no-dead")
    text = (project / "send_welcome.py").read_text()
    assert 'class SendWelcome(Worker, queue="mail", retry=3, dead=False):' in text
    assert said.splitlines() == [
        "wrote send_welcome.py",
        "next: add to your app:",
        "    from send_welcome import SendWelcome",
        "    workers = [SendWelcome]",
        '    queues = {"mail": 25}',
    ]
    made("worker", "send_digest")
    text = (project / "send_digest.py").read_text()
    assert '@worker(queue="default")\nasync def send_digest(' in text


def test_names_are_written_as_python_writes_them(project: Path) -> None:
    for words in (("app", "my_shop"), ("worker", "HTTPCall"), ("reporter", "error_tracker")):
        made(*words)
    found = {path.name: path.read_text() for path in project.glob("*.py")}
    assert found.keys() == {"my_shop.py", "http_call.py", "error_tracker.py"}
    assert "class MyShop(App):" in found["my_shop.py"]
    assert "class ErrorTracker(Reporter):" in found["error_tracker.py"]


@pytest.mark.slow
def test_all_of_it_passes_ruff_and_mypy(project: Path) -> None:
    """Twice: with ruff as it comes, and as this project has it; names long enough to wrap."""
    for words in FILES.values():
        made(*words)
    ruff, mypy = (Path(sys.executable).with_name(name) for name in ("ruff", "mypy"))
    if not (ruff.exists() and mypy.exists()):
        pytest.skip("ruff or mypy is not beside this Python")
    here = [".", "--no-cache"]
    ours = ["--config", str(ROOT / "pyproject.toml")]
    for words in (
        [str(ruff), "check", "--isolated", *here],
        [str(ruff), "check", *ours, *here],
        [str(ruff), "format", "--isolated", "--check", "--diff", *here],
        [str(mypy), "--strict", *FILES],
    ):
        ran = subprocess.run(
            words, capture_output=True, text=True, check=False, env={"MYPYPATH": str(ROOT)}
        )
        assert ran.returncode == 0, ran.stdout + ran.stderr


# -- where


def test_the_projects_own_package_is_preferred(project: Path) -> None:
    (project / "pyproject.toml").write_text('[project]\nname = "My-Shop"\n')
    package = project / "src" / "my_shop"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    said = made("app", "Jobs")
    assert (package / "jobs.py").exists()
    assert "kiqpy run my_shop.jobs:app" in said
    assert "from my_shop.email import email" in made("worker", "email")  # hides nothing there


def test_a_path_is_a_file_or_a_folder(project: Path) -> None:
    assert "next: kiqpy new worker SendWelcome, then kiqpy run a.b.mine:app" in made(
        "app", "Jobs", "--path", "a/b/mine.py"
    )
    assert "from a.send import Send" in made("worker", "Send", "--path", "a")
    assert (project / "a/send.py").exists()
    assert made("worker", "Send", "--path", str(project / "other.py"))
    assert (project / "other.py").exists()


def test_nothing_is_overwritten_unless_it_is_asked_for(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (project / "send.py").write_text("mine = 1\n")
    said = refused(capsys, "worker", "Send")
    assert (
        "send.py already exists: overwrite it with --force, or choose another with --path" in said
    )
    assert (project / "send.py").read_text() == "mine = 1\n"
    made("worker", "Send", "--force")
    assert "class Send(" in (project / "send.py").read_text()


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (("worker", "a-b"), "'a-b' is not a valid name: use letters, digits and _"),
        (("worker", "1st"), "is not a valid name"),
        (("worker", "Überweisung"), "is not a valid name"),
        (("worker", "a.b"), "is not a valid name"),
        (("worker", ""), "is not a valid name"),
        (("worker", "class"), "'class' is a Python keyword"),
        (("worker", "Class"), "'Class' is a Python keyword"),
        (("app", "none"), "'None' is a Python keyword"),
        (("app", "App"), "'App' is already used in the file"),
        (("app", "app"), "'app' is already used in the file"),
        (("reporter", "Reporter"), "use another name, such as MyReporter"),
        (("worker", "x" * 65), "use at most 64"),
        (("worker", "email"), "would hide the installed module 'email'"),
        (("worker", "Redis"), "would hide the installed module 'redis'"),
        (("worker", "Kiqpy"), "would hide the installed module 'kiqpy'"),
        (("worker", "Send", "-q", "a b"), "queue name 'a b'"),
        (("worker", "Send", "-r", "-1"), "-1 is not in the range"),
        (("worker", "Send", "--path", "../x.py"), "outside of"),
        (("worker", "Send", "--path", "my-jobs/x.py"), "'my-jobs' can't be part of"),
        (("worker", "Send", "--path", "taken/x.py"), "can't be written"),
        (("thing", "Send"), "No such command 'thing'"),
    ],
)
def test_what_can_not_be_is_refused_in_one_line(
    project: Path, capsys: pytest.CaptureFixture[str], words: tuple[str, ...], complaint: str
) -> None:
    (project / "taken").write_text("a file")
    assert complaint in refused(capsys, *words)
    assert sorted(project.rglob("*")) == [project / "taken"]


def test_a_package_of_that_name_is_not_hidden(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (project / "shop").mkdir()
    (project / "shop/__init__.py").touch()
    assert "shop is already a package: use --path shop/jobs.py" in refused(capsys, "app", "shop")


def test_without_a_kind_it_says_what_there_is(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["new"]) == 0
    assert "reporter" in capsys.readouterr().out


# -- pyproject.toml


@pytest.mark.parametrize(
    ("before", "added"),
    [
        (b'[project]\nname = "x"  # kept\n', b'\n[tool.kiqpy]\napp = "shop:app"\n'),
        (b"[tool.ruff]\nline-length = 100", b'\n\n[tool.kiqpy]\napp = "shop:app"\n'),
        (b"[tool.ruff]\r\nx = 1\r\n", b'\r\n[tool.kiqpy]\r\napp = "shop:app"\r\n'),
    ],
)
def test_the_app_is_named_without_touching_the_rest(
    project: Path, before: bytes, added: bytes
) -> None:
    (project / "pyproject.toml").write_bytes(before)
    assert 'added [tool.kiqpy] app = "shop:app" to pyproject.toml' in made("app", "shop")
    after = (project / "pyproject.toml").read_bytes()
    assert after.startswith(before)
    assert after.removeprefix(before).lstrip() == added.lstrip()
    assert tomllib.loads(after.decode())["tool"]["kiqpy"] == {"app": "shop:app"}


@pytest.mark.parametrize(
    "before",
    [
        '[tool.kiqpy]\napp = "other:app"\n',
        "[tool.kiqpy]\n",
        "tool = {x = 1}\n",
        "[tool]\nkiqpy = 1\n",
        "not toml",
        "",
        None,
    ],
)
def test_where_it_can_not_be_added_the_line_is_shown(project: Path, before: str | None) -> None:
    file = project / "pyproject.toml"
    if before is not None:
        file.write_text(before)
    said = made("app", "shop")
    assert 'pyproject.toml needs: [tool.kiqpy] app = "shop:app"' in said
    assert (file.read_text() if file.exists() else None) == before
    assert "kiqpy run shop:app" in said


def test_an_app_that_is_named_already_is_not_told_of(project: Path) -> None:
    (project / "pyproject.toml").write_text('[tool.kiqpy]\napp = "shop:app"\n')
    assert "pyproject" not in made("app", "shop")


# -- it runs


@pytest.mark.slow
@pytest.mark.parametrize("worker", ["SendWelcome", "send_digest"])
def test_what_is_written_runs_jobs(tmp_path: Path, clean: TestServer, worker: str) -> None:
    """As a newcomer: three commands, the lines they show, a job, `kiqpy run`."""
    (tmp_path / "pyproject.toml").write_text('[project]\nname = "shop"\n')
    for words in (("app", "jobs"), ("worker", worker, "-q", "mail"), ("reporter", "Told")):
        code, said, complaint = kiqpy(tmp_path, "new", *words)
        assert code == 0, complaint
        follow(tmp_path / "jobs.py", said)
    enqueue = f"import jobs; print(jobs.app.enqueue_sync(jobs.{worker}.new(7)).state)"
    ran = subprocess.run(
        [sys.executable, "-c", enqueue], cwd=tmp_path, capture_output=True, text=True, check=False,
        env={"PYTHONPATH": str(ROOT), "REDIS_URL": clean.url},
    )  # fmt: skip
    assert ran.stdout == "queued\n", ran.stderr
    payload = json.loads(str(clean.cli("LINDEX", "queue:mail", 0)))
    assert (payload["class"], payload["args"]) == (worker, [7])
    with Kiqpy(tmp_path, "run", REDIS_URL=clean.url) as running:
        until(lambda: clean.cli("GET", "stat:processed") == "1", "the job's ack", 30)
        until(lambda: f"{worker} {payload['jid']} took" in running.err, "the reporter's line")
        running.send(signal.SIGTERM)
        assert running.ends() == 0
    assert "for number 7" in running.err
    assert clean.cli("GET", "stat:failed") in (None, "0")


def follow(app: Path, said: str) -> None:
    """Do what was said: imports to the top, attributes into the class."""
    for line in (line.strip() for line in said.splitlines() if line.startswith("    ")):
        text = app.read_text()
        if line.startswith("from "):
            app.write_text(f"{line}\n{text}")
        else:
            name, _, value = line.partition(" = ")
            old = next(row for row in text.splitlines() if f" {name}: ClassVar =" in row)
            app.write_text(text.replace(old, f"    {name}: ClassVar = {value}"))
