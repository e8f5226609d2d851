"""A chat's title: short, and what it is about."""

from __future__ import annotations

import pytest

from chat_app.text.titles import LENGTH, title_of


@pytest.mark.parametrize(
    ("prompt", "title"),
    [
        ("why is the sky blue?", "why is the sky blue?"),
        ("Hello! Could you please explain how a KV cache works?", "Explain how a KV cache works?"),
        ("Hi,\n\nI want you to write a poem about autumn. It should rhyme.", "Write a poem about autumn"),
        ("Fix this:\n```python\ndef f(x):\n    return x +\n```", "Fix this: def f(x)"),
        ("explain @src/engine/cache.py to me", "explain cache.py to me"),
        ('compare @"two words.txt" with @notes/', "compare two words.txt with notes"),
        ("hello", "hello"),
        ("Hello, please", "Please"),
        ("Can you?", "Can you?"),
        ("# Task\n\nSummarise the paper", "Task Summarise the paper"),
        (
            "日本の首都はどこですか。詳しく説明してください。",
            "日本の首都はどこですか。詳しく説明してください。",
        ),
        ("   \n\n ", ""),
        ("```\n```", "``` ```"),
    ],
)
def test_what_is_asked_is_the_title(prompt: str, title: str) -> None:
    assert title_of(prompt) == title


def test_a_long_one_is_cut_behind_a_word() -> None:
    title = title_of("Compare the memory use of the three caches that this program has in its engine")
    assert title == "Compare the memory use of the three caches that…"
    assert len(title) <= LENGTH
    assert len(title_of("x" * 500)) == LENGTH


def test_it_is_inert_and_one_line() -> None:
    assert "\x1b" not in title_of("clear\x1b[2J the screen\r\nnow")
    assert "\n" not in title_of("one\ntwo\nthree four")
