"""Thoughts and answers told apart, whatever pieces they come in."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llama_core.engine.reply.text import ReplyText
from llama_core.tokenizers.added_tokens import TokenMatcher
from llama_core.tokenizers.detokenizer import Utf8Stream
from llama_core.tokenizers.thinking.channels import ChannelFormat
from llama_core.tokenizers.thinking.formats import has_switch, thinking_format
from llama_core.tokenizers.thinking.tags import TagFormat

HARMONY = ("<|start|>", "<|end|>", "<|message|>", "<|channel|>", "<|return|>")


class Bytes:
    """A token a byte, and markers from 256 on; `visible` ones stand for their own text."""

    kind, bos_id, eos_id, add_bos, stop_ids = "bytes", None, None, False, frozenset[int]()

    def __init__(self, special: Iterable[str] = (), visible: Iterable[str] = ()) -> None:
        names = [*special, *visible]
        self.special_tokens: Mapping[str, int] = {name: 256 + n for n, name in enumerate(names)}
        self._visible = {self.special_tokens[name]: name.encode() for name in visible}
        self.vocab_size = 256 + len(names)

    def encode(self, text: str, *, special: bool = False) -> list[int]:
        parts = TokenMatcher(self.special_tokens).split(text) if special else [text]
        return [i for part in parts for i in ([part] if isinstance(part, int) else part.encode())]

    def token_bytes(self, token_id: int) -> bytes:
        return bytes([token_id]) if token_id < 256 else self._visible.get(token_id, b"")

    def decode(self, ids: Iterable[int]) -> str:
        return b"".join(map(self.token_bytes, ids)).decode(errors="replace")

    def stream(self) -> Any:
        return Utf8Stream(self.token_bytes)

    token_text = split_special = encode_parts = None


def read(tokenizer: Any, reply: str, prompt: str = "", begun: str = "", **options: Any) -> tuple[str, str]:
    """(thought, answer) of a reply, in which markers are markers."""
    before, begins = tokenizer.encode(prompt, special=True), tokenizer.encode(begun, special=True)
    thinking = thinking_format(tokenizer, options.get("template"))
    text = ReplyText(tokenizer, thinking=thinking, prompt_ids=[*before, *begins], begun_n=len(begins))
    deltas = [one for i in tokenizer.encode(reply, special=True) for one in text.push(i)] + text.flush()
    parts = {True: "", False: ""}
    for delta in deltas:
        parts[delta.thought] += delta.text
    return parts[True], parts[False]


SINGLE = [Bytes(special=("<think>", "</think>")), Bytes(visible=("<think>", "</think>"))]
LETTERS = Bytes()
TEMPLATE = "{{ messages }}<think></think>"


@pytest.mark.parametrize("tokenizer", [*SINGLE, LETTERS], ids=["hidden", "visible", "letters"])
@pytest.mark.parametrize(
    ("reply", "thought", "answer"),
    [
        ("<think>\nhm\n</think>\n\nyes", "hm", "yes"),
        ("\n<think>hm  \n\n more</think>yes \n", "hm  \n\n more", "yes \n"),
        ("<think>\n\n</think>\n\nyes", "", "yes"),
        ("  yes\n", "", "  yes\n"),
        ("<think>\nhm, cut", "hm, cut", ""),
        ("<think>\nhm\n</think>\n\n```\n<i>\n```", "hm", "```\n<i>\n```"),
        ("<think>é</think>ü", "é", "ü"),
    ],
)
def test_a_thought_between_tags(tokenizer: Any, reply: str, thought: str, answer: str) -> None:
    assert read(tokenizer, reply, template=TEMPLATE) == (thought, answer)


@pytest.mark.parametrize("tokenizer", [SINGLE[1], LETTERS], ids=["visible", "letters"])
@pytest.mark.parametrize(
    "answer",
    ["```html\n<think>no thought</think>\n```\n", "Write <think> first.", "</think> ends it <think>"],
)
def test_tags_in_an_answer_are_text(tokenizer: Any, answer: str) -> None:
    assert read(tokenizer, answer, template=TEMPLATE) == ("", answer)
    assert read(tokenizer, f"<think>hm</think>{answer}", template=TEMPLATE) == ("hm", answer)


def test_the_letters_of_a_tag_that_is_a_token_end_no_thought() -> None:
    tokenizer = SINGLE[0]
    opened, letters, closed = [256], list(b"say </think> aloud"), [257]
    text = ReplyText(tokenizer, thinking=thinking_format(tokenizer, None))  # type: ignore[arg-type]
    said = [one for i in [*opened, *letters, *closed, *b"yes"] for one in text.push(i)]
    assert "".join(one.text for one in said if one.thought) == "say </think> aloud"
    assert "".join(one.text for one in said if not one.thought) == "yes"


@pytest.mark.parametrize("tokenizer", [*SINGLE, LETTERS], ids=["hidden", "visible", "letters"])
@pytest.mark.parametrize("prompt", ["user\nassistant\n<think>\n", "<think>", "<think>\n\n"])
def test_a_template_may_open_the_thought(tokenizer: Any, prompt: str) -> None:
    assert read(tokenizer, "hm</think>yes", prompt, template=TEMPLATE) == ("hm", "yes")
    assert read(tokenizer, "<think>\nhm</think>yes", prompt, template=TEMPLATE) == ("hm", "yes")


@pytest.mark.parametrize("tokenizer", [*SINGLE, LETTERS], ids=["hidden", "visible", "letters"])
@pytest.mark.parametrize("prompt", ["<think>\n\n</think>\n\n", "a <think> is a tag.\nassistant\n"])
def test_a_prompt_that_opens_none(tokenizer: Any, prompt: str) -> None:
    assert read(tokenizer, "yes", prompt, template=TEMPLATE) == ("", "yes")


@pytest.mark.parametrize("tokenizer", [*SINGLE, LETTERS], ids=["hidden", "visible", "letters"])
def test_a_reply_goes_on_where_it_stood(tokenizer: Any) -> None:
    whole = "<think>\nhm, so\n</think>\n\nyes"
    for cut in (0, 7, 8, 10, 11, 12, 14, 15, 23, 24, 25, 27):
        begun, rest = whole[:cut], whole[cut:]
        thought, answer = read(tokenizer, rest, begun=begun, template=TEMPLATE)
        was_thought, was_answer = read(tokenizer, begun, template=TEMPLATE)
        assert was_thought + thought == "hm, so"
        assert was_answer + answer == "yes"


def test_granites_answer_loses_its_own_tags() -> None:
    reply = "<think>hm</think>\n\n<response>a <b> c\n</response>"
    assert read(LETTERS, reply, template=TEMPLATE) == ("hm", "a <b> c\n")


@pytest.mark.parametrize(
    ("reply", "thought", "answer"),
    [
        ("<|channel|>analysis<|message|>hm<|end|><|start|>assistant<|channel|>final<|message|>yes",
         "hm", "yes"),
        ("<|channel|>final<|message|>yes", "", "yes"),
        ("<|channel|>analysis<|message|>hm, cut", "hm, cut", ""),
        ("<|channel|>commentary<|message|>first<|end|><|start|>assistant<|channel|>final<|message|> it",
         "", "first it"),
    ],
)  # fmt: skip
def test_channels(reply: str, thought: str, answer: str) -> None:
    assert read(Bytes(HARMONY), reply, "<|start|>user<|message|>hi<|end|><|start|>assistant") == (
        thought,
        answer,
    )


def test_a_reply_without_a_header_is_not_lost() -> None:
    words = "The model has left its format. " * 8
    assert read(Bytes(HARMONY), words, "<|start|>assistant") == ("", words)


def test_a_short_reply_without_a_header_is_not_lost() -> None:
    assert read(Bytes(HARMONY), "yes", "<|start|>assistant") == ("", "yes")


@pytest.mark.parametrize(
    ("special", "template", "found"),
    [
        ((), None, None),
        ((), "{{ messages }}", None),
        (("<think>", "</think>"), "{{ messages }}", TagFormat),
        ((), TEMPLATE, TagFormat),
        (HARMONY, "{{ messages }}", ChannelFormat),
        (("[THINK]", "[/THINK]"), None, TagFormat),
    ],
)
def test_which_markers_a_model_has(special: Any, template: str | None, found: Any) -> None:
    format = thinking_format(Bytes(special), template)  # type: ignore[arg-type]
    assert format is None if found is None else isinstance(format, found)


def test_markers_that_the_user_names_count() -> None:
    format = thinking_format(Bytes(), None, ("<<", ">>"))  # type: ignore[arg-type]
    assert isinstance(format, TagFormat)
    assert (format.opening, format.closing) == ("<<", ">>")


@pytest.mark.parametrize(
    ("template", "asks"),
    [
        ("{% if enable_thinking is false %}", True),
        ("{%- if thinking %}", True),
        ("{% if not thinking %}", True),
        ("{% if message.thinking %}my thinking{% endif %}", False),
        ("{{ content.split('</think>')[-1] }}", False),
    ],
)
def test_whether_a_template_asks(template: str, asks: bool) -> None:
    assert has_switch(template) is asks


@given(st.lists(st.sampled_from(["<think>", "</think>", "<", "think>", "\n", "é", "a"]), max_size=8))
def test_nothing_that_was_said_is_lost_or_said_twice(pieces: list[str]) -> None:
    reply = "".join(pieces)
    thought, answer = read(LETTERS, reply, template=TEMPLATE)
    letters = sorted("".join((thought + answer).split()))
    left = sorted("".join(reply.split()))
    for one in letters:
        left.remove(one)  # raises where a letter was said twice
    tags = {"".join(sorted("<think>" * a + "</think>" * b)) for a in range(9) for b in (0, 1)}
    assert "".join(sorted(left)) in tags
