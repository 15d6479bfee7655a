"""Messages for people: always on stderr, errors in one line."""

from __future__ import annotations

import click


def complain(trouble: object) -> None:
    """Write an error to stderr, as one line that names the cause and the fix."""
    say(f"kiqpy: {one_line(trouble)}")


def say(text: str) -> None:
    """Write a line to stderr."""
    click.echo(text, err=True)


def one_line(trouble: object) -> str:
    """The text of a message, with its lines joined by `; `."""
    lines = (line.strip() for line in str(trouble).splitlines())
    return "; ".join(line for line in lines if line).replace(":; ", ": ")
