"""A page of Sidekiq::Web as a visitor sees it: its tables, its numbers, its forms and buttons."""

from __future__ import annotations

import html
from dataclasses import dataclass, field
from html.parser import HTMLParser
from typing import Any

from tests.interop.ruby import Ruby


@dataclass
class Form:
    """`fields`: what is sent in any case; `choices`: checkboxes; `buttons`: (name, value)."""

    action: str
    fields: list[tuple[str, str]] = field(default_factory=list)
    choices: list[tuple[str, str]] = field(default_factory=list)
    buttons: list[tuple[str, str]] = field(default_factory=list)


class Page(HTMLParser):
    """`rows`: the texts of each table's row, `<th>` rows left out; `numbers`: by id of a span."""

    def __init__(self, path: str, body: str) -> None:
        super().__init__()
        self.path, self.body = path, body
        self.rows: list[list[str]] = []
        self.numbers: dict[str, str] = {}
        self.forms: list[Form] = []
        self.data: dict[str, str] = {}
        self._form: Form | None = None
        self._row: list[str] | None = None
        self._id = ""
        self._in_cell = False
        self.feed(body)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        self.data |= {name: value for name, value in given.items() if name.startswith("data-")}
        if tag == "form":
            self._form = Form(given.get("action") or self.path)
            self.forms.append(self._form)
        elif tag in ("input", "button") and self._form is not None:
            self._control(given)
        elif tag == "tr":
            self._row = []
        elif tag == "td" and self._row is not None:
            self._row.append("")
            self._in_cell = True
        elif tag == "span":
            self._id = given.get("id", "")

    def _control(self, given: dict[str, str]) -> None:
        assert self._form is not None
        pair = (given.get("name", ""), given.get("value", ""))
        kind = {"submit": self._form.buttons, "checkbox": self._form.choices}
        kind.get(given.get("type", ""), self._form.fields).append(pair)

    def handle_endtag(self, tag: str) -> None:
        if tag == "form":
            self._form = None
        elif tag == "td":
            self._in_cell = False
        elif tag == "tr" and self._row:
            self.rows.append([" ".join(cell.split()) for cell in self._row])
            self._row = None
        elif tag == "span":
            self._id = ""

    def handle_data(self, data: str) -> None:
        if self._id:
            self.numbers[self._id] = self.numbers.get(self._id, "") + data.strip()
        if self._in_cell and self._row:
            self._row[-1] += data


class Browser:
    """Opens pages and presses buttons, as a browser does: with what the page's form holds."""

    def __init__(self, ruby: Ruby) -> None:
        self._ruby = ruby

    def get(self, path: str) -> tuple[int, str]:
        answer = self._ruby.ask("web", "GET", path)
        return answer["status"], answer["body"]

    def open(self, path: str) -> Page:
        status, body = self.get(path)
        assert status == 200, f"{path}: {status} {body[:300]}"
        return Page(path, body)

    def press(self, page: Page, action: str, button: str, *, choose: str = "") -> str:
        """Send the form of this action by this button; where it leads.

        Of several forms with one action, the first that has `choose` in a field or a checkbox; of
        its checkboxes, those with `choose` are ticked.
        """
        [form, *_] = [f for f in page.forms if _fits(f, action, button, choose)]
        sent: dict[str, Any] = dict(form.fields)
        sent[button] = next(value for name, value in form.buttons if name == button)
        for name, value in form.choices:
            if name and choose in value:
                sent.setdefault(name.removesuffix("[]"), []).append(value)
        answer = self._ruby.ask("web", "POST", form.action, sent)
        assert answer["status"] == 302, answer
        return str(answer["to"])


def _fits(form: Form, action: str, button: str, choose: str) -> bool:
    values = [value for _, value in [*form.fields, *form.choices]]
    return (
        form.action == action
        and any(name == button for name, _ in form.buttons)
        and (not choose or any(choose in html.unescape(value) for value in values))
    )
