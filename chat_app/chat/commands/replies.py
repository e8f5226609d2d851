"""The slash commands about messages: files, other replies, branches, tokens, what they cost."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Sequence
from pathlib import Path

from chat_app.attachments.mentions import offers_of_path, read_names
from chat_app.chat.commands.host import (
    Host,
    ScreenHost,
    last,
    last_reply,
    offer_models,
    read_number,
    unquoted,
)
from chat_app.chat.commands.table import SLASH
from chat_app.chat.comparing.sides import USAGE, Wish, complete_sides, read_sides
from chat_app.chat.slash import Argument, words
from chat_app.files.durable import replace_content
from chat_app.store.usage import usage_table
from chat_app.text.formatting import verbose_timings
from chat_app.text.markdown import code_blocks
from chat_app.text.paths import read_path


@SLASH.command("/file", argument=Argument("PATH...", read_names, lambda _, typed: offers_of_path(typed)))
def file(host: Host, names: Sequence[str]) -> Awaitable[None] | None:
    """Attach files, folders or globs to your next message."""
    return host.attach(names)


@SLASH.command("/regen", "/regenerate", palette="Another reply")
def regenerate(host: Host) -> None:
    """Another reply to the same question, beside the old one."""
    host.spawn(host.session.branches.regenerate(last_reply(host).id))


def read_retry(text: str) -> tuple[str, bool]:
    """The model, and whether it makes this reply alone."""
    name, _, last = text.rpartition(" ")
    once = bool(name) and last.lower() == "once"
    return unquoted(name.strip() if once else text), once


def _complete_retry(host: Host, typed: str) -> list[tuple[str, str]]:
    name, space, _ = typed.rpartition(" ")
    if space and name.count('"') % 2 == 0:
        return [(f"{name} once", "the chat's own model comes back after it")]
    return offer_models(host, typed)


@SLASH.command("/retry", argument=Argument("[MODEL [once]]", read_retry, _complete_retry))
async def retry(host: Host, wanted: tuple[str, bool] | None) -> None:
    """Another reply by another model, which the chat goes on with; once: for this reply alone."""
    message = last_reply(host)
    if wanted is None:
        await host.session.branches.regenerate(message.id)
        return
    name, once = wanted
    await host.session.branches.retry.by(message.id, name, once=once)


def _complete_sides(host: Host, typed: str) -> list[tuple[str, str]]:
    return complete_sides(offer_models(host, ""), typed)


@SLASH.command("/compare", argument=Argument(USAGE, read_sides, _complete_sides))
async def compare(host: Host, wishes: tuple[Wish, ...]) -> None:
    """Two answers to the last question side by side; one side alone: against the chat as it is."""
    comparison = host.session.comparisons.begin(wishes)
    await comparison.prepare()
    await host.show_comparison(comparison)


@SLASH.command(
    "/keep", argument=Argument("1 | 2", read_number, words(("1", "the first"), ("2", "the second")))
)
async def keep(host: Host, number: int) -> None:
    """Keep one answer of the last /compare as the branch."""
    if number > 2:
        raise ValueError("A comparison has two answers: /keep 1 or /keep 2.")
    await host.session.comparisons.keep(number - 1)


@SLASH.command("/continue", palette="Continue the reply")
def go_on(host: Host) -> None:
    """Go on with the last reply."""
    host.spawn(host.session.branches.continue_reply(last_reply(host).id))


@SLASH.command("/edit", needs_screen=True)
def edit(host: ScreenHost) -> None:
    """Edit your last message: a new branch."""
    message = last(host, "user")
    if message is None:
        raise ValueError("There is no message to edit yet.")
    host.edit(message.id)


@SLASH.command("/branch", argument=Argument("[N]", read_number))
def branch(host: Host, back: int | None) -> None:
    """Go back N messages and branch there; a question is replaced."""
    path = host.session.path()
    back = back or 1
    if back >= len(path):
        raise ValueError(f"The chat has {len(path)} messages, so one can go back fewer than that.")
    host.session.branches.branch(path[-1 - back].id)


def last_blocks(host: Host) -> list[str]:
    """The code blocks of the newest reply that has any. Raises ValueError with a sentence."""
    replies = (one for one in reversed(host.session.path()) if one.role == "assistant")
    blocks = next(filter(None, (code_blocks(one.content) for one in replies)), [])
    if not blocks:
        raise ValueError("There is no block of code in this chat yet.")
    return blocks


def only_block(host: Host) -> str:
    """The code block where there is one alone. Raises ValueError with a sentence."""
    blocks = last_blocks(host)
    if len(blocks) > 1:
        raise ValueError(f"The last reply with code has {len(blocks)} blocks. Which? As in: /write 1 FILE")
    return blocks[0]


def find_block(host: Host, number: int) -> str:
    """A code block of the newest reply that has any. Raises ValueError with a sentence."""
    blocks = last_blocks(host)
    if number > len(blocks):
        there = "one block" if len(blocks) == 1 else f"{len(blocks)} blocks"
        raise ValueError(f"The last reply with code has {there} of it.")
    return blocks[number - 1]


def read_block(text: str) -> int:
    """The number of a code block; the word `code` before it may be left out."""
    what, _, number = text.partition(" ")
    return read_number((number.strip() or "1") if what.lower() == "code" else text)


@SLASH.command(
    "/copy",
    argument=Argument("[N | code]", read_block, words(("code", "the first block of code; N: the Nth"))),
    palette="Copy the last reply",
    needs_screen=True,
)
def copy(host: ScreenHost, block: int | None) -> None:
    """Copy the last reply, or the Nth block of code."""
    host.copy(last_reply(host).content if block is None else find_block(host, block))


def read_block_and_file(text: str) -> tuple[int | None, Path]:
    """The number of a code block where one is named, and where it is to go."""
    number, _, name = text.partition(" ")
    if not number.isdecimal():
        return None, read_path(unquoted(text))
    if not name.strip():
        raise ValueError("a file is wanted behind the number")
    return read_number(number), read_path(unquoted(name.strip()))


@SLASH.command("/write", argument=Argument("[N] FILE", read_block_and_file))
async def write(host: Host, wanted: tuple[int | None, Path]) -> None:
    """Save the Nth block of code, or the only one, as a new file."""
    await _write(host, wanted, overwrite=False)


@SLASH.command(
    "/write!", argument=Argument("[N] FILE", read_block_and_file, lambda _, typed: offers_of_path(typed))
)
async def overwrite(host: Host, wanted: tuple[int | None, Path]) -> None:
    """The same in place of a file that is there already."""
    await _write(host, wanted, overwrite=True)


async def _write(host: Host, wanted: tuple[int | None, Path], *, overwrite: bool) -> None:
    number, path = wanted
    text = (find_block(host, number) if number is not None else only_block(host)) + "\n"
    if overwrite and path.exists() and not path.is_file():
        raise ValueError(f"{path} is no file.")
    try:
        await asyncio.to_thread(replace_content if overwrite and path.exists() else _write_new, path, text)
    except FileExistsError:
        again = f"{'' if number is None else f'{number} '}{path}"
        raise ValueError(f"{path} exists already. /write! {again} puts the block in its place.") from None
    lines_n = text.count("\n")
    host.note(f"{lines_n:,} line{'s' * (lines_n > 1)} written to {path.absolute()}.")


def _write_new(path: Path, text: str) -> None:
    with path.open("x", encoding="utf-8") as file:
        file.write(text)


@SLASH.command("/tokens", argument=Argument("[TEXT]"), needs_screen=True)
async def tokens(host: ScreenHost, text: str | None) -> None:
    """How the model splits a text, or the last message."""
    path = host.session.path()
    if text is None and not path:
        raise ValueError("There is no message yet. As in: /tokens TEXT")
    await host.show_tokens(text if text is not None else path[-1].content)


@SLASH.command("/inspect", palette="Inspect tokens", needs_screen=True)
def inspect(host: ScreenHost) -> None:
    """Each token of the last reply: probability, alternatives."""
    host.inspect(last_reply(host).id)


def read_all(text: str) -> str:
    """Raises ValueError with a phrase for anything but `all`."""
    if text.lower() != "all":
        raise ValueError(f"{text!r} is not `all`")
    return text


@SLASH.command(
    "/stats",
    argument=Argument("[all]", read_all, words(("all", "by month and model, over all chats"))),
    palette="What the last reply cost",
)
def stats(host: Host, all: str | None) -> None:
    """What the last reply cost; `all`: what all chats cost, by month and model."""
    if all:
        host.show_text("All chats", usage_table(host.session.usage()))
        return
    timings = last_reply(host).x.get("timings")
    if not isinstance(timings, dict):
        raise ValueError("The last reply has no timings.")
    host.show_text("The last reply", verbose_timings(timings, host.session.model.load_s))
