"""Blocks of Markdown: the same however the text comes, and the same as an independent parser's."""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest
from markdown_it import MarkdownIt

from chat_app.text.markdown import Block, Document, split_row
from tests.support.luck import SEED

REPLY = """# Title
Hello *world*
next line

- one
- two
  - nested
    with a second line
  1. num

     a paragraph in it
- [x] done
> quote
> more
lazy
> > deep

1. a
2. b
   ```py
   x = 1

   y
   ```
10. c

| a | b |
|---|:-:|
| 1 | 2 |
| 3 | 4 \\| 5 |

text above
| a | b |
|---|---|
Setext
===
more of it
---
* * *

    indented

    code
~~~
```
~~~
end of it
2. is no list
"""
ALONE = [
    "",
    "\n\n",
    "-",
    "- ",
    "-\n  text\n",
    "```",
    "```js\nopen",
    "> ```\n> x\ny",
    "1) one\n2) two\n",
    "a | b\n--|--\n1\n",
    "| a |\n|--|--|\n",
    "#hash\n#\n####### seven\n",
    "***\n---\n___\n- - -\n",
    "- a\n\n- b\n\n\n- c\n",
    "- a\n  > b\n  > c\n- d",
    "    code\n\ntext\n    no code",
    "a\r\nb\r\n\r\nc",
    "-\ta\n\n\tb\n",
    "> a\n\n> b\n",
    "- # h\n- ```\n  x\n  ```\n",
]


def shape(document: Document) -> list[Block]:
    return [
        (one.kind, one.first, one.rest, one.gap, one.lines, one.level, one.info, one.aligns)  # type: ignore[misc]
        for one in document.blocks
    ]


def whole(text: str) -> Document:
    document = Document()
    document.write(text)
    return document


@pytest.mark.parametrize("text", [REPLY, *ALONE])
def test_it_does_not_matter_how_the_text_comes(text: str) -> None:
    luck = random.Random(SEED)
    expected = shape(whole(text))
    for _ in range(60):
        document, place = Document(), 0
        while place < len(text):
            size = luck.randint(1, 9)
            before = shape(document)
            changed = document.write(text[place : place + size])
            assert shape(document)[:changed] == before[:changed]
            place += size
        assert shape(document) == expected
        assert document.source == text


Leaf = tuple[str, str, int]  # kind, words, quotes around it


def leaves_elsewhere(text: str) -> Iterator[Leaf]:
    """By markdown-it."""
    quotes = 0
    leaf = ""
    item_is_empty = False
    for token in MarkdownIt("gfm-like", {"linkify": False, "html": False}).parse(text):
        kind = token.type
        if kind.startswith("blockquote_"):
            quotes += token.nesting
        elif kind == "list_item_close" and item_is_empty:
            yield "paragraph", "", quotes
        elif kind == "table_open":
            yield "table", "", quotes
        elif kind in ("fence", "code_block"):
            yield "code", token.content.rstrip("\n"), quotes
        elif kind == "hr":
            yield "rule", "", quotes
        elif kind == "inline" and leaf in ("heading", "paragraph"):
            yield leaf, "\n".join(line.strip() for line in token.content.split("\n")), quotes
        item_is_empty = kind == "list_item_open" or (item_is_empty and kind == "list_item_close")
        leaf = kind.removesuffix("_open")


def leaves_here(text: str) -> Iterator[Leaf]:
    for block in whole(text).blocks:
        words = "\n".join(line.rstrip() for line in block.lines) if block.kind != "table" else ""
        yield block.kind, words.rstrip("\n"), block.rest.count("▌")


@pytest.mark.parametrize("text", [REPLY.replace("[x] ", ""), *ALONE])
def test_leaves_are_those_of_an_independent_parser(text: str) -> None:
    assert list(leaves_here(text)) == list(leaves_elsewhere(text))


def test_what_stands_before_the_lines_of_a_list() -> None:
    blocks = whole(REPLY).blocks
    found = {block.text: (block.first, block.rest) for block in blocks if block.first}
    assert found["one"] == ("• ", "  ")
    assert found["nested\nwith a second line"] == ("  ▪ ", "    ")
    assert found["num"] == ("  1. ", "     ")
    assert found["done"] == ("☑ ", "  ")
    assert found["c"] == ("10. ", "    ")
    assert found["deep"] == ("▌ ▌ ", "▌ ▌ ")


def test_a_tight_list_has_no_gaps_and_a_loose_one_has() -> None:
    assert [block.gap for block in whole("- a\n- b\n").blocks] == [None, None]
    assert [block.gap for block in whole("- a\n\n- b\n").blocks] == [None, ""]
    assert [block.gap for block in whole("> a\n>\n> b\n").blocks] == [None, "▌"]
    assert [block.gap for block in whole("text\n- a\n\ntext\n").blocks] == [None, "", ""]


def test_rows_are_split_at_borders_that_are_none_of_the_text() -> None:
    assert split_row("| a | `b` |") == ["a", "`b`"]
    assert split_row("a \\| b | c") == ["a | b", "c"]
    assert split_row("||") == [""]
