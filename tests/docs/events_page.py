"""Writes docs/events.md from kiqpy/event.py: `python -m tests.docs.events_page`."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from kiqpy import event

PAGE = Path(__file__).parents[2] / "docs" / "events.md"
_UNITS = {"_s": "seconds", "_at": "epoch seconds"}
_HEAD = """\
# Events

<!-- Written by `python -m tests.docs.events_page` from kiqpy/event.py. Change that file. -->

An app emits these events while it runs. A handler gets the event as its only argument and is
called in the app's event loop, so it must be quick. If it raises, the error is logged and has no
other effect. Patterns are shell patterns.

```python
from kiqpy import App
from kiqpy.event import JobFailure


def failed(event: JobFailure) -> None:
    print(event.job.class_, event.error, event.retry_in_s)


jobs = App()
jobs.attach("job.failure", failed)  # from any thread, at any time
jobs.detach(failed)
```

To wait for events, open a stream. It gets the events that happen while it is open, and ends when
the app has stopped. It holds at most `limit` events; if there are more, the oldest are dropped
and counted in `stream.dropped`.

```python
async def watch(jobs: App) -> None:
    async with jobs.events("job.*", "flush.*", queue="mail", limit=1000) as stream:
        async for event in stream:
            print(event.name, event)
```

With `queue=`, the stream gets only events about that queue or about its jobs. A pattern that
matches no event raises `ConfigError`, which suggests the nearest name. Events are frozen
dataclasses in `kiqpy.event`. The event of an outcome is emitted after the outcome is stored in
Redis. An event without a listener is not created.
"""


class Field(NamedTuple):
    """One field of an event, as it is declared."""

    name: str
    type: str
    note: str


class Kind(NamedTuple):
    """One event, as it is declared."""

    name: str
    class_: str
    when: str
    fields: list[Field]


def catalogue(source: str) -> Iterator[Kind]:
    """Every event class of the source, in its order."""
    lines = source.splitlines()
    for node in ast.parse(source).body:
        if not isinstance(node, ast.ClassDef) or node.name == "Event":
            continue
        name, fields = "", list[Field]()
        for item in node.body:
            if not isinstance(item, ast.AnnAssign) or not isinstance(item.target, ast.Name):
                continue
            if item.target.id == "name" and item.value is not None:
                name = ast.literal_eval(item.value)
            else:
                comment = lines[item.lineno - 1].partition("  # ")[2]
                fields.append(
                    Field(
                        item.target.id, ast.unparse(item.annotation), note(item.target.id, comment)
                    )
                )
        yield Kind(name, node.name, ast.get_docstring(node) or "", fields)


def note(name: str, comment: str) -> str:
    """The unit that the name says, and the comment behind the field."""
    unit = next((unit for end, unit in _UNITS.items() if name.endswith(end)), "")
    return "; ".join(filter(None, (unit, comment)))


def page(kinds: list[Kind]) -> str:
    """The whole page: a table of all, then each by itself, family by family."""
    families = dict.fromkeys(kind.name.partition(".")[0] for kind in kinds)
    parts = [_HEAD]
    for family in families:
        parts.append(f"## {family}.*\n")
        parts += [entry(kind) for kind in kinds if kind.name.startswith(family + ".")]
    return "\n".join(parts)


def entry(kind: Kind) -> str:
    """One event: its name and class, when it is told, its fields."""
    text = f"### {kind.name}\n\n`{kind.class_}`. {' '.join(kind.when.split())}\n"
    if kind.fields:
        text += "\n| field | type | |\n|---|---|---|\n"
        for field in kind.fields:
            text += (
                f"| `{field.name}` | `{field.type.replace('|', chr(92) + '|')}` | {field.note} |\n"
            )
    return text


def current() -> str:
    """The page as it must be now."""
    return page(list(catalogue(inspect.getsource(event))))


if __name__ == "__main__":
    PAGE.write_text(current(), "utf-8")
