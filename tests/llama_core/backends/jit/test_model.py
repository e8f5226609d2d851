"""The compiled model against the NumPy model on the same file, and against itself cut in other ways."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from llama_core.backends.jit.build.variants import VARIANTS
from llama_core.backends.jit.workspace import Tuning
from llama_core.backends.numpy.model import Llama
from llama_core.backends.numpy.weights import load_weights
from llama_core.checkpoint import Checkpoint
from llama_core.config import RopeScaling
from llama_core.errors import (
    Cancelled,
    ContextFullError,
    LlamaCoreError,
    ModelFormatError,
    UnsupportedModelError,
)
from tests.support import reference

IDS = np.random.default_rng(0).integers(0, 130, 250).astype(np.int32)


def forward_all(model: Any, ids: np.ndarray, chunks: list[int] | int, capacity: int = 256) -> np.ndarray:
    """Logits of every position, the ids cut into chunks (the last length repeats)."""
    cache = model.new_cache(capacity)
    lengths = [chunks] if isinstance(chunks, int) else list(chunks)
    rows, start = [], 0
    while start < len(ids):
        length = lengths.pop(0) if len(lengths) > 1 else lengths[0]
        rows.append(model.forward(ids[start : start + length], cache, logits="all").copy())
        start += length
    assert cache.length == len(ids)
    return np.concatenate(rows)


def mixed(name: str) -> str:
    return "Q8_0" if name.endswith(("v_proj", "embed_tokens", "up_proj")) else "Q4_0"


CASES = {
    "Q4_0": ("Q4_0", {}),
    "Q4_1": ("Q4_1", {}),
    "Q8_0": ("Q8_0", {}),
    "F32": ("F32", {}),
    "Q5_1": ("Q5_1", {}),
    "mixed": (mixed, {}),
    "untied": ("Q8_0", {"tie_embeddings": False}),
    "bias": ("Q8_0", {"attention_bias": True}),
    "qk_norm": ("Q8_0", {"qk_norm": True}),
    "window": ("Q8_0", {"sliding_window": 70}),
    "partial_rotation": ("Q8_0", {"head_dim": 32, "rope_dim": 16}),
    "llama3_angles": ("Q8_0", {"rope_scaling": RopeScaling("llama3", 8.0, original_max_seq_len=64)}),
    "odd_widths": ("F32", {"dim": 72, "hidden_dim": 88, "head_dim": 48, "n_heads": 3, "n_kv_heads": 3}),
    "one_kv_head": ("Q4_1", {"n_heads": 10, "n_kv_heads": 1, "head_dim": 16}),
}


@pytest.mark.parametrize("case", CASES)
def test_logits_agree_with_the_numpy_model(toys: SimpleNamespace, case: str) -> None:
    """Int8 activations leave an error of two or three per cent of the logits' spread after two layers; a
    missing norm, a swapped head or a wrong angle would leave fifty."""
    fmt, changes = CASES[case]
    checkpoint = toys.checkpoint(fmt, **changes)
    ours = forward_all(toys.load(checkpoint), IDS, 50)
    numpy_model = Llama(checkpoint.config, load_weights(checkpoint))
    theirs = forward_all(numpy_model, IDS, 50)
    error = np.sqrt(((ours - theirs) ** 2).mean()) / theirs.std()
    assert ours.dtype == np.float32
    assert 0 < error < 0.035, error


def with_vectors(checkpoint: Checkpoint, toys: SimpleNamespace, **sizes: int) -> Checkpoint:
    """The checkpoint with a random vector of that size for each name, in every layer."""
    rng = np.random.default_rng(8)
    vectors = {
        name: toys.tensor(name, rng.normal(0, 0.3, size).astype(np.float32), "F32")
        for i in range(checkpoint.config.n_layers)
        for name, size in ((f"layers.{i}.{part}.bias", size) for part, size in sizes.items())
    }
    return replace(checkpoint, tensors={**checkpoint.tensors, **vectors})


# Widths of which some end within a panel, and biases alone and together.
BIASES: dict[str, tuple[dict[str, int], dict[str, int]]] = {
    "o": ({}, {"o_proj": 64}),
    "gate and up": ({"hidden_dim": 104}, {"gate_proj": 104, "up_proj": 104}),
    "down": ({"dim": 72}, {"down_proj": 72}),
    "all": (
        {"dim": 72, "hidden_dim": 88, "attention_bias": True},
        {"o_proj": 72, "gate_proj": 88, "up_proj": 88, "down_proj": 72},
    ),
}


@pytest.mark.parametrize("case", BIASES)
def test_biases_of_every_matrix(toys: SimpleNamespace, case: str) -> None:
    """Near the oracle, and bit for bit the same for one token, few, many, several sequences, one thread."""
    changes, sizes = BIASES[case]
    checkpoint = with_vectors(toys.checkpoint("F32", **changes), toys, **sizes)
    ids = IDS[:60]
    arrays = {name: tensor.to_float32() for name, tensor in checkpoint.tensors.items()}
    expected = reference.forward(checkpoint.config, arrays, ids[:12].tolist())
    model = toys.load(checkpoint)
    one_by_one = forward_all(model, ids, 1)
    error = np.sqrt(((one_by_one[:12] - expected) ** 2).mean()) / expected.std()
    assert error < 0.03, error
    for chunks in (3, 7, 33, 60, [1, 40, 2, 17]):
        np.testing.assert_array_equal(forward_all(model, ids, chunks), one_by_one)
    np.testing.assert_array_equal(forward_all(toys.load(checkpoint, threads=1), ids, 60), one_by_one)
    together = model.forward_batch([(ids[:9], model.new_cache(16)), (ids[:20], model.new_cache(32))])
    np.testing.assert_array_equal(together, one_by_one[[8, 19]])


def test_half_of_a_bias_pair_is_missing(toys: SimpleNamespace) -> None:
    checkpoint = with_vectors(toys.checkpoint("F32"), toys, gate_proj=96)
    with pytest.raises(ModelFormatError, match=r"layers\.0\.up_proj\.bias.*missing"):
        toys.load(checkpoint)


def test_frequencies_from_the_file(toys: SimpleNamespace) -> None:
    """As llama 3.1's files have them: the divisors count, and the NumPy model takes them alike."""
    plain = toys.checkpoint("Q8_0")
    divisors = toys.tensor("rope_freqs", np.linspace(1.0, 8.0, 8, dtype=np.float32), "F32")
    checkpoint = replace(plain, tensors={**plain.tensors, "rope_freqs": divisors})
    ours = forward_all(toys.load(checkpoint), IDS, 50)
    theirs = forward_all(Llama(checkpoint.config, load_weights(checkpoint)), IDS, 50)
    without = forward_all(Llama(plain.config, load_weights(plain)), IDS, 50)

    def distance(a: np.ndarray, b: np.ndarray) -> float:
        return float(np.sqrt(((a - b) ** 2).mean()) / b.std())

    assert distance(ours, theirs) < 0.03
    assert distance(without, theirs) > 0.1
    wrong = toys.tensor("rope_freqs", np.ones(7, dtype=np.float32), "F32")
    with pytest.raises(ModelFormatError, match=r"rope_freqs: its shape is \(7,\), not \(8,\)"):
        toys.load(replace(plain, tensors={**plain.tensors, "rope_freqs": wrong}))


@pytest.mark.parametrize("fmt", ["Q4_1", mixed])
def test_the_cut_into_calls_does_not_show(toys: SimpleNamespace, fmt: Any) -> None:
    """Bit for bit: token by token, any chunks, one thread or two, forward or forward_batch; also where the
    parts of a matrix are of different kinds."""
    checkpoint = toys.checkpoint(fmt, sliding_window=100)
    model = toys.load(checkpoint)
    reference = forward_all(model, IDS, 1)
    for chunks in (2, 3, 4, 5, 7, 16, 63, 64, [1, 64, 2, 33, 4]):
        np.testing.assert_array_equal(forward_all(model, IDS, chunks), reference, strict=True)
    single = toys.load(checkpoint, threads=1)
    for chunks in (1, 64):
        np.testing.assert_array_equal(forward_all(single, IDS, chunks), reference)


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_what_the_last_layer_leaves_is_what_nobody_asks_for(toys: SimpleNamespace, threads: int) -> None:
    """Many tokens at once: the last layer finishes only the tiles whose logits are asked for."""
    model = toys.load(toys.checkpoint("Q4_1", sliding_window=100), threads=threads)
    reference = forward_all(model, IDS, 64)
    for n in (24, 31, 36, 40, 63, 64):
        cache = model.new_cache(256)
        assert model.forward(IDS[:n], cache, logits="none").shape == (0,)
        behind = model.forward(IDS[n : 2 * n], cache, logits="last")
        np.testing.assert_array_equal(behind, reference[2 * n - 1])
        after = model.forward(IDS[2 * n : 2 * n + 1], cache)
        np.testing.assert_array_equal(after, reference[2 * n])
    lengths = (3, 17, 40)
    caches = [model.new_cache(64) for _ in lengths]
    rows = model.forward_batch([(IDS[:n], cache) for n, cache in zip(lengths, caches, strict=True)])
    np.testing.assert_array_equal(rows, reference[np.array(lengths) - 1])


def test_outliers_in_float32_bring_the_model_nearer_to_float32(toys: SimpleNamespace) -> None:
    checkpoint = toys.checkpoint("Q8_0", 2)
    wanted = forward_all(Llama(checkpoint.config, load_weights(checkpoint)), IDS, 50)
    errors = []
    for outlier in (np.inf, 2.0, 0.0):  # none, some, one of every block
        model = toys.load(checkpoint, tuning=Tuning(outlier=outlier, outlier_hidden=outlier))
        errors.append(((forward_all(model, IDS, 50) - wanted) ** 2).mean())
    assert errors[0] > errors[1] > errors[2]


@pytest.mark.parametrize(("kv", "ratio"), [("f16", 1 / 2), ("q8", (64 + 4) / (4 * 64))])
def test_a_smaller_cache_is_nearly_as_good(toys: SimpleNamespace, kv: str, ratio: float) -> None:
    """As far off as int8 activations are that round the other way; what the cache itself loses is shown in
    test_kernels.py."""
    checkpoint = toys.checkpoint("Q8_0", head_dim=64)
    wide, narrow = toys.load(checkpoint), toys.load(checkpoint, kv=kv)
    assert narrow.new_cache(256).nbytes / wide.new_cache(256).nbytes == ratio
    assert f"kv {kv}" in narrow.backend
    reference = forward_all(wide, IDS, 64)
    ours = forward_all(narrow, IDS, 64)
    error = np.sqrt(((ours - reference) ** 2).mean()) / reference.std()
    assert 0 < error < 0.03
    for chunks in (1, 3, 7, 50):
        np.testing.assert_array_equal(forward_all(narrow, IDS, chunks), ours)
    with pytest.raises(ValueError, match="another way"):
        narrow.forward(IDS[:1], wide.new_cache(64))
    with pytest.raises(ValueError, match="kv type"):
        toys.load(checkpoint, kv="q5")


# Each takes a compilation; that the kernels of all variants agree is shown in test_kernels.py at any rate.
@pytest.mark.slow
@pytest.mark.parametrize("name", VARIANTS)
def test_every_instruction_set_gives_the_same_logits(
    toys: SimpleNamespace, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint = toys.checkpoint(mixed)
    monkeypatch.setenv("LLAMA_CORE_JIT_ISA", name)
    try:
        model = toys.load(checkpoint)
    except ValueError as error:
        pytest.skip(str(error))
    assert name in model.backend
    monkeypatch.delenv("LLAMA_CORE_JIT_ISA")
    best = toys.load(checkpoint)
    np.testing.assert_array_equal(forward_all(model, IDS, [64, 1]), forward_all(best, IDS, [64, 1]))


def test_an_unknown_instruction_set_is_refused(
    toys: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LLAMA_CORE_JIT_ISA", "sse8")
    with pytest.raises(LlamaCoreError, match="LLAMA_CORE_JIT_ISA: no instruction set 'sse8'"):
        toys.load(toys.checkpoint())
    with pytest.raises(ValueError, match="no instruction set"):
        toys.load(toys.checkpoint(), isa="sse9")


def test_a_batch_gives_each_sequence_its_own_logits(toys: SimpleNamespace) -> None:
    model = toys.load(toys.checkpoint("Q4_0"))
    sequences = [IDS[:20], IDS[20:21], IDS[30:75]]
    wanted = [forward_all(model, s, 64)[-1] for s in sequences]
    caches = [model.new_cache(64 + 32 * i) for i in range(3)]
    first = model.forward_batch([(s[:-1], c) for s, c in zip(sequences, caches, strict=True) if len(s) > 1])
    assert first.shape == (2, 130)
    together = model.forward_batch([(s[-1:], c) for s, c in zip(sequences, caches, strict=True)])
    np.testing.assert_array_equal(together, np.stack(wanted))
    fresh = [(s, model.new_cache(64)) for s in sequences]
    every = model.forward_batch(fresh, logits="all").copy()
    np.testing.assert_array_equal(every, np.concatenate([forward_all(model, s, 64) for s in sequences]))


@pytest.mark.parametrize("fmt", ["F32", "Q8_0"])
def test_hidden_states_are_those_of_every_token(toys: SimpleNamespace, fmt: str) -> None:
    """Bit for bit however the text is cut, in wide steps too, whose last layer leaves tokens elsewhere."""
    checkpoint = toys.checkpoint(fmt)
    model = toys.load(checkpoint)
    numpy_model = Llama(checkpoint.config, load_weights(checkpoint))
    theirs = numpy_model.hidden_states(IDS[:64], numpy_model.new_cache(64))
    ours = model.hidden_states(IDS[:64], model.new_cache(64))
    assert np.sqrt(((ours - theirs) ** 2).mean()) / theirs.std() < 0.035
    for chunk in (1, 5, 40):
        cache = model.new_cache(64)
        parts = [model.hidden_states(IDS[i : min(64, i + chunk)], cache) for i in range(0, 64, chunk)]
        np.testing.assert_array_equal(np.concatenate(parts), ours)


def test_passes_that_cannot_be_are_refused_in_words(toys: SimpleNamespace) -> None:
    checkpoint = toys.checkpoint("Q4_0")
    for model in (toys.load(checkpoint), Llama(checkpoint.config, load_weights(checkpoint))):
        cache, other = model.new_cache(400), model.new_cache(400)
        with pytest.raises(ValueError, match=r"a pass takes 1 to \d+ tokens, not 300"):
            model.forward(np.resize(IDS, 300), cache, logits="all")
        with pytest.raises(ValueError, match="have the same cache"):
            model.forward_batch([(IDS[:2], cache), (IDS[:3], cache)])
        with pytest.raises(ValueError, match="has no token"):
            model.forward_batch([(IDS[:2], cache), (IDS[:0], other)])
        assert cache.length == other.length == 0


def test_every_type_of_a_fused_matrix_is_named(toys: SimpleNamespace) -> None:
    fmt = {"layers.0.q_proj": "Q4_0", "layers.0.v_proj": "Q5_1"}
    model = toys.load(toys.checkpoint(lambda name: fmt.get(name, "Q8_0")))
    assert "(Q4_0 as q4, Q8_0 as q8, Q5_1 as q5m)" in model.backend


def test_truncate_and_go_on_another_way(toys: SimpleNamespace) -> None:
    model = toys.load(toys.checkpoint("Q4_1"))
    cache = model.new_cache(200)
    model.forward(IDS[:60], cache)
    cache.truncate(37)
    other = np.concatenate((IDS[:37], IDS[100:120]))
    got = model.forward(IDS[100:120], cache).copy()
    np.testing.assert_array_equal(got, forward_all(model, other, 64)[-1])
    with pytest.raises(ValueError, match="cannot truncate"):
        cache.truncate(58)


def test_shapes_of_what_forward_returns(toys: SimpleNamespace) -> None:
    model = toys.load(toys.checkpoint())
    cache = model.new_cache(20)
    assert model.forward(IDS[:3], cache, logits="none").shape == (0,)
    assert model.forward(IDS[:3], cache).shape == (130,)
    assert model.forward(IDS[:3], cache, logits="all").shape == (3, 130)
    with pytest.raises(ContextFullError):
        model.forward(IDS[:12], cache)
    assert cache.length == 9
    with pytest.raises(ValueError, match="token ids"):
        model.forward(np.array([130], dtype=np.int32), cache)
    with pytest.raises(ValueError, match="a pass takes"):
        model.forward(IDS[:0], cache)


def test_cancelled_keeps_the_length(toys: SimpleNamespace) -> None:
    model = toys.load(toys.checkpoint())
    cache = model.new_cache(64)
    model.forward(IDS[:8], cache)
    with pytest.raises(Cancelled):
        model.forward(IDS[:8], cache, cancelled=lambda: True)
    assert cache.length == 8
    got = model.forward(IDS[8:9], cache).copy()
    np.testing.assert_array_equal(got, forward_all(model, IDS[:9], 64)[-1])


@pytest.mark.parametrize(
    ("fmt", "changes"),
    [
        ("Q8_0", {}),
        ("F32", {"dim": 72}),  # rows that end in the middle of a panel
        ("F32", {"qk_norm": True, "head_dim": 48}),  # heads that end in the middle of a block
    ],
)
def test_nan_shows_in_the_logits_and_leaves_no_trace(
    toys: SimpleNamespace, fmt: str, changes: dict[str, Any]
) -> None:
    checkpoint = toys.checkpoint(fmt, **changes)
    healthy = forward_all(toys.load(checkpoint), IDS[:20], 64)
    values = checkpoint.tensors["embed_tokens"].to_float32()
    values[77] = np.nan
    broken = dict(checkpoint.tensors) | {"embed_tokens": toys.tensor("embed_tokens", values, "F32")}
    broken["lm_head"] = checkpoint.tensors["embed_tokens"]
    model = toys.load(
        replace(checkpoint, tensors=broken, config=replace(checkpoint.config, tie_embeddings=False))
    )
    cache = model.new_cache(64)
    ids = IDS[:20].copy()
    ids[ids == 77] = 1
    model.forward(ids[:10], cache)
    assert np.isnan(model.forward(np.array([77, 3], dtype=np.int32), cache)).all()
    cache.truncate(10)
    after = model.forward(ids[10:20], cache).copy()
    assert np.isfinite(after).all()
    assert np.isfinite(healthy).all()


def test_what_the_kernels_cannot_take_is_unsupported(toys: SimpleNamespace) -> None:
    with pytest.raises(UnsupportedModelError, match="multiple of 16"):
        toys.load(toys.checkpoint("F32", head_dim=8))


def test_missing_and_misshapen_tensors(toys: SimpleNamespace) -> None:
    checkpoint = toys.checkpoint()
    tensors = dict(checkpoint.tensors)
    del tensors["layers.1.o_proj"]
    with pytest.raises(ModelFormatError, match=r"layers\.1\.o_proj.*missing"):
        toys.load(replace(checkpoint, tensors=tensors))
    tensors["layers.1.o_proj"] = checkpoint.tensors["layers.1.gate_proj"]
    with pytest.raises(ModelFormatError, match="its shape is"):
        toys.load(replace(checkpoint, tensors=tensors))


def test_closed_twice_and_then_unusable(toys: SimpleNamespace, kernel_cache: Path) -> None:
    model = toys.load(toys.checkpoint())
    cache = model.new_cache(8)
    model.close()
    model.close()
    with pytest.raises(ValueError, match="closed"):
        model.forward(IDS[:1], cache)


@pytest.mark.parametrize("rows", [1, 200])
def test_any_number_of_rows_over_the_cache_gives_the_same_bits(toys: SimpleNamespace, rows: int) -> None:
    """A thread's memory holds the rows of every step, however few those of a run are."""
    checkpoint = toys.checkpoint("Q4_1")
    logits = []
    for tuning in (Tuning(), Tuning(run_span_rows=rows)):
        model = toys.load(checkpoint, tuning=tuning)
        cache = model.new_cache(400)
        for n in (128, 128, 20, 100):  # runs of tokens, and a step of few
            got = model.forward((np.arange(n, dtype=np.int32) * 7) % 130, cache)
        logits.append(got.copy())
    np.testing.assert_array_equal(*logits)
