"""The old chats: a list that narrows while one types, by title and by every word said, with a preview."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path
from typing import ClassVar, NamedTuple

from textual import on, work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical, VerticalScroll
from textual.content import Content
from textual.widgets import Input, OptionList, Static
from textual.widgets.option_list import Option

from chat_app.chat.commands.chats import TITLE_LENGTH
from chat_app.store.chats import ChatStore, ChatSummary, StoreError
from chat_app.store.search import Hit, split_terms
from chat_app.text.sanitize import clean
from chat_app.tui.key_words import KeyWords
from chat_app.tui.screens.confirm import ConfirmScreen
from chat_app.tui.screens.dialog import Dialog
from chat_app.tui.screens.export_chat import ExportScreen
from chat_app.tui.screens.history_rows import chat_row, group_of, headline, hit_row, preview
from chat_app.tui.screens.rename import RenameScreen
from chat_app.tui.widgets.inputs import CleanInput

# The list stays quick with any number of chats; the search looks at all of them.
SHOWN = 300
SEARCH_DELAY_S = 0.12
PREVIEW_DELAY_S = 0.06
KEYS = (
    "Enter opens · ↓ list · {history.mark} marks · {history.delete} delete · {history.undo} undo · "
    "{history.rename} rename · {history.pin} pin · {history.export} export · {dialog.close}"
)
KEYS_MARKED = (
    "{history.delete} deletes all that are marked · {history.mark} marks · {history.undo} undo · of the chat "
    "under the cursor: Enter opens · {history.rename} rename · {history.pin} pin · {history.export} export"
)
ROWS_ASKED = 4  # of the chats to be deleted, in the question


def _local_now() -> datetime:
    return datetime.now().astimezone()


class Chosen(NamedTuple):
    """The chat to open; and where a search found it, which words in which of its messages."""

    chat_id: str
    message_id: str | None = None
    words: str = ""


class HistoryScreen(Dialog[Chosen]):
    """Dismissed with the chat to open, or with None."""

    AUTO_FOCUS = "#history-search"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("down", "to_list", "To the list", show=False),
        Binding("slash", "to_search", "Search", id="history.search"),
        Binding("space", "mark", "Mark", id="history.mark"),
        Binding("d,delete", "delete", "Delete", id="history.delete"),
        Binding("u", "undo", "Undo", id="history.undo"),
        Binding("r", "rename", "Rename", id="history.rename"),
        Binding("p", "pin", "Pin", id="history.pin"),
        Binding("e", "export", "Export", id="history.export"),
    ]
    HORIZONTAL_BREAKPOINTS = [(0, "-narrow"), (90, "-wide")]  # noqa: RUF012 - Textual declares it so
    DEFAULT_CSS = """
    HistoryScreen {
        align: center middle; background: $background 60%;
        #history {
            width: 96%; max-width: 140; height: 90%; padding: 0 1;
            background: $surface; border: round $primary; border-title-color: $text-primary;
        }
        #history-body { height: 1fr; }
        #history-list { width: 1fr; height: 1fr; border: none; padding: 0; text-wrap: nowrap;
            text-overflow: ellipsis; background: $surface; }
        #history-preview { display: none; width: 1fr; height: 1fr; padding: 0 1;
            border-left: vkey $panel-lighten-1; scrollbar-size-vertical: 1; }
        #history-text { width: 100%; height: auto; }
        #history-note, #history-keys { height: auto; width: 100%; color: $text-muted; }
        &.-wide #history-preview { display: block; }
    }
    """

    def __init__(
        self,
        store: ChatStore,
        query: str = "",
        *,
        renamed: Callable[[str, str], object] = lambda chat_id, title: None,
        now: Callable[[], datetime] = _local_now,
    ) -> None:
        """renamed: is told the id and the new title of a chat."""
        super().__init__()
        self._store = store
        self._query = query
        self._renamed = renamed
        self._now = now
        self._chats: list[ChatSummary] = []
        self._hits: dict[str, Hit] = {}
        self._told = len(store.database.notices)
        self._marked: set[str] = set()
        self._deleted: list[list[str]] = []  # here, what was deleted together; the last at the end

    def compose(self) -> ComposeResult:
        """The search above, the chats at the left, a preview at the right."""
        with Vertical(id="history") as box:
            box.border_title = "Chats"
            yield CleanInput(self._query, placeholder="Search titles and messages", id="history-search")
            yield Static(id="history-note")
            with Horizontal(id="history-body"):
                yield OptionList(id="history-list", markup=False)
                with VerticalScroll(id="history-preview", can_focus=False):
                    yield Static(id="history-text", markup=False)
            yield KeyWords(KEYS, id="history-keys", classes="")

    def begin(self) -> None:
        """Read the chats in the background."""
        self._load()

    @property
    def _search_box(self) -> Input:
        return self.query_one("#history-search", Input)

    @property
    def _list(self) -> OptionList:
        return self.query_one("#history-list", OptionList)

    def _chosen(self) -> ChatSummary | None:
        """The chat under the cursor."""
        option = self._list.highlighted_option
        chosen = option.id if option is not None else None
        return next((chat for chat in self._chats if chat.id == chosen), None)

    def _meant(self) -> list[ChatSummary]:
        """The chats that are marked; where there are none, the one under the cursor."""
        marked = [chat for chat in self._chats if chat.id in self._marked]
        chosen = self._chosen()
        return marked or ([chosen] if chosen is not None else [])

    # Listing and searching. A newer query, or leaving, ends the search that runs.

    @work(exclusive=True, group="history-search")
    async def _load(self) -> None:
        self._note("Reading the chats …")
        await self._refresh(again=True)

    @on(Input.Changed, "#history-search")
    def _typed(self) -> None:
        self._search()

    @work(exclusive=True, group="history-search")
    async def _search(self) -> None:
        await asyncio.sleep(SEARCH_DELAY_S)
        await self._refresh(again=not self._chats)

    async def _refresh(self, *, again: bool) -> None:
        """Show what fits the query; `again`: after the chats are read anew. What goes wrong is said."""
        try:
            if again:
                self._chats = await asyncio.to_thread(self._store.list)
                self._marked &= {chat.id for chat in self._chats}
            await self._find(self._search_box.value)
        except StoreError as error:
            self._note(clean(str(error)))
            return
        for notice in self._store.database.notices[self._told :]:
            self._told += 1
            self.notify(clean(notice), severity="warning", markup=False)

    async def _find(self, query: str) -> None:
        terms = split_terms(query)
        if not terms:
            self._hits = {}
            self._show(self._grouped())
            self._note(self._count_of_all())
            return
        stop = threading.Event()
        try:
            hits = await asyncio.to_thread(self._store.search, self._chats, query, stop.is_set)
        finally:
            stop.set()
        self._hits = {hit.chat.id: hit for hit in hits}
        width = self._list.scrollable_content_region.width
        now, marked = self._now(), self._marked
        self._show(
            [
                Option(hit_row(hit, terms, now, width, marked=hit.chat.id in marked), id=hit.chat.id)
                for hit in hits[:SHOWN]
            ]
        )
        self._note(f"{len(hits):,} of {len(self._chats):,} chats" if hits else "No chat holds these words.")

    def on_resize(self) -> None:
        """Search again, since how much of a hit is shown depends on the width."""
        if self._hits:
            self._search()

    def _count_of_all(self) -> str:
        count = len(self._chats)
        if not count:
            return "There are no chats yet."
        rest = f"; the newest {SHOWN} are shown, search for the others" if count > SHOWN else ""
        return f"{count:,} chat{'' if count == 1 else 's'}{rest}"

    def _grouped(self) -> list[Option]:
        """The chats under the headlines of their days; a headline cannot be chosen."""
        now = self._now()
        rows: list[Option] = []
        group = ""
        for chat in self._chats[:SHOWN]:
            if (found := group_of(chat, now)) != group:
                group = found
                rows.append(Option(headline(group), disabled=True))
            rows.append(Option(chat_row(chat, now, marked=chat.id in self._marked), id=chat.id))
        return rows

    def _show(self, rows: Sequence[Option]) -> None:
        """Show these rows, the cursor on the chat it was on, else where it was."""
        before, chosen = self._list.highlighted or 0, self._chosen()
        self._list.clear_options()
        self._list.add_options(rows)
        places = [at for at, row in enumerate(rows) if not row.disabled]
        same = [at for at in places if chosen is not None and rows[at].id == chosen.id]
        near = [at for at in places if at >= before] or places[-1:]
        self._list.highlighted = next(iter(same or near), None)
        if not places:
            self.query_one("#history-text", Static).update("")

    def _note(self, text: str) -> None:
        marked = f" · {len(self._marked):,} marked" if self._marked else ""
        self.query_one("#history-note", Static).update(Content(text + marked))
        self.query_one("#history-keys", KeyWords).say(KEYS_MARKED if self._marked else KEYS)

    @on(OptionList.OptionHighlighted)
    def _moved(self, event: OptionList.OptionHighlighted) -> None:
        if event.option_id is not None:
            self._preview(event.option_id)

    @work(exclusive=True, group="history-preview")
    async def _preview(self, chat_id: str) -> None:
        await asyncio.sleep(PREVIEW_DELAY_S)
        hit = self._hits.get(chat_id)
        found = hit.message_id if hit else None
        try:
            chat = await asyncio.to_thread(self._store.read, chat_id)
            messages = chat.path(chat.leaf(found)) if found in chat and found else chat.path()
            text = preview(messages, split_terms(self._search_box.value), found)
        except StoreError as error:
            text = Content(clean(str(error)))
        self.query_one("#history-text", Static).update(text)
        self.query_one("#history-preview", VerticalScroll).scroll_home(animate=False)

    # What the keys do.

    def action_to_search(self) -> None:
        """Put the cursor back into the search."""
        self._search_box.focus()

    def action_to_list(self) -> None:
        """From the search box: the first row is marked already, so the cursor goes to the one below."""
        if self._list.option_count:
            self._list.focus()
            self._list.action_cursor_down()

    @on(OptionList.OptionSelected)
    def _selected(self, event: OptionList.OptionSelected) -> None:
        self._open(event.option_id)

    @on(Input.Submitted, "#history-search")
    def _submitted(self) -> None:
        chosen = self._chosen()
        if chosen is not None:
            self._open(chosen.id)

    def _open(self, chat_id: str | None) -> None:
        """Close with a chat, and with the place at which the search found it."""
        if chat_id is None:
            return
        hit = self._hits.get(chat_id)
        if hit is None or hit.message_id is None or not hit.snippet.spans:
            self.dismiss(Chosen(chat_id))
        else:
            first, end = hit.snippet.spans[0]
            self.dismiss(Chosen(chat_id, hit.message_id, hit.snippet.text[first:end]))

    @work(exclusive=True, group="history-search")
    async def action_mark(self) -> None:
        """Mark the chat under the cursor, or no longer, and go on to the next."""
        chosen = self._chosen()
        if chosen is None:
            return
        self._marked ^= {chosen.id}
        await self._refresh(again=False)
        self._list.action_cursor_down()

    @work(group="history-delete")
    async def action_delete(self) -> None:
        """Move the marked chats, or the one under the cursor, to the trash, once the user has agreed."""
        meant = self._meant()
        if not meant:
            return
        one = len(meant) == 1
        what = "this chat? It stays" if one else f"these {len(meant):,} chats? They stay"
        rows = [chat_row(chat, self._now()) for chat in meant[:ROWS_ASKED]]
        if len(meant) > ROWS_ASKED:
            rows.append(Content(f"… and {len(meant) - ROWS_ASKED:,} more"))
        question = ConfirmScreen(
            f"Delete {what} in the trash for 30 days.",
            Content("\n").join(rows),
            yes="Delete",
            no="Keep",
        )
        if await self.app.push_screen_wait(question):
            ids = [chat.id for chat in meant]
            if await self._change(self._store.delete, *ids):
                self._deleted.append(ids)

    @work(group="history-delete")
    async def action_undo(self) -> None:
        """Take what was deleted last out of the trash."""
        if self._deleted and await self._change(self._store.restore, *self._deleted[-1]):
            self._deleted.pop()

    @work(group="history-change")
    async def action_rename(self) -> None:
        """Ask for another title of the chat under the cursor."""
        chosen = self._chosen()
        if chosen is None:
            return
        title = await self.app.push_screen_wait(RenameScreen(chosen.title, TITLE_LENGTH))
        if title is not None and await self._change(self._store.rename, chosen.id, title):
            self._renamed(chosen.id, title)

    @work(group="history-change")
    async def action_pin(self) -> None:
        """Show the chat under the cursor before all others, or no longer."""
        chosen = self._chosen()
        if chosen is not None:
            await self._change(self._store.pin, chosen.id, not chosen.pinned)

    async def _change(self, change: Callable[..., None], *given: object) -> bool:
        """Change the store on another thread and show what it holds then; False where it failed, and said."""
        try:
            await asyncio.to_thread(change, *given)
        except StoreError as error:
            self.notify(clean(str(error)), severity="error", markup=False)
            return False
        await self._refresh(again=True)
        return True

    @work(group="history-export")
    async def action_export(self) -> None:
        """Ask for a file name and write the chat under the cursor there."""
        chosen = self._chosen()
        if chosen is None:
            return
        try:
            chat = await asyncio.to_thread(self._store.read, chosen.id)
        except StoreError as error:
            self.notify(clean(str(error)), severity="error", markup=False)
            return
        chat.title = chosen.title
        screen = ExportScreen(chat, Path.cwd(), model=chosen.model, created=chosen.created)
        path = await self.app.push_screen_wait(screen)
        if path is not None:
            self.notify(clean(f"Written to {path}"), markup=False)
