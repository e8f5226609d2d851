"""Lines of a width: the same however the text comes, and work in proportion to what is new."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest
from textual.content import Content

from chat_app.text.markdown import Document
from chat_app.tui.markdown import code, inline, layout, table
from chat_app.tui.markdown.layout import Layout, Line
from tests.chat_app.text.test_markdown import ALONE, REPLY
from tests.support.luck import SEED

CODE = '    value_{0} = call(argument_{0}, "text")  # remark\n'
ROW = "| row {0} | some `text` {0} | more |\n"
GROWING: dict[str, tuple[str, str, int]] = {
    "a list": ("", "- item **{0}** with some words\n", 1000),
    "a numbered list": ("", "{0}. item **{0}** with some words\n", 1000),
    "a nested list": ("- above\n", "  - item **{0}** with some words\n", 1000),
    "a loose list": ("", "- item **{0}** with some words\n\n", 1000),
    "a quote": ("", "> line {0} of *a quote*\n", 1000),
    "a table": ("| a | b | c |\n|---|---|---|\n", ROW, 200),
    "code": ("```python\n", CODE, 1000),
    "code without a language": ("```\n", CODE, 1000),
    "a paragraph of 100,000 characters": ("", "word{0} and *more* text ", 4200),
    "a paragraph with a mark that stays open": ("**", "word{0} and more text ", 4200),
    "a paragraph without a blank": ("", "abcdefghijklmnopqrstuvwxyz", 4000),
    "a poem": ("", "line {0} of it\n", 2000),
}


def uncoloured(lines: Sequence[str], language: str, *, ansi: bool) -> tuple[list[Content], list[bool]]:
    """In the place of `highlight`, whose eight seconds for these lines are not what is counted. None of them
    continues another, as it would find too."""
    return [Content(line) for line in lines], [True] * len(lines)


class Work:
    """Counts what is read, highlighted and wrapped."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.done = 0
        for module in (layout, table):
            self._count(monkeypatch, module, "read_inline", len)
        monkeypatch.setattr(layout, "highlight", uncoloured)
        self._count(monkeypatch, layout, "highlight", lambda lines: sum(map(len, lines)))
        self._count(monkeypatch, Content, "wrap", len)
        self._count(monkeypatch, Content, "fold", len)
        assert code.STRETCH < code.LONGEST_STRETCH < 100
        assert inline.PIECE < inline.LONGEST_PIECE < 5000

    def _count(
        self, monkeypatch: pytest.MonkeyPatch, owner: Any, name: str, size: Callable[[Any], int]
    ) -> None:
        original = getattr(owner, name)

        def counted(what: Any, *args: Any, **kwargs: Any) -> Any:
            self.done += size(what)
            return original(what, *args, **kwargs)

        monkeypatch.setattr(owner, name, counted)


def additions(kind: str) -> Iterator[str]:
    head, each, count = GROWING[kind]
    yield head
    for number in range(1, count + 1):
        yield each.format(number)


@pytest.mark.parametrize("kind", GROWING)
def test_an_addition_costs_what_is_new(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Row 25 of the table of faults: the thousandth item costs what the hundredth did."""
    work = Work(monkeypatch)
    document, drawn = Document(), Layout(80, ansi=False)
    costs: list[int] = []
    for text in additions(kind):
        before = work.done
        drawn.update(document.blocks, document.write(text))
        if drawn.height:
            drawn.line(drawn.height - 1)  # the end is in sight
        costs.append(work.done - before)
    third = len(costs) // 3
    early, late = sum(costs[:third]), sum(costs[-third:])
    assert late <= 1.5 * early + 2000, (early, late)
    assert max(costs) <= 25 * max(len(text) for text in additions(kind)) + 8 * inline.LONGEST_PIECE


@pytest.mark.parametrize("kind", GROWING)
def test_a_grown_block_looks_as_one_that_came_at_once(kind: str) -> None:
    luck = random.Random(SEED)
    text = "".join(additions(kind))[:9000]
    assert_same_lines(text, luck, sizes=(1, 400), rounds=3)


@pytest.mark.parametrize("text", [REPLY, *("".join(additions(kind))[:5000] for kind in GROWING)])
def test_another_width_only_wraps(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither marks nor colours are read again, and the lines are those of a layout made for that width."""
    drawn = whole(text, 60)
    for number in range(drawn.height):
        drawn.line(number)
    expected = {width: lines(text, width) for width in (24, 100)}
    with monkeypatch.context() as patch:
        for module, name in ((layout, "read_inline"), (table, "read_inline"), (layout, "highlight")):
            patch.setattr(module, name, None)  # to call it is an error
        for width, wanted in expected.items():
            drawn.refit(width)
            assert [drawn.line(number) for number in range(drawn.height)] == wanted


@pytest.mark.parametrize("text", [REPLY, "".join(additions("code")), "word " * 500])
def test_a_place_is_found_again_at_another_width(text: str) -> None:
    drawn, other = whole(text, 60), whole(text, 33)
    for number in range(drawn.height):
        place = drawn.place_of(number)
        assert drawn.line_at(place) in (
            number,
            number + 1,
        )  # the blank line above a block has none of its own
        found = other.line(other.line_at(place))
        words = drawn.line(number).body.plain.split()
        if words and "│" not in drawn.line(number).body.plain:
            assert words[0][:9] in found.body.plain or found.body.plain.strip()[:4] in words[0]


def test_code_is_coloured_no_further_than_it_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    work = Work(monkeypatch)
    drawn = whole("```python\n" + "".join(CODE.format(number) for number in range(1000)) + "```\n---\n", 140)
    assert (drawn.height, work.done) == (1003, 0)
    drawn.line(10)
    assert 0 < work.done <= (code.LONGEST_STRETCH + 2) * (len(CODE) + 8)


@pytest.mark.parametrize("text", [REPLY, *ALONE])
def test_it_does_not_matter_how_the_text_comes(text: str) -> None:
    assert_same_lines(text, random.Random(SEED), sizes=(1, 9), rounds=20)


def assert_same_lines(text: str, luck: random.Random, *, sizes: tuple[int, int], rounds: int) -> None:
    expected = lines(text)
    for _ in range(rounds):
        document, drawn, place = Document(), Layout(60, ansi=False), 0
        shown: list[Line] = []
        while place < len(text):
            size = luck.randint(*sizes)
            changed = document.write(text[place : place + size])
            first = drawn.update(document.blocks, changed)
            now = [drawn.line(number) for number in range(drawn.height)]
            assert now[:first] == shown[:first]  # what was not said to be new is as it was
            shown, place = now, place + size
        assert shown == expected
        assert drawn.words == grown_words(text)


def lines(text: str, width: int = 60) -> list[Line]:
    drawn = whole(text, width)
    return [drawn.line(number) for number in range(drawn.height)]


def grown_words(text: str) -> list[str]:
    return whole(text, 60).words


def whole(text: str, width: int) -> Layout:
    document, drawn = Document(), Layout(width, ansi=False)
    document.write(text)
    drawn.update(document.blocks, 0)
    return drawn


def shown(text: str, width: int = 60) -> list[str]:
    return [f"{line.before}{line.body.plain}".rstrip() for line in lines(text, width)]


@pytest.mark.parametrize("width", [1, 8, 20, 60, 140])
def test_no_line_is_wider_than_there_is_room_and_all_words_are_there(width: int) -> None:
    from rich.cells import cell_len

    text = REPLY + "\n" + "日本語" * 40 + "\n\n```\n" + "x" * 300 + "\n```\n"
    room = max(width, layout.MIN_WIDTH + 12)
    for line in lines(text, width):
        assert cell_len(line.before) + line.body.cell_length <= room
    letters = "".join(one for one in "".join(shown(text, width)) if one == "x")
    assert len(letters) >= 300


def test_single_line_breaks_stay() -> None:
    assert shown("Roses are red\nviolets are blue\n") == ["Roses are red", "violets are blue"]


def test_formulas_that_are_not_written_anew_keep_their_marks() -> None:
    assert shown("\\(a_1 + \\x\\) and \\[x^2, but 1\\. and \\*") == [
        "\\(a_1 + \\x\\) and \\[x^2, but 1. and *"
    ]


def test_a_long_line_of_code_is_folded_with_a_sign_and_copied_whole() -> None:
    line = "value = " + "x" * 80
    drawn = whole(f"```py\n{line}\n```\n", 40)
    found = [one.strip() for one in shown(f"```py\n{line}\n```\n", 40)]
    assert found[0] == "py · 1"
    assert found[2].startswith("↪ ")
    assert "".join(one.removeprefix("↪ ") for one in found[1:]) == line
    assert drawn.words == ["", line]


def test_words_of_code_stay_whole_where_they_can() -> None:
    line = "    return sorted(counts.items(), key=itemgetter(1))  # 多く使われた言葉 first " + "y" * 60
    drawn = [one.body.plain for one in lines(f"```py\n{line}\n```\n", 40)][1:]
    assert "".join(drawn) == line
    assert drawn[:3] == [
        "    return sorted(counts.items(), ",
        "key=itemgetter(1))  # ",
        "多く使われた言葉 first ",
    ]
    assert [len(one) for one in drawn[3:]] == [36, 24], "nothing to break at"


def test_a_diff_has_colours_and_no_name_is_underlined() -> None:
    added, removed = (line.body.spans[-1].style for line in lines("```diff\n+ a\n- b\n```\n")[1:])
    assert (added, removed) == ("$text-success", "$text-error")
    styles = [str(span.style) for line in lines("```py\ndef a_b(): pass\n```\n") for span in line.body.spans]
    assert not [one for one in styles if "underline" in one]


def test_a_tables_columns_are_aligned() -> None:
    found = shown("| left | mid | right |\n|:--|:-:|--:|\n| a | b | c |\n| longer | x | 1.25 |\n")
    assert found == [
        "left     │ mid  │    right",
        "─────────┼──────┼─────────",
        "a        │  b   │        c",
        "longer   │  x   │     1.25",
    ]


def test_cells_that_do_not_fit_are_wrapped() -> None:
    found = shown("| a | b |\n|--|--|\n| x | " + "word " * 20 + " |\n", 40)
    assert len(found) > 4
    assert sum(line.count("word") for line in found) == 20


def test_logical_lines_say_where_a_wrapped_line_stands_in_what_is_copied() -> None:
    text = "- " + "word " * 40 + "\n- next\n\nlast *one*\n"
    drawn = whole(text, 40)
    words = drawn.words
    for line in lines(text, 40):
        own = line.body.plain
        assert words[line.logical][line.start : line.start + len(own)] == own
    assert words[-1] == "last one"
