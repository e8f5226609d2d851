"""What the laboratory reads: several texts, real vocabularies, and how far predictions are apart on them."""

from __future__ import annotations

import json
import math
import struct
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from llama_core.backends.numpy.model import Llama
from llama_core.backends.numpy.weights import load_weights
from llama_core.checkpoint import Checkpoint
from llama_core.engine.engine import Engine
from llama_core.errors import ModelFormatError
from llama_core.profiling.first_version.tokenizer import ScoreTokenizer
from llama_core.profiling.lab.experiment import LabContext
from llama_core.profiling.lab.experiments import kv_types, texts, tokenizer
from llama_core.profiling.lab.experiments.divergence import Distances, distance, distances
from llama_core.profiling.texts import several_texts
from llama_core.tokenizers.spm_bpe import SPACE


@pytest.fixture(scope="module")
def model(toy_checkpoint: Checkpoint) -> Llama:
    return Llama(toy_checkpoint.config, load_weights(toy_checkpoint), 1)


@pytest.fixture(scope="module")
def other(toy_checkpoint: Checkpoint) -> Llama:
    """The same with another base of RoPE: predictions that are near and not equal."""
    config = replace(toy_checkpoint.config, rope_theta=20000.0)
    return Llama(config, load_weights(replace(toy_checkpoint, config=config)), 1)


def ids_of(n: int, seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, n).astype(np.int32)


def test_a_model_is_no_distance_from_itself(model: Llama) -> None:
    found = distance(model, model, ids_of(100))
    assert found.tokens == 99
    assert found.kl_nats == 0
    assert found.before_nats == found.after_nats
    # The engine's own perplexity, over several chunks.
    assert found.before_nats == pytest.approx(Engine(model, 100).perplexity(ids_of(100).tolist()), rel=1e-5)


def test_the_distance_is_kullbacks_and_leiblers(model: Llama, other: Llama) -> None:
    ids = ids_of(70)
    found = distance(model, other, ids)
    p, q = (
        one.forward(ids[:-1], one.new_cache(70), logits="all").astype(np.float64).copy()
        for one in (model, other)
    )
    p, q = (np.exp(rows) / np.exp(rows).sum(axis=1, keepdims=True) for rows in (p, q))
    assert found.kl_nats == pytest.approx(float((p * np.log(p / q)).sum(axis=1).mean()), rel=1e-3)
    assert found.kl_nats > 1e-6


def test_several_texts_have_a_standard_error(model: Llama, other: Llama) -> None:
    many = [ids_of(40, seed) for seed in range(4)]
    found = distances(model, other, [ids.tolist() for ids in many])
    growths = [
        math.expm1(one.after_nats - one.before_nats) for one in (distance(model, other, i) for i in many)
    ]
    assert (found.tokens, found.n_texts) == (4 * 39, 4)
    assert (found.least, found.greatest) == pytest.approx((min(growths), max(growths)))
    assert found.error == pytest.approx(np.std(np.log1p(growths), ddof=1) / 2)
    assert found.least < found.growth < found.greatest
    assert "4 texts" in str(found)
    assert "standard error" in str(found)


def test_there_are_several_texts_of_different_kinds() -> None:
    found = several_texts()
    assert {"language reference", "docstrings", "code"} <= set(found)
    assert all(10_000 < len(text) <= 32_000 for text in found.values())
    assert len({text[:1000] for text in found.values()}) == len(found)
    assert "def format_usage(self):" in found["code"]
    assert "def " not in found["docstrings"][:2000]


REAL = ["<unk>", "<s>", "</s>", "a", "b", " ", "ab", "a", " ab"]


def write_llama3np(path: Path) -> Path:
    path.write_text(json.dumps({"tokens": REAL, "scores": [0, 0, 0, -5, -5, -5, -1, -6, -2]}))
    return path


def test_a_real_vocabulary_is_taken_and_its_duplicates_told(tmp_path: Path) -> None:
    path = write_llama3np(tmp_path / "tokenizer.model.np")
    scored = texts.real_vocabulary(path)
    assert scored[0] == tuple(text.replace(" ", SPACE) for text in REAL)
    context = LabContext(tokenizer_path=path)
    assert tokenizer.conclude(context, []) == ["tokenizer.model.np: 9 entries, 8 different, 'a' at [3, 7]"]
    rows = [case.name for case in tokenizer.cases(context)]
    assert "94 characters: dict instead of list.index" in rows
    assert not any("duplicates" in name for name in rows)
    for made in (texts.list_tokenizer, texts.dict_tokenizer):
        assert made(scored).encode(f"a{SPACE}ab") == texts.engine_tokenizer(scored).encode("a ab") == [3, 8]
    with pytest.raises(ModelFormatError):
        texts.real_vocabulary(tmp_path / "none.model.np")


def test_llama2cs_file_is_a_real_vocabulary_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(texts, "VOCAB_SIZE", len(REAL))
    body = b"".join(struct.pack("<fi", -float(i), len(t.encode())) + t.encode() for i, t in enumerate(REAL))
    path = tmp_path / "tokenizer.bin"
    path.write_bytes(struct.pack("<i", 8) + body)
    tokens, scores = texts.real_vocabulary(path)
    assert tokens[6:] == ("ab", "a", f"{SPACE}ab")
    assert scores[6] == -6.0


def test_the_first_version_scans_once_for_each_look_up() -> None:
    """As published: `list.index`, and an exception where there is none."""

    class Counting(list[str]):
        scans = 0

        def index(self, *arguments: object) -> int:  # type: ignore[override]
            type(self).scans += 1
            return super().index(*arguments)  # type: ignore[arg-type]

        def __contains__(self, text: object) -> bool:
            type(self).scans += 1
            return super().__contains__(text)

    first = ScoreTokenizer(REAL, [0.0] * len(REAL))
    first.vocab = Counting(REAL)
    assert (first.lookup("ab"), first.lookup("zz"), Counting.scans) == (6, -1, 2)


@pytest.mark.parametrize(
    ("growth", "error", "ok"), [(0.0009, 0.0, True), (0.0019, 0.0005, True), (0.0021, 0.0005, False)]
)
def test_a_cache_costs_too_much_only_where_two_standard_errors_say_so(
    growth: float, error: float, ok: bool, model: Llama, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = Distances(400, 4, growth, error, growth - error, growth + error, 0.002)
    monkeypatch.setattr(kv_types, "distances", lambda *_: found)
    match = kv_types.costs_at_most(0.001, model, model, [[1, 2]])(None, None)
    assert match.ok == ok
    assert "divergence 0.002 nats; at most +0.10%" in match.text
