"""What packing keeps, bit for bit, what 8-bit blocks lose, and what comes of both in the logits."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from llama_core.backends.jit import chunks
from llama_core.backends.jit.layout import Q8, packed_bytes
from llama_core.backends.jit.packing import pack_matrices
from llama_core.backends.jit.plan import NATIVE, Kept, PackedMatrix, kind_of, plan_packing
from llama_core.backends.numpy.model import Llama
from llama_core.backends.numpy.weights import load_weights
from llama_core.checkpoint import Checkpoint, Tensor
from llama_core.errors import Cancelled, UnsupportedModelError
from llama_core.events import LoadProgress
from llama_core.memory_needed import memory_needed
from llama_core.profiling.random_gguf import random_gguf
from llama_core.profiling.synthetic import SMOLLM2_135M
from llama_core.quant.dequantize import dequantize
from llama_core.quant.table import BY_NAME, F32
from tests.llama_core.backends.jit.conftest import aligned
from tests.support.packed import unpack

Repacked = Callable[..., NDArray[np.float32]]

# Where a block's float16 scale stands, where that of its minima, and how many times the scale the latter must
# be for numbers around zero, when all other bytes are random.
SCALES: dict[str, tuple[int, int | None, float]] = {
    "Q4_0": (0, None, 0.0),
    "Q4_1": (0, 2, -7.5),
    "Q5_0": (0, None, 0.0),
    "Q5_1": (0, 2, -15.5),
    "Q8_0": (0, None, 0.0),
    "Q2_K": (80, 82, 1.5),
    "Q3_K": (108, None, 0.0),
    "Q4_K": (0, 2, 7.5),
    "Q5_K": (0, 2, 15.5),
    "Q6_K": (208, None, 0.0),
    "IQ4_NL": (0, None, 0.0),
    "IQ4_XS": (0, None, 0.0),
    "IQ1_S": (0, None, 0.0),
    "IQ2_XXS": (0, None, 0.0),
    "IQ2_XS": (0, None, 0.0),
    "IQ2_S": (0, None, 0.0),
    "IQ3_XXS": (0, None, 0.0),
    "IQ3_S": (0, None, 0.0),
    "TQ1_0": (52, None, 0.0),
    "TQ2_0": (64, None, 0.0),
}
RARE = (*(name for name in SCALES if name not in NATIVE), "IQ1_M")
# The bound on the root mean square error of repacking, relative to that of the numbers.
REPACKING_ERROR = {"IQ3_S": 0.005, "F32": 0.006}


def random_tensor(fmt: str, rows: int, columns: int, seed: int) -> Tensor:
    """Random blocks whose numbers are as large as a layer's weights, around 1 / sqrt(columns)."""
    rng = np.random.default_rng(seed)
    spread = columns**-0.5
    if fmt in ("F32", "F16", "BF16"):
        values = rng.normal(0, spread, (rows, columns)).astype(np.float32)
        halves = {"F32": values, "F16": values.astype(np.float16), "BF16": values.view(np.uint16)[:, 1::2]}
        raw = np.ascontiguousarray(halves[fmt]).view(np.uint8)
        return Tensor(fmt, values.shape, BY_NAME[fmt], raw)
    block = BY_NAME[fmt]
    blocks = rng.integers(0, 256, (rows * columns // block.block_size, block.block_bytes), dtype=np.uint8)
    if fmt == "MXFP4":
        blocks[:, 0] = rng.integers(119, 122, len(blocks))  # powers of two around 1 / 256
        return Tensor(fmt, (rows, columns), block, blocks.reshape(rows, -1))
    if fmt == "IQ1_M":  # a quarter of the scale, about 1 / 1024, in the top of each of four words
        words = blocks[:, 48:].view("<u2")
        words[:] = words & 0xFFF | np.array([0, 0, 4, 1], "<u2") << 12
        return Tensor(fmt, (rows, columns), block, blocks.reshape(rows, -1))
    scale_at, minimum_at, ratio = SCALES[fmt]
    factors = rng.uniform(0.5, 1.5, len(blocks))

    def set_scales(factor: float) -> NDArray[np.float32]:
        for at, times in ((scale_at, 1.0), (minimum_at, ratio)):
            if at is not None:
                halves = (factors * (factor * times)).astype("<f2")
                blocks[:, at : at + 2] = halves[:, None].view(np.uint8)
        return dequantize(blocks.reshape(rows, -1), block)

    set_scales(spread * 1e-3 / float(set_scales(1e-3).std()))
    return Tensor(fmt, (rows, columns), block, blocks.reshape(rows, -1))


@pytest.fixture(params=["portable", "avx2"])
def repacked(
    request: pytest.FixtureRequest, kernels_of: Callable[[str], Any], monkeypatch: pytest.MonkeyPatch
) -> Repacked:
    """repacked(tensor): the numbers that the packed matrix stands for, packed in several chunks."""
    kernels = kernels_of(request.param)
    monkeypatch.setattr(chunks, "CHUNK_BYTES", 9000)

    def numbers(tensor: Tensor, kept: Kept = "file") -> NDArray[np.float32]:
        matrix = PackedMatrix(((tensor,),), kept)
        memory = aligned(matrix.nbytes, np.uint8)
        pack_matrices([matrix], [memory], kernels, 2)
        (kind,) = matrix.kinds
        return unpack(memory.reshape(matrix.panels, -1, kind.block_bytes), kind, *tensor.shape)

    return numbers


@pytest.mark.parametrize("reordered", [False, True])
@pytest.mark.parametrize("fmt", NATIVE)
def test_a_type_with_kernels_of_its_own_loses_nothing(repacked: Repacked, fmt: str, reordered: bool) -> None:
    """Any bytes, infinite and NaN scales too: unpacked they are the file's numbers, bit for bit."""
    rng = np.random.default_rng(4)
    block = BY_NAME[fmt]
    raw = rng.integers(0, 256, (37, block.row_bytes(512)), dtype=np.uint8)
    tensor = Tensor(fmt, (37, 512), block, raw, rng.permutation(37) if reordered else None)
    with np.errstate(invalid="ignore", over="ignore"):
        found, wanted = repacked(tensor), tensor.to_float32()
    broken = np.isnan(wanted)
    assert broken.mean() < 0.2
    np.testing.assert_array_equal(np.isnan(found), broken)
    np.testing.assert_array_equal(found[~broken], wanted[~broken])
    assert packed_bytes(kind_of(tensor), 64, 4096) <= 1.04 * 64 * block.row_bytes(4096)


def test_packing_stops_where_the_caller_does(monkeypatch: pytest.MonkeyPatch) -> None:
    """Chunks that have not begun are never packed: what is cancelled costs no more time."""
    monkeypatch.setattr(chunks, "CHUNK_BYTES", 1)  # 16 panels each
    tensor = random_tensor("Q4_K", 16 * 16 * 500, 256, seed=1)
    matrix = PackedMatrix(((tensor,),))
    packed: list[int] = []

    def pack(*arguments: int) -> None:
        packed.append(1)
        time.sleep(0.001)

    def cancel(progress: LoadProgress) -> None:
        assert progress.total_bytes == tensor.nbytes
        if progress.done_bytes:
            raise Cancelled

    with pytest.raises(Cancelled):
        pack_matrices([matrix], [aligned(matrix.nbytes, np.uint8)], SimpleNamespace(pack=pack), 2, cancel)
    assert len(packed) < 100


@pytest.mark.parametrize("fmt", REPACKING_ERROR)
def test_what_repacking_loses(repacked: Repacked, fmt: str) -> None:
    tensor = random_tensor(fmt, 64, 1024, seed=3)
    values = tensor.to_float32()
    assert kind_of(tensor, "8bit") is Q8
    difference = repacked(tensor, "8bit") - values
    error = np.sqrt((difference**2).mean() / (values**2).mean())
    assert 0 < error < REPACKING_ERROR[fmt], error
    largest = np.abs(values.reshape(64, -1, 32)).max(axis=2)
    assert (np.abs(difference).reshape(64, -1, 32).max(axis=2) <= largest / 253).all()


@pytest.mark.parametrize("size", [1e-7, 1e-6, 1e-5, 1e-3, 1.0, 1e3, 8e6])
def test_no_number_is_off_by_more_than_half_a_step(repacked: Repacked, size: float) -> None:
    """Also where the scale is one of float16's smallest numbers, which have few bits."""
    rng = np.random.default_rng(5)
    values = (rng.uniform(-size, size, (160, 320)) * rng.uniform(0, 1, (160, 1))).astype(np.float32)
    values[7] = 0.0
    found = repacked(Tensor("x", values.shape, F32, values.view(np.uint8)), "8bit")
    largest = np.abs(values.reshape(160, -1, 32)).max(axis=2)
    worst = np.abs(found - values).reshape(160, -1, 32).max(axis=2)
    allowed = largest / 253 + (3e-8 if size < 1 else 0.0)
    assert (worst <= allowed).all(), (worst / allowed).max()
    assert not found[7].any()


def blocks_everywhere(toys: SimpleNamespace, type_of: Callable[[str], str]) -> Checkpoint:
    """A toy model with every matrix in random blocks of the type that its name gets."""
    checkpoint: Checkpoint = toys.checkpoint("F32", dim=256, hidden_dim=512, head_dim=64, n_heads=4)
    tensors: dict[str, Tensor] = {}
    for seed, (name, tensor) in enumerate(checkpoint.tensors.items()):
        is_matrix = len(tensor.shape) == 2
        tensors[name] = random_tensor(type_of(name), *tensor.shape, seed) if is_matrix else tensor
    return replace(checkpoint, tensors=tensors)


def cosine(a: NDArray[np.float32], b: NDArray[np.float32]) -> float:
    """Of the two rows that are least alike."""
    return float(((a * b).sum(axis=1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)).min())


def logits(model: Any, chunk: int = 60) -> NDArray[np.float32]:
    """After each of 60 tokens."""
    ids = np.random.default_rng(1).integers(0, 130, 60).astype(np.int32)
    cache = model.new_cache(64)
    rows = [model.forward(ids[i : i + chunk], cache, logits="all").copy() for i in range(0, 60, chunk)]
    return np.concatenate(rows)


@pytest.mark.parametrize("fmt", [*NATIVE, *RARE])
def test_logits_of_every_type(toys: SimpleNamespace, fmt: str) -> None:
    """Against the NumPy model on the very numbers of the file: int8 activations turn no row of logits by more
    than 3.6 degrees. The cut into calls does not show."""
    checkpoint = blocks_everywhere(toys, lambda name: fmt)
    told: list[str] = []
    compiled = toys.load(checkpoint, on_progress=lambda progress: told.append(progress.note))
    assert f"({fmt} as {NATIVE.get(fmt, Q8).name})" in compiled.backend
    assert any(f"no kernels for {fmt}: these weights are kept in 8 bits" in note for note in told) == (
        fmt not in NATIVE
    )
    exact = Llama(checkpoint.config, load_weights(checkpoint))
    ours = logits(compiled)
    assert cosine(ours, logits(exact)) > 0.998
    np.testing.assert_array_equal(logits(compiled, 1), ours)


def test_what_becomes_of_rare_types_is_said_with_the_memory(toys: SimpleNamespace) -> None:
    """Before anything is read, and only of those that have no kernels."""
    types = {"v_proj": "IQ2_XXS", "down_proj": "TQ1_0", "up_proj": "IQ1_S"}
    checkpoint = blocks_everywhere(toys, lambda name: types.get(name.rpartition(".")[2], "Q4_K"))
    plan = plan_packing(checkpoint.config, checkpoint.tensors)
    assert plan.note == (
        "There are no kernels for IQ2_XXS, IQ1_S and TQ1_0: these weights are kept in 8 bits, "
        "0 MiB of memory for 0 MiB of the file."
    )
    assert memory_needed(checkpoint.config, checkpoint.tensors)["jit"]["note"] == plan.note
    plain = blocks_everywhere(toys, lambda name: "Q4_K")
    assert plan_packing(plain.config, plain.tensors, eight_bit=True).note == ""
    assert "note" not in memory_needed(plain.config, plain.tensors)["jit"]


def test_floats_are_far_nearer_than_8_bits(toys: SimpleNamespace) -> None:
    """By the setting they become 8 bits, which the backend's name says."""
    checkpoint = blocks_everywhere(toys, lambda name: "BF16")
    exact = logits(Llama(checkpoint.config, load_weights(checkpoint)))
    errors = {}
    for form, kept in (("file", "BF16 as bf16"), ("8bit", "BF16 as q8")):
        model = toys.load(checkpoint, weights=form)
        assert f"({kept})" in model.backend
        errors[form] = float(np.abs(logits(model) - exact).max() / exact.std())
    assert errors["file"] < 1e-4 < 1e-3 < errors["8bit"]


@pytest.mark.parametrize("form", ["file", "8bit"])
def test_large_numbers_are_kept_or_refused(toys: SimpleNamespace, form: str) -> None:
    """Beyond 8.3e6 there is no float16 scale for 8 bits: as floats they compute, else the load says so."""
    checkpoint = toys.checkpoint("F32")
    name = "layers.1.down_proj"
    values = checkpoint.tensors[name].to_float32()
    values[3, 5] = 3e7
    checkpoint = replace(checkpoint, tensors={**checkpoint.tensors, name: toys.tensor(name, values, "F32")})
    if form == "8bit":
        with pytest.raises(UnsupportedModelError, match=r"layers\.1\.down_proj: its numbers are too large"):
            toys.load(checkpoint, weights=form)
    else:
        exact = logits(Llama(checkpoint.config, load_weights(checkpoint)))
        np.testing.assert_allclose(logits(toys.load(checkpoint)), exact, rtol=1e-3, atol=1e-3)


# The first as files have them: v is of another type than q and k, up than gate; down is smaller by a type. In
# the second, blocks of 32 and 256 columns meet, and a panel of one type ends where no cache line does.
MIXED = (
    {"v_proj": "Q6_K", "k_proj": "F16", "up_proj": "Q5_K", "down_proj": "Q3_K", "o_proj": "BF16"},
    {"q_proj": "MXFP4", "v_proj": "Q8_0", "gate_proj": "Q3_K"},
)


@pytest.mark.parametrize("types", MIXED)
def test_types_mixed_within_a_matrix(toys: SimpleNamespace, types: dict[str, str]) -> None:
    checkpoint = blocks_everywhere(toys, lambda name: types.get(name.rpartition(".")[2], "Q4_K"))
    compiled = toys.load(checkpoint)
    ours = logits(compiled)
    assert cosine(ours, logits(Llama(checkpoint.config, load_weights(checkpoint)))) > 0.998
    for chunk in (1, 2, 3, 7, 16):
        np.testing.assert_array_equal(logits(compiled, chunk), ours)
    np.testing.assert_array_equal(logits(toys.load(checkpoint, threads=1)), ours)


@pytest.mark.parametrize(
    ("fmt", "columns", "at_once"),
    [("Q4_K", 2048, 8), ("Q4_K", 8192, 4), ("Q4_K", 14336, 2), ("F32", 65536, 2)],
)
def test_long_rows_are_taken_fewer_at_once(fmt: str, columns: int, at_once: int) -> None:
    """Else the panels would leave the cache before the next tile takes them."""
    tensor = Tensor("x", (64, columns), BY_NAME[fmt], np.zeros((64, 0), np.uint8))
    assert PackedMatrix(((tensor,),)).panels_at_once == at_once


PEAK = """
import sys
from pathlib import Path
from llama_core.backends.jit import load_jit_model
from llama_core.loaders import open_checkpoint

def peak_bytes():
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * int(next(x for x in lines if x.startswith("VmHWM")).split()[1])

checkpoint = open_checkpoint(Path(sys.argv[1]))
before = peak_bytes()
model = load_jit_model(checkpoint, threads=2, kernel_cache=Path(sys.argv[2]))
print(peak_bytes() - before, model.weights_bytes)
model.close()
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="asks /proc")
def test_loading_takes_little_more_than_the_packed_weights(tmp_path: Path, kernel_cache: Path) -> None:
    """Of the file, little is held at a time."""
    shape = replace(SMOLLM2_135M, n_layers=12)
    path = random_gguf(tmp_path / "model.gguf", shape, "Q4_K_M")
    done = subprocess.run(
        [sys.executable, "-c", PEAK, str(path), str(kernel_cache)], capture_output=True, text=True, check=True
    )
    more, weights = map(int, done.stdout.split())
    assert weights > 40 << 20
    assert more - weights < 30 << 20, (more, weights)
