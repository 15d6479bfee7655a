"""How `kiqpy run` finds its app, and its errors when there is none."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from kiqpy import App, ConfigError
from kiqpy.cli._load_app import load_app

ONE = "from kiqpy import App\nclass Jobs(App): pass\n"
Write = Callable[[str, str], None]


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Write]:
    """Write a module; it is forgotten after the test."""
    before = set(sys.modules)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)

    def write(name: str, text: str) -> None:
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)

    yield write
    for name in set(sys.modules) - before:
        del sys.modules[name]


@pytest.mark.parametrize(
    "text",
    [
        ONE,
        ONE + "app = Jobs()\n",
        ONE + "app = also = Jobs()\n",
        ONE + "class More(Jobs): pass\napp = More()\n",
        "from found_elsewhere import Jobs, app\n",
    ],
    ids=["a class", "an instance", "one by two names", "an instance, two classes", "imported"],
)
def test_the_one_app_of_a_module(write: Write, tmp_path: Path, text: str) -> None:
    write("found_elsewhere.py", ONE + "app = Jobs()\n")
    write("found.py", text)
    assert isinstance(load_app("found", tmp_path), App)
    assert sys.path[0] == str(tmp_path)


def test_an_instance_is_taken_as_it_is(write: Write, tmp_path: Path) -> None:
    write("found.py", ONE + "class Holder:\n    inner = Jobs()\napp = Jobs()\nother = Jobs()\n")
    assert load_app("found:app", tmp_path) is sys.modules["found"].app
    assert load_app("found:Holder.inner", tmp_path) is sys.modules["found"].Holder.inner


def test_the_project_names_it(write: Write, tmp_path: Path) -> None:
    write("found.py", ONE)
    write("pyproject.toml", '[tool.kiqpy]\napp = "found:Jobs"\n')
    assert type(load_app(None, tmp_path)).__name__ == "Jobs"


@pytest.mark.parametrize(
    ("target", "text", "said"),
    [
        ("found", "", "found holds no App"),
        ("found", "from kiqpy import App\n", "found holds no App"),
        ("found", ONE + "a = Jobs()\nb = Jobs()\n", "choose found:a or found:b"),
        ("found", ONE + "class More(App): pass\n", "choose found:Jobs or found:More"),
        ("found:jobs", ONE, "did you mean 'Jobs'?"),
        ("found:", ONE, "after the colon"),
        ("found:x", "", "it holds no app"),
        ("found:nope", ONE + "note = nose = 1\n", "found has no 'nope'; it holds Jobs"),
        ("found:x", "x = 1\n", "found:x is a int, not an App"),
        ("found.py", ONE, "did you mean 'found'?"),
        ("./found.py", ONE, "did you mean 'found'?"),
        ("fuond", ONE, "there is no module 'fuond'"),
        ("fuond", ONE, "did you mean 'found'?"),
        ("found.jobs", ONE, "there is no module 'found.jobs'"),
        ("fo und", ONE, "is not a module name"),
        ("found", "import no_such_thing\n", "No module named 'no_such_thing'"),
        ("found", "1 +\n", "SyntaxError: invalid syntax"),
        ("found", "\n1 / 0\n", "ZeroDivisionError: division by zero"),
        ("found", "raise SystemExit('no')\n", "SystemExit: no"),
        ("found", "from kiqpy import App\n\nApp(queus={})\n", "did you mean 'queues'?"),
        ("found", ONE + "class More(Jobs):\n    def __init__(self, x): pass\nJobs = 1\n", "(More"),
    ],
)
def test_what_is_wrong_is_said(
    write: Write, tmp_path: Path, target: str, text: str, said: str
) -> None:
    write("found.py", text)
    with pytest.raises(ConfigError) as caught:
        load_app(target, tmp_path)
    assert said in str(caught.value).replace("More.__init__", "(More")


def test_a_mistake_is_said_with_its_line(write: Write, tmp_path: Path) -> None:
    write("found.py", "\n\n1 / 0\n")
    with pytest.raises(ConfigError, match=r"found\.py:3\)"):
        load_app("found", tmp_path)


def test_a_module_beside_the_missing_one_is_named(write: Write, tmp_path: Path) -> None:
    write("house/__init__.py", "")
    write("house/jobs.py", ONE)
    with pytest.raises(ConfigError, match=r"no module 'house\.job'.*did you mean 'house\.jobs'"):
        load_app("house.job", tmp_path)


@pytest.mark.parametrize(
    ("project", "said"),
    [
        ("", "names none"),
        ("[tool.kiqpy]\napp = 1\n", "names none"),
        ("[tool\n", "can't be read"),
        ("tool = 1\n", "can't be read"),
    ],
)
def test_a_project_that_names_none(write: Write, tmp_path: Path, project: str, said: str) -> None:
    write("pyproject.toml", project)
    with pytest.raises(ConfigError, match=said):
        load_app(None, tmp_path)


def test_no_project_at_all(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"There is no pyproject\.toml"):
        load_app(None, tmp_path)


def test_a_misspelt_key_of_the_project_is_refused(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text('[tool.kiqpy]\nap = "x"\n')
    with pytest.raises(ConfigError, match=r"\[tool.kiqpy\] knows no 'ap', only app"):
        load_app(None, tmp_path)
