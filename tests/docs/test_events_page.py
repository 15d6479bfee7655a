"""docs/events.md is up to date with kiqpy/event.py."""

from __future__ import annotations

from tests.docs.events_page import PAGE, Kind, catalogue, current, page

SOURCE = '''
class Event:
    name: ClassVar[str]

class LoopLag(Event):
    """The loop was
    blocked."""

    name: ClassVar[str] = "loop.lag"
    lag_s: float | None  # as measured
    tick_at: float
    who: str
'''


def test_the_page_is_up_to_date() -> None:
    written = PAGE.read_text("utf-8")
    assert written == current(), "run: python -m tests.docs.events_page"


def test_what_a_class_says_is_on_the_page() -> None:
    [kind] = kinds = list(catalogue(SOURCE))
    assert isinstance(kind, Kind)
    assert (kind.name, kind.class_, kind.when) == ("loop.lag", "LoopLag", "The loop was\nblocked.")
    text = page(kinds)
    assert "### loop.lag\n\n`LoopLag`. The loop was blocked.\n" in text
    assert "| `lag_s` | `float \\| None` | seconds; as measured |" in text
    assert "| `tick_at` | `float` | epoch seconds |" in text
    assert "| `who` | `str` |  |" in text
