"""The tables and errors on docs/periodic.md are right."""

from __future__ import annotations

import re
from datetime import datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from kiqpy import ConfigError, Periodic

TEXT = (Path(__file__).parents[2] / "docs" / "periodic.md").read_text("utf-8")
SNIPPETS = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)


def declared() -> dict[str, Any]:
    names: dict[str, Any] = {"__name__": "periodic_md"}
    exec(compile(SNIPPETS[0], "periodic.md", "exec"), names)
    return names


def test_the_options_are_all_there() -> None:
    table = TEXT.split("## Options")[1].split("##")[0]
    shown = set(re.findall(r"`([a-z_]+)`", "".join(re.findall(r"^\|(.*?)\|", table, re.MULTILINE))))
    takes = set(Periodic.__init__.__annotations__) - {"cron", "worker", "return"}
    assert shown == takes


def test_the_error_is_what_is_raised() -> None:
    [said] = re.findall(r"^\*/5 25 .*$", TEXT, re.MULTILINE)
    with pytest.raises(ConfigError, match=re.escape(said)):
        Periodic(said.split(":")[0], declared()["cleanup"])


@pytest.mark.parametrize(("day", "column"), [("2024-03-10", 1), ("2024-11-03", 2)])
def test_the_table_of_new_york(day: str, column: int) -> None:
    zone = ZoneInfo("America/New_York")
    start = datetime.fromisoformat(day).replace(tzinfo=zone).timestamp()
    rows = re.findall(r"^\| `(30 .*?)` \| (.*?) \| (.*?) \|$", TEXT, re.MULTILINE)
    rows = [row for row in rows if ":" in row[1]]
    assert len(rows) == 3
    for row in rows:
        ticks = Periodic(row[0], declared()["cleanup"], tz=zone.key).ticks(start, start + 82_800)
        shown = ", ".join(datetime.fromtimestamp(tick, zone).strftime("%H:%M") for tick in ticks)
        wanted = re.sub(r"\(.*?\)|\.\.\.", "", row[column]).strip()
        assert wanted in shown
        assert "..." in row[column] or wanted == shown
