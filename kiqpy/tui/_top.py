"""The terminal application: tabs, tables and keys around the views."""

from __future__ import annotations

from typing import ClassVar, Final, final

from rich.text import Text
from textual import events
from textual.app import App as TerminalApp
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import VerticalScroll
from textual.screen import ModalScreen
from textual.widgets import DataTable, Footer, Input, Static, Tab, Tabs

from kiqpy.admin import Admin
from kiqpy.admin._text import duration_text
from kiqpy.errors import KiqError
from kiqpy.tui._views import VIEWS, Line, Screenful, View

HELP: Final = """\
left, right   the tab beside           h, l    the page before, after
j, k          the line below, above    x       choose the line, or not
enter         all about the line       /       show what holds a text; escape: all
?             this help                q       leave

CAPITALS change things, at once: the chosen lines, or the line of the cursor.

"""


class Reader(ModalScreen[None]):
    """A text to read; any of escape, enter, q and ? closes it."""

    BINDINGS: ClassVar[list[BindingType]] = [
        ("escape,enter,q,question_mark", "dismiss", "close"),
    ]

    def __init__(self, text: str) -> None:
        super().__init__()
        self._text = text

    def compose(self) -> ComposeResult:
        with VerticalScroll():
            yield Static(Text(self._text), id="text")


@final
class Top(TerminalApp[None]):
    """Lists of jobs, queues and processes, read anew every `interval_s` seconds."""

    TITLE = "kiqpy top"
    CSS = """
    #said { height: 1; padding: 0 1; }
    #filter { display: none; }
    #filter.asked { display: block; }
    Reader VerticalScroll {
        margin: 2 4; padding: 1 2; border: round $primary; background: $surface;
    }
    """
    ENABLE_COMMAND_PALETTE = False
    BINDINGS: ClassVar[list[BindingType]] = [
        ("left", "tab(-1)", "tab"),
        ("right", "tab(1)", "tab"),
        ("h", "page(-1)", "page"),
        ("l", "page(1)", "page"),
        ("j", "line(1)", "line"),
        ("k", "line(-1)", "line"),
        ("x", "choose", "choose"),
        ("slash", "ask", "filter"),
        ("escape", "all", "all"),
        ("question_mark", "help", "help"),
        ("q", "quit", "quit"),
    ]

    def __init__(self, admin: Admin, *, interval_s: float = 2.0, read_only: bool = False) -> None:
        super().__init__()
        self._admin = admin
        self._interval_s = interval_s
        self._read_only = read_only
        self._views: list[View] = [view() for view in VIEWS]
        self._at = 0
        self._page = 1
        self._filter = ""
        self._chosen: set[str] = set()
        self._shown = Screenful(())
        self._table: DataTable[Text] = DataTable(cursor_type="row", zebra_stripes=True)

    @property
    def view(self) -> View:
        """The one that is shown."""
        return self._views[self._at]

    def compose(self) -> ComposeResult:
        yield Tabs(*(Tab(view.title, id=view.title) for view in self._views))
        yield self._table
        yield Input(placeholder="show what holds this text", id="filter")
        yield Static(id="said")
        yield Footer()

    async def on_mount(self) -> None:
        self.query_one(Tabs).can_focus = False
        self._table.focus()
        await self._show()
        self.set_interval(self._interval_s, self._refresh)

    # -- what is shown

    async def _show(self, said: str = "") -> None:
        """Load and draw the present page."""
        try:
            self._shown = await self.view.load(self._admin, self._page, self._filter)
        except KiqError as error:
            self._say(f"no answer: {error}")
            return
        self._page = min(self._page, self._shown.pages)
        self._draw()
        self._say(said or self._where())

    async def _refresh(self) -> None:
        if len(self.screen_stack) == 1:
            await self._show()

    def _draw(self) -> None:
        table = self._table
        row = table.cursor_row
        table.clear(columns=True)
        table.add_columns("", *self.view.heads)
        for line in self._shown.lines:
            mark = Text("x" if line.key in self._chosen else "")
            table.add_row(mark, *map(_plain, line.cells), key=line.key)
        table.move_cursor(row=min(row, max(0, len(self._shown.lines) - 1)))

    def _where(self) -> str:
        total = self._shown.total
        count = "" if total is None else f"{total:,} in all, "
        words = [f"{count}page {self._page} of {self._shown.pages}"]
        if self._filter:
            words.append(f"that hold {self._filter!r}")
        if self._chosen:
            words.append(f"{len(self._chosen)} chosen")
        words.append(f"every {duration_text(self._interval_s)}")
        return " · ".join(words)

    def _say(self, text: str) -> None:
        self.query_one("#said", Static).update(_plain(text))

    # -- keys

    async def action_tab(self, by: int) -> None:
        """Show the tab beside."""
        self._at = (self._at + by) % len(self._views)
        self._page, self._filter = 1, ""
        self._chosen.clear()
        self.query_one(Tabs).active = self.view.title
        self._table.move_cursor(row=0)
        await self._show()

    async def on_tabs_tab_activated(self, event: Tabs.TabActivated) -> None:
        """A tab was clicked."""
        wanted = [view.title for view in self._views].index(str(event.tab.id))
        if wanted != self._at:
            await self.action_tab(wanted - self._at)

    async def action_page(self, by: int) -> None:
        """Show the page before or after."""
        self._page = max(1, min(self._shown.pages, self._page + by))
        await self._show()

    def action_line(self, by: int) -> None:
        """Move the cursor."""
        table = self._table
        table.move_cursor(row=max(0, table.cursor_row + by))

    async def action_choose(self) -> None:
        """Choose the line, or take it back; the cursor moves on."""
        line = self._line()
        if line is None:
            return
        self._chosen ^= {line.key}
        self._draw()
        self.action_line(1)
        self._say(self._where())

    def action_ask(self) -> None:
        """Ask for a text."""
        field = self.query_one("#filter", Input)
        field.add_class("asked")
        field.value = self._filter
        field.focus()

    async def on_input_submitted(self, event: Input.Submitted) -> None:
        """The text was given."""
        self._filter, self._page = event.value, 1
        self._leave_filter()
        await self._show()

    async def action_all(self) -> None:
        """Show all, and choose nothing."""
        self._filter, self._page = "", 1
        self._chosen.clear()
        self._leave_filter()
        await self._show()

    def _leave_filter(self) -> None:
        self.query_one("#filter", Input).remove_class("asked")
        self._table.focus()

    def action_help(self) -> None:
        """Show what each key does here."""
        dangerous = [f"{key}   {action.text}" for key, action in self.view.actions.items()]
        self.push_screen(Reader(HELP + (f"{self.view.title}:\n" + "\n".join(dangerous))))

    def on_data_table_row_selected(self, _event: DataTable.RowSelected) -> None:
        """Enter: show all about the line."""
        line = self._line()
        if line is not None:
            self.push_screen(Reader(self.view.details(line)))

    async def on_key(self, event: events.Key) -> None:
        """Capitals."""
        action = self.view.actions.get(event.character or "")
        if action is None or len(self.screen_stack) > 1 or isinstance(self.focused, Input):
            return
        event.stop()
        if self._read_only:
            self._say("read-only: nothing is changed")
            return
        lines = self._acted_on()
        if not lines:
            self._say("there is no line")
            return
        try:
            said = await action.run(self._admin, [line.about for line in lines])
        except KiqError as error:
            said = f"{action.text}: {error}"
        self._chosen.clear()
        await self._show(said)

    def _line(self) -> Line | None:
        row = self._table.cursor_row
        return self._shown.lines[row] if 0 <= row < len(self._shown.lines) else None

    def _acted_on(self) -> list[Line]:
        if self._chosen:
            return [line for line in self._shown.lines if line.key in self._chosen]
        line = self._line()
        return [] if line is None else [line]


def _plain(text: str) -> Text:
    """Text as it is: nothing in it is markup, and a terminal obeys none of it."""
    return Text("".join(map(_printable, text)))


def _printable(character: str) -> str:
    if character.isprintable():
        return character
    return character.encode("unicode_escape").decode()
