"""BPE by scores is identical with the sentencepiece library on models trained here."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sentencepiece
from hypothesis import given, settings
from hypothesis import strategies as st

from llama_core.tokenizers.base import Tokenizer
from llama_core.tokenizers.gguf.read import tokenizer_from_gguf
from llama_core.tokenizers.vocabulary import TokenType

# U+0000 ends a string inside the library.
TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), max_size=50)
DENSE = st.text(st.sampled_from("aetnsorth  The▁'\n\t0123é中<t>"), max_size=60)

MODELS: dict[str, dict[str, Any]] = {
    "llama": {"byte_fallback": True, "remove_extra_whitespaces": False},
    "no prefix": {"byte_fallback": True, "remove_extra_whitespaces": False, "add_dummy_prefix": False},
    "trimmed": {"byte_fallback": True, "remove_extra_whitespaces": True},
    "no bytes": {"byte_fallback": False, "remove_extra_whitespaces": False},
    "own pieces": {
        "byte_fallback": True,
        "remove_extra_whitespaces": False,
        "user_defined_symbols": ["<t>", "<tt>", "▁▁▁", "the"],
    },
    "across words": {
        "byte_fallback": True,
        "remove_extra_whitespaces": False,
        "split_by_whitespace": False,
        "allow_whitespace_only_pieces": True,
    },
}


def train(corpus: list[str], **options: Any) -> sentencepiece.SentencePieceProcessor:
    """A model of 500 pieces with Llama's settings."""
    settings_of_llama: dict[str, Any] = {
        "model_type": "bpe",
        "vocab_size": 500,
        "normalization_rule_name": "identity",
        "split_digits": True,
        "allow_whitespace_only_pieces": True,
        "character_coverage": 0.98,
        "minloglevel": 2,
    }
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(corpus), model_writer=model, **(settings_of_llama | options)
    )
    return sentencepiece.SentencePieceProcessor(model_proto=model.getvalue())


def metadata_of(oracle: sentencepiece.SentencePieceProcessor, options: dict[str, Any]) -> dict[str, Any]:
    """GGUF keys of a sentencepiece model."""

    def kind(i: int) -> int:
        if oracle.IsUnknown(i):
            return TokenType.UNKNOWN
        if oracle.IsControl(i):
            return TokenType.CONTROL
        if oracle.IsByte(i):
            return TokenType.BYTE
        if oracle.IdToPiece(i) in options.get("user_defined_symbols", []):
            return TokenType.USER_DEFINED
        return TokenType.UNUSED if oracle.IsUnused(i) else TokenType.NORMAL

    size = range(oracle.GetPieceSize())
    return {
        "tokenizer.ggml.model": "llama",
        "tokenizer.ggml.tokens": [oracle.IdToPiece(i) for i in size],
        "tokenizer.ggml.scores": np.array([oracle.GetScore(i) for i in size], dtype=np.float32),
        "tokenizer.ggml.token_type": np.array([kind(i) for i in size], dtype=np.int32),
        "tokenizer.ggml.bos_token_id": 1,
        "tokenizer.ggml.eos_token_id": 2,
        "tokenizer.ggml.unknown_token_id": 0,
        "tokenizer.ggml.add_space_prefix": options.get("add_dummy_prefix", True),
        "tokenizer.ggml.remove_extra_whitespaces": options["remove_extra_whitespaces"],
    }


Pair = tuple[Tokenizer, sentencepiece.SentencePieceProcessor]


@pytest.fixture(scope="session")
def corpus(nasty_strings: list[str]) -> list[str]:
    """What the models are trained on."""
    own = Path(__file__).read_text(encoding="utf-8").splitlines()
    story = "Once upon a time, there was a little girl. The theatre's  thing is at the other end."
    return [line for line in [*own, *nasty_strings, *[story] * 20] if line and "\x00" not in line]


@pytest.fixture(scope="module", params=MODELS)
def pair(request: pytest.FixtureRequest, corpus: list[str]) -> Pair:
    """Our tokenizer and the oracle over the same trained model."""
    options = MODELS[request.param]
    oracle = train(corpus, **options)
    return tokenizer_from_gguf(metadata_of(oracle, options), Path("toy.gguf")), oracle


def test_every_kind_on_nasty_strings(pair: Pair, nasty_strings: list[str]) -> None:
    ours, oracle = pair
    for text in nasty_strings:
        if "\x00" not in text:
            assert ours.encode(text) == oracle.EncodeAsIds(text), text


@settings(max_examples=150, deadline=None, print_blob=True)
@given(text=st.one_of(TEXT, DENSE))
def test_every_kind_on_random_text(pair: Pair, text: str) -> None:
    ours, oracle = pair
    ids = ours.encode(text)
    assert ids == oracle.EncodeAsIds(text)
    if 0 not in ids:  # the library writes " ⁇ " for the unknown token, we nothing
        assert ours.decode(ids) == oracle.DecodeIds(ids)


def with_unused(model: bytes, chosen: set[int]) -> bytes:
    """A serialized model (protocol buffers) with type 5, unused, in the pieces with these ids.

    A model is a row of fields; field 1 (tag 0x0a) is a piece, whose own field 3 (tag 0x18) is its type.
    Of a field given twice the last counts.
    """

    def varint(at: int) -> tuple[int, int]:
        value = shift = 0
        while True:
            byte = model[at]
            value |= (byte & 127) << shift
            at, shift = at + 1, shift + 7
            if byte < 128:
                return value, at

    out, at, piece = b"", 0, 0
    while model[at : at + 1] == b"\x0a":
        size, start = varint(at + 1)
        body = model[start : start + size]
        if piece in chosen:
            body += b"\x18\x05"
        length = bytes([len(body)]) if len(body) < 128 else bytes([len(body) & 127 | 128, len(body) >> 7])
        out += b"\x0a" + length + body
        at, piece = start + size, piece + 1
    return out + model[at:]


def test_unused_pieces_fall_into_their_parts(corpus: list[str]) -> None:
    options = MODELS["llama"]
    oracle = train(corpus, **options)
    chosen = {i for i in range(300, 500, 3) if len(oracle.IdToPiece(i)) > 1}
    oracle = sentencepiece.SentencePieceProcessor(
        model_proto=with_unused(oracle.serialized_model_proto(), chosen)
    )
    metadata = metadata_of(oracle, options)
    assert (metadata["tokenizer.ggml.token_type"] == TokenType.UNUSED).sum() == len(chosen) > 30
    ours = tokenizer_from_gguf(metadata, Path("toy.gguf"))
    for text in corpus:
        assert ours.encode(text) == oracle.EncodeAsIds(text), text


def test_reply_keeps_the_space_that_decode_drops(pair: Pair) -> None:
    ours, _ = pair
    ids = ours.encode("the end")
    stream = ours.stream()
    assert ours.decode(ids) == "the end"
    assert "".join(map(stream.push, ids)) + stream.flush() in ("the end", " the end")


def test_special_tokens_reset_the_prefix(corpus: list[str]) -> None:
    ours = tokenizer_from_gguf(metadata_of(train(corpus, **MODELS["llama"]), MODELS["llama"]), Path("a"))
    plain = ours.encode("the")
    assert ours.encode("<s>the</s>the", special=True) == [1, *plain, 2, *plain]
    assert not {1, 2} & set(ours.encode("<s>the</s>"))
    assert ours.decode(ours.encode("<s>the</s>")) == "<s>the</s>"
    assert ours.add_bos
    assert ours.stop_ids == {2}


def test_a_very_long_text_takes_near_linear_time(corpus: list[str]) -> None:
    oracle = train(corpus, **MODELS["llama"])
    ours = tokenizer_from_gguf(metadata_of(oracle, MODELS["llama"]), Path("a"))
    text = "thetherethere" * 8000  # quadratic merging would take an hour
    assert ours.encode(text) == oracle.EncodeAsIds(text)


def test_old_files_without_types(corpus: list[str]) -> None:
    metadata = metadata_of(train(corpus, **MODELS["llama"]), MODELS["llama"])
    typed = tokenizer_from_gguf(metadata, Path("a"))
    del metadata["tokenizer.ggml.token_type"]
    untyped = tokenizer_from_gguf(metadata, Path("a"))
    for text in [*corpus[:50], "<s>", "\U00050000"]:
        assert untyped.encode(text, special=True) == typed.encode(text, special=True)


@pytest.mark.parametrize("change", [None, np.zeros(3, np.float32), np.zeros(500, np.int32), ["0"] * 500])
def test_wrong_scores_are_named(change: Any, corpus: list[str], refused: Callable[[str], Any]) -> None:
    metadata = metadata_of(train(corpus, **MODELS["llama"]), MODELS["llama"])
    metadata["tokenizer.ggml.scores"] = change
    if change is None:
        del metadata["tokenizer.ggml.scores"]
    with refused(r"tokenizer\.ggml\.scores"):
        tokenizer_from_gguf(metadata, Path("toy.gguf"))
