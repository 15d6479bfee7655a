"""docs/options.md, the class attributes, the keywords and the checked options are one list."""

from __future__ import annotations

import inspect
import re

import pytest

from kiqpy import App, Worker, worker
from kiqpy import options as app_options
from kiqpy._declare import options as worker_options
from kiqpy.config import NAMES, configure
from kiqpy.options import Declaration
from tests.docs.options_page import PAGE, annotations, current, declared

SOURCE = '''
class Declaration:
    # -- what it runs

    grace: ClassVar[Duration | None] = 25.0
    """How long
    they get."""

    mode: ClassVar[Literal["a", "b"]] = "a"
    """Which."""
'''


def test_the_page_is_up_to_date() -> None:
    assert PAGE.read_text("utf-8") == current(), "run: python -m tests.docs.options_page"


def test_what_a_class_says_is_on_the_page() -> None:
    grace, mode = declared(SOURCE, "Declaration")
    assert grace == ("grace", "duration | None", "25 s", "How long they get.", "what it runs")
    assert mode == ("mode", '"a" | "b"', '`"a"`', "Which.", "what it runs")


def test_an_option_without_a_docstring_is_refused() -> None:
    with pytest.raises(AssertionError, match="option grace has no docstring"):
        declared("class Declaration:\n    grace: int = 1\n    mode: int = 2", "Declaration")


def test_the_class_attributes_are_the_keywords() -> None:
    attributes = {
        name: kind.removeprefix("ClassVar[")[:-1]
        for name, kind in annotations(app_options, "Declaration").items()
    }
    assert annotations(app_options, "AppOptions") == attributes


def test_every_option_that_is_checked_is_declared() -> None:
    assert set(annotations(app_options, "Declaration")) == {*NAMES, "concurrency"}


@pytest.mark.parametrize("name", NAMES)
def test_the_declared_default_is_the_one_that_holds(name: str) -> None:
    assert configure({name: getattr(Declaration, name)}) == configure({})


def test_every_option_of_a_worker_is_declared() -> None:
    named = {
        **annotations(worker_options, "_JobOptions"),
        **annotations(worker_options, "WorkerOptions"),
    }
    assert set(named) == set(annotations(worker_options, "Options"))


def test_help_names_every_option() -> None:
    said = set(re.findall(r"`(\w+)`", inspect.getdoc(App) or ""))
    assert said >= {*NAMES, "concurrency"}
    listed = re.findall(r"^(\w+)=", inspect.getdoc(worker) or "", re.MULTILINE)
    assert sorted(listed) == sorted(annotations(worker_options, "Options"))
    assert "`worker`" in (inspect.getdoc(Worker) or "")
