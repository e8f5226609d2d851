"""Fifty schemas: our masks are those of llguidance's own reading of the same `tokenizer.json`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from llama_core.constraints.grammar import Grammar
from llama_core.constraints.guidance import JSON_OPTIONS, GuidanceGrammars
from llama_core.errors import GrammarError
from llama_core.tokenizers.from_files import tokenizer_from_json
from tests.support.json_schemas import CASES

llguidance = pytest.importorskip("llguidance")
PADDING = 37  # rows of the model beyond the tokenizer's tokens


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """(our tokenizer, our grammars, llguidance's own reading of the file, the id of the end)."""
    import tokenizers
    from tokenizers import decoders, models, pre_tokenizers, trainers

    made = tokenizers.Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    texts = [text for _, good, bad in CASES for text in (*good, *bad)] + [json.dumps(one[0]) for one in CASES]
    trainer = trainers.BpeTrainer(
        vocab_size=600,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        special_tokens=["<|endoftext|>", "<|im_start|>"],
        show_progress=False,
    )
    made.train_from_iterator(texts, trainer)
    folder = tmp_path_factory.mktemp("schemas")
    file = folder / "tokenizer.json"
    made.save(str(file))
    (folder / "tokenizer_config.json").write_text(json.dumps({"eos_token": "<|endoftext|>"}))
    ours, _ = tokenizer_from_json(Path(file))
    theirs = llguidance.LLTokenizer(file.read_text(), eos_token=ours.eos_id)
    return ours, GuidanceGrammars(ours, ours.vocab_size + PADDING), theirs, ours.eos_id


def test_there_are_fifty() -> None:
    assert len(CASES) == 50
    assert len({json.dumps(schema) for schema, _, _ in CASES}) == 50


def reference_mask(matcher: Any, n: int) -> np.ndarray:
    words = np.zeros(-(-n // 32), dtype=np.int32)
    matcher.unsafe_compute_mask_ptr(words.ctypes.data, words.nbytes)
    assert not matcher.is_error(), matcher.get_error()
    return np.unpackbits(words.view(np.uint8), bitorder="little")[:n].view(np.bool_)


@pytest.mark.parametrize("number", range(len(CASES)))
def test_masks_are_the_references_and_texts_are_told_apart(both: Any, number: int) -> None:
    ours, grammars, theirs, end = both
    schema, good, bad = CASES[number]
    grammar = Grammar("schema", json.dumps(schema))
    source = llguidance.LLMatcher.grammar_from_json_schema(grammar.text, defaults=JSON_OPTIONS)
    n = ours.vocab_size
    for text in (*good, *bad):
        constraint = grammars.begin(grammar, frozenset({end}))
        matcher = llguidance.LLMatcher(theirs, source, log_level=0)
        fits = True
        for token in ours.encode(text):
            mask = constraint.allowed()
            expected = reference_mask(matcher, theirs.vocab_size)
            assert np.array_equal(mask[:n], expected[:n])
            assert not mask[n:].any(), "rows without a token stand for nothing"
            # Where only one text can follow, one split of it is allowed; others spell the same.
            if not mask[token] and matcher.validate_tokens([token]) != 1:
                fits = False
                break
            try:
                constraint.take(token)
            except GrammarError:
                fits = False
                break
            assert matcher.consume_token(token)
            if constraint.complete:
                break
        ended = fits and (constraint.complete or bool(constraint.allowed()[end]))
        whole = ended and ours.decode(ours.encode(text)) == text
        if text in good:
            assert whole, text
            json.loads(text)
        else:
            # A text that goes on behind a whole reply is cut there, and is no reply of the grammar.
            assert not (ended and matches_to_its_end(grammars, grammar, ours, text, end)), text


def matches_to_its_end(grammars: Any, grammar: Grammar, tokenizer: Any, text: str, end: int) -> bool:
    constraint = grammars.begin(grammar, frozenset({end}))
    for token in tokenizer.encode(text):
        if constraint.complete:
            return False
        try:
            constraint.take(token)
        except GrammarError:
            return False
    return constraint.complete or bool(constraint.allowed()[end])
