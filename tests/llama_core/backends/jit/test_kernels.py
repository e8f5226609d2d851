"""Each kernel, of each instruction set that this machine can run, against NumPy."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from llama_core.backends.jit.build.variants import Isa
from llama_core.backends.jit.kernels.matmul import matmul
from llama_core.backends.jit.layout import BLOCK_POSITIONS as B
from llama_core.backends.jit.layout import FLOAT_KINDS, INTEGER_KINDS, PARTIAL_HEAD_BYTES, PackedKind
from tests.support.packed import unpack

HEAD = PARTIAL_HEAD_BYTES // 4  # numbers of a row's partial before o


def aligned(shape: Any, dtype: Any) -> np.ndarray:
    size = int(np.prod(shape)) * np.dtype(dtype).itemsize
    raw = np.zeros(size + 64, dtype=np.uint8)
    return raw[-raw.ctypes.data % 64 :][:size].view(dtype).reshape(shape)


def at(array: np.ndarray) -> int:
    return array.ctypes.data


def floats(rng: np.random.Generator, *shape: int) -> np.ndarray:
    out = aligned(shape, np.float32)
    out[...] = rng.standard_normal(shape)
    return out


def pack_rows(kernels: Any, x: np.ndarray, size: int, span: int = 32) -> tuple[np.ndarray, np.ndarray]:
    """Rows of x as one tile by the kernel; also the numbers that the int8 stand for. span: how many columns
    share a scale."""
    n, width = x.shape
    numbers = np.array([1.0 / width, 0.0, 36.0], dtype=np.float32)
    packed = aligned(width // 32 * n * 80, np.uint8)
    for token in range(n):
        kernels.quantize(at(x[token]), width, at(packed), size, token, at(numbers), span)
    values = np.zeros((n, width // 32, 32))
    for j, block in enumerate(packed.reshape(-1, n * 80)):
        quants = block[: n * 32].view(np.int8).reshape(n, 32).astype(np.float64)
        about = block[n * 32 : n * 64].reshape(n, 32)
        floats32 = np.ascontiguousarray(about[:, :8]).view(np.float32)
        sums = np.ascontiguousarray(about[:, 8:24]).view(np.int32)
        small_sums = np.ascontiguousarray(about[:, 24:]).view(np.int16)
        assert (sums[:, 0] == -8 * quants.sum(1)).all()
        assert (sums[:, 1] == -128 * quants.sum(1)).all()
        assert (sums[:, 2:] == -32 * quants.reshape(n, 2, 16).sum(2)).all()
        assert (small_sums[:, :2] == quants.reshape(n, 2, 16).sum(2)).all()
        if j % 2 == 0:
            pair_sums = small_sums[:, 2:]
        assert (pair_sums[:, j % 2] == quants.sum(1)).all()
        values[:, j] = floats32[:, :1].astype(np.float64) * quants
        records, flags = block[n * 64 : n * 76].reshape(n, 12), block[n * 76 : n * 77]
        for token, record in enumerate(records):
            (number, _, ratio), column = record.view(np.float32), record[4:8].view(np.int32)[0]
            assert flags[token] == (number != 0) == (column >= 0)
            if flags[token]:
                assert number == x[token, 32 * j + column]
                values[token, j, column] += number
            np.testing.assert_allclose(ratio * floats32[token, 0], number, rtol=1e-6)
        np.testing.assert_allclose(floats32[:, 1], values[:, j].sum(1), rtol=1e-4, atol=1e-4)
    return packed, values.reshape(n, width)


def random_matrix(kind: PackedKind, rng: np.random.Generator, panels: int, columns: int) -> np.ndarray:
    """Random scales and quants of every value, (panels, blocks, block_bytes)."""
    packed = aligned((panels, columns // kind.columns, kind.block_bytes), np.uint8)
    packed[...] = rng.integers(0, 256, packed.shape)
    at = 0
    for count, size in kind.fields:
        field = packed[..., at : at + 16 * count * size]
        if size == 2:
            field.view(np.float16)[...] = rng.standard_normal((*field.shape[:2], 16 * count))
        if kind.scales == "e8m0":
            field[...] = rng.integers(120, 132, field.shape)
        at += 16 * count * size
    return packed


@pytest.mark.parametrize("kind", INTEGER_KINDS, ids=lambda k: k.name)
def test_matmul_of_every_kind_and_tile(kernels: Any, isa: Isa, kind: PackedKind) -> None:
    """Against float64 on the very integers; the bound is float32's own rounding over the sums."""
    rng = np.random.default_rng(3)
    panels, blocks = 3, 16 if kind.columns == 256 else 5
    packed = random_matrix(kind, rng, panels, blocks * 32)
    weights = unpack(packed, kind, panels * 16, blocks * 32).astype(np.float64)
    x = floats(rng, max(isa.tiles), blocks * 32)
    x[:, [40, 90]] *= 50  # outliers
    alone = None
    for tile in isa.tiles:
        activations, values = pack_rows(kernels, np.ascontiguousarray(x[:tile]), tile, kind.columns)
        out = floats(rng, tile, panels * 16)
        before = out.copy()
        kernel = getattr(kernels, matmul.variant(kind, tile))
        for add, ahead, turn in ((0, 0, 0), (1, 8192, 2)):
            out[...] = before
            kernel(at(packed), panels, blocks, at(activations), at(out), panels * 64, add, ahead, turn, 3)
            wanted = values @ weights.T + add * before
            bound = 1e-5 * (np.abs(values) @ np.abs(weights).T)
            assert (np.abs(out - wanted) <= bound + 1e-6).all()
        kernel(at(packed), panels, blocks, at(activations), at(out), panels * 64, 0, 8192, 0, 1)
        alone = out[0].copy() if alone is None else alone
        np.testing.assert_array_equal(out[0], alone)  # the tile's size does not show


def test_every_instruction_set_gives_the_same_bits(
    isa: Isa, kernels: Any, kernels_of: Callable[[str], Any]
) -> None:
    rng = np.random.default_rng(4)
    reference = kernels_of("portable")
    x = floats(rng, 1, 512)
    x[0, [70, 300]] = 60.0, -50.0
    for kind in INTEGER_KINDS:
        packed = random_matrix(kind, rng, 2, 512)
        # The extremes of an integer dot: nothing may saturate.
        packed[0, 0, kind.header_bytes :] = 255
        results = []
        for library in (kernels, reference):
            activations, _ = pack_rows(library, x, 1, kind.columns)
            out = aligned((1, 32), np.float32)
            getattr(library, matmul.variant(kind, 1))(
                at(packed), 2, 16, at(activations), at(out), 128, 0, 0, 0, 1
            )
            results.append((activations.copy(), out.copy()))
        np.testing.assert_array_equal(results[0][0], results[1][0])
        np.testing.assert_array_equal(results[0][1].view(np.int32), results[1][1].view(np.int32))


@pytest.mark.parametrize("kind", FLOAT_KINDS, ids=lambda k: k.name)
def test_matmul_of_floats(isa: Isa, kernels: Any, kernels_of: Callable[[str], Any], kind: PackedKind) -> None:
    """Against float64, bit for bit alike for every tile and instruction set."""
    rng = np.random.default_rng(13)
    packed = aligned((3, 5, kind.block_bytes), np.uint8)
    dtype = {"f16": np.float16, "bf16": np.uint16, "f32": np.float32}[str(kind.floats)]
    numbers = rng.standard_normal(3 * 5 * 512).astype(np.float32)
    numbers[:4] = 0.0, 1e-7, -6e-8, 1e4
    bits = numbers.view(np.uint32) >> 16 if kind.floats == "bf16" else numbers
    packed.reshape(-1).view(dtype)[:] = bits.astype(dtype)
    weights = unpack(packed, kind, 48, 160).astype(np.float64)
    x = floats(rng, max(isa.tiles), 160)
    alone: np.ndarray | None = None
    for library, tile in ((kernels_of("portable"), 1), *((kernels, tile) for tile in isa.tiles)):
        inputs = aligned((5, tile, 32), np.float32)
        for token in range(tile):
            library.place_floats(at(x[token]), 160, at(inputs), tile, token)
        np.testing.assert_array_equal(inputs, x[:tile].reshape(tile, 5, 32).transpose(1, 0, 2))
        out = floats(rng, tile, 48)
        before = out.copy()
        kernel = getattr(library, matmul.variant(kind, tile))
        for add in (0, 1):
            out[...] = before
            kernel(at(packed), 3, 5, at(inputs), at(out), 192, add, 8192 * add, 0, 1)
            wanted = x[:tile].astype(np.float64) @ weights.T + add * before
            np.testing.assert_allclose(out, wanted, rtol=1e-4, atol=1e-4)
        kernel(at(packed), 3, 5, at(inputs), at(out), 192, 0, 0, 0, 1)
        alone = out[0].copy() if alone is None else alone
        np.testing.assert_array_equal(out[0], alone)


def every_quant(kind: PackedKind, quant: int) -> np.ndarray:
    """One panel of one block in which all quants are the same, and all scales simple, (1, 1, block_bytes)."""
    packed = aligned((1, 1, kind.block_bytes), np.uint8)
    header, parts = packed[..., : kind.header_bytes], packed[0, 0, kind.header_bytes :]
    header[...] = {"e8m0": 128, "nibbles": 0x11}.get(kind.scales, 1)
    if kind.scales != "e8m0":
        header[..., : 32 * (1 + kind.has_min)].view(np.float16)[...] = 1.0
    start = worth = 0
    for width in kind.planes:
        bits = quant >> worth & ((1 << width) - 1)
        plane = parts.reshape(-1, kind.quant_bytes)[:, start : start + 64 * width]
        plane[...] = sum(bits << shift for shift in range(0, 8, width))
        start, worth = start + 64 * width, worth + width
    return packed


def test_integer_dots_are_exact_at_their_extremes(kernels: Any, isa: Isa) -> None:
    """The largest and the smallest weights times the largest activations: nothing saturates, in any kind."""
    for kind in INTEGER_KINDS:
        for quant in range(1 << kind.bits) if kind.levels else (0, (1 << kind.bits) - 1):
            packed = every_quant(kind, quant)
            number = unpack(packed, kind, 16, kind.columns)
            assert (number == number[0, 0]).all()
            for sign in (1.0, -1.0):
                x = aligned((1, kind.columns), np.float32)
                x[...] = 127.0 * sign
                activations, _ = pack_rows(kernels, x, 1, kind.columns)
                out = aligned((1, 16), np.float32)
                kernel = getattr(kernels, matmul.variant(kind, 1))
                kernel(at(packed), 1, kind.columns // 32, at(activations), at(out), 64, 0, 0, 0, 1)
                assert (out == sign * 127 * kind.columns * number[0, 0]).all()


@pytest.mark.parametrize("span", [32, 256])
def test_quantize_error_and_outliers(kernels: Any, span: int) -> None:
    rng = np.random.default_rng(5)
    x = floats(rng, 4, 512)
    x[1] = 0.0
    x[2, 33] = -40.0
    x[2, 255] = 30.0
    x[3, 200:202] = 50.0  # two of a kind: one of them sets the scale
    packed, values = pack_rows(kernels, x, 4, span)
    flags = packed.reshape(16, -1)[:, 4 * 76 : 4 * 77]
    assert sorted(zip(*map(list, flags.nonzero()), strict=True)) == [(1, 2), (6, 3), (7, 2)]
    assert (values[2, [33, 255]] == (-40.0, 30.0)).all()
    assert values[3, 201] == 50.0
    rest = np.abs(x)
    rest[2, [33, 255]] = rest[3, 201] = 0.0
    largest = rest.reshape(4, -1, span).max(2)
    error = np.abs(values - x).reshape(4, -1, span).max(2)
    assert (error <= largest / 254 * 1.001).all()
    assert (values[1] == 0).all()


@pytest.mark.parametrize("span", [32, 256])
def test_an_outlier_among_zeros_is_kept(kernels: Any, span: int) -> None:
    x = aligned((1, 512), np.float32)
    x[0, 300] = -7.0
    _, values = pack_rows(kernels, x, 1, span)
    np.testing.assert_array_equal(values, x)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_broken_number_reaches_the_results(kernels: Any, bad: float) -> None:
    rng = np.random.default_rng(6)
    x = floats(rng, 1, 64)
    x[0, 40] = bad
    kind = INTEGER_KINDS[0]
    packed = random_matrix(kind, rng, 1, 64)
    numbers = np.array([1 / 64, 0.0, 36.0], dtype=np.float32)
    activations = aligned(2 * 80, np.uint8)
    kernels.quantize(at(x), 64, at(activations), 1, 0, at(numbers), 32)
    out = aligned((1, 16), np.float32)
    getattr(kernels, matmul.variant(kind, 1))(at(packed), 1, 2, at(activations), at(out), 64, 0, 0, 0, 1)
    assert np.isnan(out).all()


def test_rms_norm(kernels: Any) -> None:
    rng = np.random.default_rng(7)
    x, weight, out = floats(rng, 96), floats(rng, 96), aligned(96, np.float32)
    x[80:], weight[80:] = 0.0, 0.0  # a true width of 80, padded
    numbers = np.array([1 / 80, 1e-5], dtype=np.float32)
    kernels.rms_norm(at(x), at(weight), at(out), 96, at(numbers))
    wide = x.astype(np.float64)
    wanted = wide / np.sqrt((wide[:80] ** 2).mean() + 1e-5) * weight
    np.testing.assert_allclose(out, wanted, rtol=2e-6, atol=1e-7)


@pytest.mark.parametrize("half", [24, 6, 13])
def test_rotate(kernels: Any, half: int) -> None:
    rng = np.random.default_rng(8)
    x, angles = floats(rng, 2 * half + 1), rng.uniform(-9, 9, half)
    cos, sin = np.cos(angles).astype(np.float32), np.sin(angles).astype(np.float32)
    first, second, behind = x[:half].astype(np.float64), x[half : 2 * half].astype(np.float64), x[-1]
    wanted = np.concatenate((first * cos - second * sin, second * cos + first * sin, [behind]))
    kernels.rotate(at(x), at(cos), at(sin), half)
    np.testing.assert_allclose(x, wanted, rtol=1e-5, atol=1e-6)


def test_swiglu_over_the_whole_range(kernels: Any) -> None:
    gate = np.linspace(-200, 200, 16 * 100, dtype=np.float32)
    up = np.random.default_rng(9).standard_normal(gate.shape).astype(np.float32)
    pairs, out = aligned((100, 2, 16), np.float32), aligned(1600, np.float32)
    pairs[:, 0], pairs[:, 1] = gate.reshape(100, 16), up.reshape(100, 16)
    kernels.swiglu(at(pairs), at(out), 1600)
    wide = gate.astype(np.float64)
    wanted = wide / (1 + np.exp(-wide)) * up
    np.testing.assert_allclose(out, wanted, rtol=2e-6, atol=1e-30)


def test_clamped_swiglu_over_the_whole_range(kernels: Any) -> None:
    gate = np.linspace(-200, 200, 16 * 100, dtype=np.float32)
    up = np.random.default_rng(9).uniform(-20, 20, gate.shape).astype(np.float32)
    pairs, out = aligned((100, 2, 16), np.float32), aligned(1600, np.float32)
    pairs[:, 0], pairs[:, 1] = gate.reshape(100, 16), up.reshape(100, 16)
    kernels.clamped_swiglu(at(pairs), at(out), 1600)
    wide = np.minimum(gate.astype(np.float64), 7.0)
    wanted = (np.clip(up, -7.0, 7.0) + 1) * wide / (1 + np.exp(-1.702 * wide))
    np.testing.assert_allclose(out, wanted, rtol=2e-5, atol=1e-30)


@pytest.mark.parametrize("over_all", [0, 1])
@pytest.mark.parametrize(("n", "n_used"), [(8, 2), (16, 16), (37, 5), (128, 8)])
def test_choice_of_experts(kernels: Any, n: int, n_used: int, over_all: int) -> None:
    scores = aligned(-(-n // 16) * 16, np.float32)
    scores[:] = 99.0  # behind the scores
    scores[:n] = np.random.default_rng(n).standard_normal(n) * 3
    scores[n // 2] = scores[1]  # of equal ones the first is chosen
    wanted = np.argsort(-scores[:n], kind="stable")[:n_used]
    best, wide = scores[wanted].astype(np.float64), scores[:n].astype(np.float64)
    total = np.exp(wide - best[0]).sum() if over_all else np.exp(best - best[0]).sum()
    choices = aligned((n_used, 2), np.int64)
    kernels.choose(at(scores), n, n_used, over_all, at(choices))
    assert choices[:, 0].tolist() == wanted.tolist()
    shares = choices[:, 1:].copy().view(np.float32)[:, 0]
    np.testing.assert_allclose(shares, np.exp(best - best[0]) / total, rtol=2e-6)


@pytest.mark.parametrize("number", [np.nan, np.inf, -np.inf])
def test_broken_scores_choose_experts_that_exist_and_break_the_shares(kernels: Any, number: float) -> None:
    scores, choices = aligned(16, np.float32), aligned((4, 2), np.int64)
    scores[3:7] = number
    kernels.choose(at(scores), 7, 4, 0, at(choices))
    assert len(set(choices[:, 0].tolist())) == 4
    assert ((choices[:, 0] >= 0) & (choices[:, 0] < 7)).all()
    assert np.isnan(choices[:, 1:].copy().view(np.float32)[:, 0]).all()


def partials_of(rows: int, hd: int) -> np.ndarray:
    """Room for what `attend` finds: m, l, nothing, and from HEAD on o."""
    return aligned((rows, HEAD + hd), np.float32)


def scratch(rows: int) -> np.ndarray:
    """Room for scores, and for the shares in a merge."""
    return aligned((rows, B + 2), np.float32)


def attention_inputs(rows: int, hd: int, seed: int) -> tuple[np.ndarray, ...]:
    rng = np.random.default_rng(seed)
    queries, keys, values = floats(rng, rows, hd), floats(rng, B, hd), floats(rng, B, hd)
    lanes = aligned((hd, B), np.float32)
    lanes[...] = keys.T
    woven = aligned((hd, rows), np.float32)
    woven[...] = queries.T
    return queries, keys, values, lanes, woven


@pytest.mark.parametrize("rows", [1, 2, 3, 4, 8])
@pytest.mark.parametrize("hd", [16, 48, 64])
def test_attend_one_block(kernels: Any, rows: int, hd: int) -> None:
    queries, keys, values, lanes, woven = attention_inputs(rows, hd, rows * hd)
    held = B - 14
    values[held:] = np.nan  # never written: must not be read
    limits = np.array([held - 3 * r for r in range(rows)], dtype=np.int32)
    lows = np.array([2 * r for r in range(rows)], dtype=np.int32)
    scores, out = scratch(rows), partials_of(rows, hd)
    kernel = getattr(kernels, f"attend_f32_{rows}")
    bounds = (at(limits), at(lows))
    kernel(at(woven), at(lanes), at(values), hd, held, 0, *bounds, at(scores), 0, at(out), 0, out.strides[0])
    for r in range(rows):
        seen = slice(lows[r], limits[r])
        s = keys[seen].astype(np.float64) @ queries[r]
        m = s.max()
        weights = 2 ** (s - m)
        np.testing.assert_allclose(out[r, 0], m, rtol=1e-5)
        np.testing.assert_allclose(out[r, 1], weights.sum(), rtol=1e-5)
        np.testing.assert_allclose(out[r, HEAD:], weights @ values[seen], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("rows", [1, 3, 8])
def test_attend_an_8_bit_block(kernels: Any, rows: int) -> None:
    """Stored and read by the kernels; against float64 on the very int8."""
    hd, held = 48, 37
    queries, keys, values, _, woven = attention_inputs(rows, hd, 21)
    keys[5], values[6] = 0.0, 0.0
    block = B * hd + 4 * B
    packed = aligned((2, block), np.uint8)
    for p in range(held):
        base = at(packed)
        kernels.store_q8(at(keys[p]), base + p, hd, B, base + B * hd + 4 * p)
        kernels.store_q8(at(values[p]), base + block + p * hd, hd, 1, base + block + B * hd + 4 * p)
    scales = packed[:, B * hd :].copy().view(np.float32).astype(np.float64)
    numbers = packed[:, : B * hd].view(np.int8).astype(np.float64)
    k = numbers[0].reshape(hd, B).T * scales[0][:, None]
    v = numbers[1].reshape(B, hd) * scales[1][:, None]
    assert (np.abs(k[:held] - keys[:held]) <= np.abs(keys[:held]).max(1, keepdims=True) / 253).all()
    assert (np.abs(v[:held] - values[:held]) <= np.abs(values[:held]).max(1, keepdims=True) / 253).all()
    limits, lows = np.full(rows, held, np.int32), np.zeros(rows, np.int32)
    scores, out = scratch(rows), partials_of(rows, hd)
    kernel = getattr(kernels, f"attend_q8_{rows}")
    second, bounds = at(packed) + block, (at(limits), at(lows))
    kernel(at(woven), at(packed), second, hd, held, 0, *bounds, at(scores), 0, at(out), 0, out.strides[0])
    for r in range(rows):
        s = k[:held] @ queries[r]
        weights = 2 ** (s - s.max())
        np.testing.assert_allclose(out[r, 1], weights.sum(), rtol=1e-5)
        np.testing.assert_allclose(out[r, HEAD:], weights @ v[:held], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("rows", [1, 3, 8])
def test_attend_a_16_bit_block(kernels: Any, rows: int) -> None:
    """Stored by the kernel as NumPy rounds to float16, then attended to as the same numbers in float32."""
    hd, held = 48, B
    _, keys, values, lanes, woven = attention_inputs(rows, hd, 22)
    keys[0, :7] = [0.0, -0.0, 1e-7, -3.1e-8, 6.0e-5, 1.00048828125, 1.00146484375]
    values[1, :4] = [1e9, -1e9, 65519.0, 2049.0]
    packed_keys, packed_values = aligned((hd, B), np.float16), aligned((B, hd), np.float16)
    for p in range(held):
        kernels.store_f16(at(keys[p]), at(packed_keys) + 2 * p, hd, 2 * B)
        kernels.store_f16(at(values[p]), at(packed_values[p]), hd, 2)
    largest = float(np.finfo(np.float16).max)
    np.testing.assert_array_equal(packed_keys.view(np.uint16), keys.astype(np.float16).T.view(np.uint16))
    np.testing.assert_array_equal(packed_values, values.clip(-largest, largest).astype(np.float16))
    limits, lows = np.full(rows, held, np.int32), np.zeros(rows, np.int32)
    scores, out, wide = scratch(rows), partials_of(rows, hd), partials_of(rows, hd)
    rest = (hd, held, 0, at(limits), at(lows), at(scores), 0)
    lanes[...], values[...] = packed_keys, packed_values
    getattr(kernels, f"attend_f16_{rows}")(
        at(woven), at(packed_keys), at(packed_values), *rest, at(out), 0, out.strides[0]
    )
    getattr(kernels, f"attend_f32_{rows}")(
        at(woven), at(lanes), at(values), *rest, at(wide), 0, out.strides[0]
    )
    np.testing.assert_array_equal(out, wide)
    assert out[:, HEAD:].any()


def bfloat16(x: np.ndarray) -> np.ndarray:
    """Rounded to the nearest, halves to even, as float64; for numbers that are neither huge nor tiny."""
    bits = x.astype(np.float32).view(np.uint32).astype(np.uint64)
    rounded = (bits + 0x7FFF + (bits >> 16 & 1)) >> 16 << 16
    return rounded.astype(np.uint32).view(np.float32).astype(np.float64)


def bfloat16_block(kernels: Any, keys: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A block of the cache that holds them, (positions, hd) float32; what it does not hold is NaN."""
    hd = keys.shape[1]
    packed = [aligned((B * hd,), np.uint16) for _ in "kv"]
    for one in packed:
        one[:] = 0x7FC0
    for p, (key, value) in enumerate(zip(keys, values, strict=True)):
        kernels.interleave_bf16(at(key), at(packed[0]) + 4 * p, hd, 4 * B)
        kernels.store_bf16(at(value), at(packed[1]) + p // 2 * hd * 4 + p % 2 * 2, hd, 4)
    return packed[0], packed[1]


def bfloat16_queries(kernels: Any, queries: np.ndarray) -> np.ndarray:
    """Rows of queries as `attend` takes them."""
    rows, hd = queries.shape
    woven = aligned((rows * hd,), np.float32)
    for r, query in enumerate(queries):
        kernels.interleave_factors(at(query), at(woven) + 4 * r, hd, 4 * rows)
    return woven


@pytest.mark.parametrize("held", [B, B - 27, 37, 1])  # an odd number leaves half of a pair
@pytest.mark.parametrize("rows", [1, 3, 8])
def test_attend_a_block_of_bfloat16(kernels: Any, rows: int, held: int) -> None:
    """Stored and read by the kernels; against float64 on the very bfloat16."""
    hd = 48
    queries, keys, values, _, _ = attention_inputs(rows, hd, 23)
    block, woven = bfloat16_block(kernels, keys[:held], values[:held]), bfloat16_queries(kernels, queries)
    limits, lows = np.full(rows, held, np.int32), np.zeros(rows, np.int32)
    scores, out = scratch(rows), partials_of(rows, hd)
    bounds = (at(limits), at(lows), at(scores), 0, at(out), 0, out.strides[0])
    getattr(kernels, f"attend_bf16_{rows}")(at(woven), at(block[0]), at(block[1]), hd, held, 0, *bounds)
    for r in range(rows):
        s = bfloat16(keys[:held]) @ bfloat16(queries[r])
        weights = 2 ** (s - s.max())
        np.testing.assert_allclose(out[r, 0], s.max(), rtol=1e-5)
        np.testing.assert_allclose(out[r, 1], weights.sum(), rtol=1e-4)
        wanted = bfloat16(weights) @ bfloat16(values[:held])
        # A weight at the middle of two bfloat16 may be rounded the other way.
        np.testing.assert_allclose(out[r, HEAD:], wanted, rtol=1e-4, atol=2e-3)


def test_bfloat16_rounds_to_even_and_has_bounds(kernels: Any) -> None:
    row, packed = aligned((16,), np.float32), aligned((16,), np.uint16)
    row[:] = [0, 1, 1.00390625, 1.01171875, 1.005, -1.005, 3e38, 3.4e38, *[0] * 8]
    row[8:14] = np.inf, -np.inf, 2.0**-50, 2.0**-51, -(2.0**-60), np.nan
    kernels.store_bf16(at(row), at(packed), 16, 2)
    found = (packed.astype(np.uint32) << 16).view(np.float32)
    largest = np.float32(255 * 2.0**120)
    wanted = [
        0,
        1,
        1,
        1.015625,
        1.0078125,
        -1.0078125,
        *bfloat16(row[6:7]),
        largest,
        largest,
        -largest,
        2.0**-50,
    ]
    np.testing.assert_array_equal(found[:13], [*wanted, 0, 0])
    assert np.isnan(found[13])


def test_bfloat16_gives_the_same_bits_on_every_instruction_set(
    kernels: Any, kernels_of: Callable[[str], Any]
) -> None:
    """Scores far apart: weights are tiny, subnormal or nothing."""
    hd, held, rows = 64, B - 1, 8
    queries, keys, values, _, _ = attention_inputs(rows, hd, 24)
    queries *= np.logspace(-20, 1, rows, dtype=np.float32)[:, None]
    values *= np.logspace(-37, 37, hd, dtype=np.float32)
    results = []
    for library in (kernels, kernels_of("portable")):
        block, woven = bfloat16_block(library, keys[:held], values[:held]), bfloat16_queries(library, queries)
        limits, lows = np.full(rows, held, np.int32), np.zeros(rows, np.int32)
        scores, out = scratch(rows), partials_of(rows, hd)
        bounds = (at(limits), at(lows), at(scores), 0, at(out), 0, out.strides[0])
        library.attend_bf16_8(at(woven), at(block[0]), at(block[1]), hd, held, 0, *bounds)
        results.append((*block, out))
    for ours, theirs in zip(*results, strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_float16_keeps_not_a_number(kernels: Any) -> None:
    row, packed = aligned((16,), np.float32), aligned((16,), np.float16)
    row[:2] = np.nan, -np.nan
    kernels.store_f16(at(row), at(packed), 16, 2)
    assert np.isnan(packed).tolist() == [True, True] + [False] * 14


def test_rows_attend_alike_alone_and_together(kernels: Any) -> None:
    hd = 32
    _, _, values, lanes, woven = attention_inputs(8, hd, 11)
    limits, lows = np.full(8, B, np.int32), np.zeros(8, np.int32)
    together, scores = partials_of(8, hd), scratch(8)
    rest = (at(values), hd, B, 0, at(limits), at(lows), at(scores), 0)
    kernels.attend_f32_8(at(woven), at(lanes), *rest, at(together), 0, together.strides[0])
    for r in range(8):
        single, alone = aligned((hd, 1), np.float32), partials_of(1, hd)
        single[:, 0] = woven[:, r]
        kernels.attend_f32_1(at(single), at(lanes), *rest, at(alone), 0, 0)
        np.testing.assert_array_equal(alone[0], together[r])


@pytest.mark.parametrize("rows", [1, 3, 8])
@pytest.mark.parametrize("kind", ["f32", "bf16"])
def test_a_block_merges_with_the_total_as_if_it_stood_alone(kernels: Any, kind: str, rows: int) -> None:
    """To the bit: decoding merges what other threads found, prompts while they attend."""
    hd, held = 48, B
    totals, merged, out = partials_of(rows, hd), partials_of(rows, hd), partials_of(rows, hd)
    attend, scores = getattr(kernels, f"attend_{kind}_{rows}"), scratch(rows)
    for block, seed in enumerate((31, 32, 33)):
        queries, keys, values, lanes, woven = attention_inputs(rows, hd, seed)
        rest = (hd, held, 0, 0, 0, at(scores), 0)
        if kind == "bf16":
            woven, (lanes, values) = (
                bfloat16_queries(kernels, queries),
                bfloat16_block(kernels, keys, values),
            )
        given = (at(woven), at(lanes), at(values), *rest)
        attend(*given, at(out), 0, out.strides[0])
        if block:
            kernels.merge(at(totals), at(out), hd, rows)
            out[...] = np.nan
            attend(*given, at(out), at(merged), out.strides[0])
        else:
            totals[...] = merged[...] = out
    np.testing.assert_array_equal(merged[:, :2], totals[:, :2])
    np.testing.assert_array_equal(merged[:, HEAD:], totals[:, HEAD:])


def test_merge_and_normalize_give_softmax_over_both_blocks(kernels: Any) -> None:
    rng = np.random.default_rng(12)
    hd = 32
    scores, values = rng.standard_normal((2, 64)) * 5, rng.standard_normal((2, 64, hd))
    partials = partials_of(2, hd)
    for partial, s, v in zip(partials, scores, values, strict=True):
        weights = np.exp(s - s.max())
        partial[0], partial[1], partial[HEAD:] = s.max() / np.log(2), weights.sum(), weights @ v
    kernels.merge(at(partials[0]), at(partials[1]), hd, 1)
    out = aligned(hd, np.float32)
    kernels.normalize(at(partials[0]), at(out), hd, 0)
    weights = np.exp(scores.reshape(-1) - scores.max())
    np.testing.assert_allclose(out, weights @ values.reshape(-1, hd) / weights.sum(), rtol=1e-4, atol=1e-6)
    for sink in (-300.0, 1.0, scores.max() + 2, 300.0):  # a score without a value
        score = np.array([sink], dtype=np.float32)
        kernels.normalize(at(partials[0]), at(out), hd, at(score))
        top = max(scores.max(), sink)
        weights = np.exp(scores.reshape(-1) - top)
        total = weights.sum() + np.exp(sink - top)
        np.testing.assert_allclose(out, weights @ values.reshape(-1, hd) / total, rtol=1e-4, atol=1e-6)
