"""Random checkpoints in the file's block formats, and kernels of every instruction set, compiled once."""

from __future__ import annotations

import ctypes
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gguf
import llvmlite.binding as llvm
import numpy as np
import pytest

from llama_core.backends.jit import load_jit_model
from llama_core.backends.jit.build import objects
from llama_core.backends.jit.build.variants import AVX2, VARIANTS, Isa, choose, host_features
from llama_core.backends.jit.model import JitLlama
from llama_core.backends.numpy.weights import random_weights
from llama_core.checkpoint import Checkpoint, Tensor
from llama_core.config import ModelConfig
from llama_core.quant.table import BY_NAME
from tests.support.kept_kernels import kept_object

SHAPE = {
    "dim": 64,
    "hidden_dim": 96,
    "n_layers": 2,
    "n_heads": 6,
    "n_kv_heads": 2,
    "head_dim": 16,
    "vocab_size": 130,
    "max_seq_len": 512,
}


@pytest.fixture(scope="session", params=VARIANTS)
def isa(request: pytest.FixtureRequest) -> Isa:
    return variant(request.param)


def variant(name: str) -> Isa:
    """A variant by name, with what this processor has beside it."""
    isa, features = VARIANTS[name], host_features()
    return choose(features, name) if all(features.get(f) for f in isa.needs) else isa


def splat(number: int, lanes: int) -> str:
    """A constant of LLVM IR."""
    return f"<{', '.join([f'i32 {number}'] * lanes)}>"


def without_dot_products(text: str) -> str:
    """The same kernels for a processor without `vpdpbusd` and `vpdpwssd`, or `sdot` and `tbl`: calls of
    functions that do what they do. All else about the variant (widths, tiles, order of sums) is thus tested
    on any machine.
    """
    for declared, name in re.findall(
        r"(declare .*@\"(llvm\.\S+\.(?:vpdpbusd|vpdpwssd|sdot)\.\S+)\".*)", text
    ):
        bits = 16 if "vpdpwssd" in name else 8
        n = 4 if "sdot" in name else int(name.rpartition(".")[2]) // 32
        vector, bytes_ = f"<{n} x i32>", f"<{4 * n} x i8>"
        operand = bytes_ if "sdot" in name else vector
        body = [
            f'define internal {vector} @"dots{bits}x{n}"({vector} %total0, {operand} %a0, {operand} %b0) {{',
            f"  %a = bitcast {operand} %a0 to {vector}",
            f"  %b = bitcast {operand} %b0 to {vector}",
        ]
        for c in range(32 // bits):
            left, top = splat(32 - bits - bits * c, n), splat(32 - bits, n)
            body += [
                f"  %x{c} = shl {vector} %a, {left}",
                f"  %u{c} = {'lshr' if 'vpdpbusd' in name else 'ashr'} {vector} %x{c}, {top}",
                f"  %l{c} = shl {vector} %b, {left}",
                f"  %s{c} = ashr {vector} %l{c}, {top}",
                f"  %p{c} = mul {vector} %u{c}, %s{c}",
                f"  %total{c + 1} = add {vector} %total{c}, %p{c}",
            ]
        body += [f"  ret {vector} %total{32 // bits}", "}"]
        text = text.replace(declared, "\n".join(body)).replace(f'@"{name}"', f'@"dots{bits}x{n}"')
    # Of indices up to 15 both are the same.
    return text.replace("llvm.aarch64.neon.tbl1.v16i8", "llvm.x86.ssse3.pshuf.b.128")


def kernels_object(isa: Isa) -> bytes:
    """The kernels of a variant as machine code that this processor can run. Skips where there is none."""
    features = host_features()
    if all(features.get(f) for f in isa.needs):
        return objects.kernels_object(isa)
    if not all(features.get(f) for f in AVX2.needs):
        pytest.skip(f"this CPU can neither run nor imitate {isa.name}")
    objects.target_machine(AVX2)  # which makes LLVM ready
    # An imitation shows what is computed, not how fast: not optimised, it is built in a tenth of the time.
    machine = llvm.Target.from_default_triple().create_target_machine(
        cpu=AVX2.cpu, features=AVX2.features, opt=0, reloc="pic", codemodel="small"
    )
    module = llvm.parse_assembly(without_dot_products(objects.kernel_ir(isa)))
    module.triple, module.data_layout = machine.triple, str(machine.target_data)
    module.verify()
    emitted: bytes = machine.emit_object(module)
    return emitted


class Kernels:
    """The kernels of one variant, each callable by name with ints (addresses and sizes)."""

    def __init__(self, code: bytes) -> None:
        machine = objects.target_machine(AVX2)
        self._engine = llvm.create_mcjit_compiler(llvm.parse_assembly(""), machine)
        self._engine.add_object_file(llvm.ObjectFileRef.from_data(code))
        self._engine.finalize_object()

    def __getattr__(self, name: str) -> Callable[..., int]:
        address = 0 if name.startswith("_") else self._engine.get_function_address(name)
        if not address:
            raise AttributeError(name)

        def call(*arguments: int) -> int:
            types = [ctypes.c_int64] * len(arguments)
            return int(ctypes.CFUNCTYPE(ctypes.c_int64, *types)(address)(*arguments))

        return call


@pytest.fixture(scope="session")
def kernels_of(kernel_cache: Path) -> Callable[[str], Kernels]:
    """kernels_of(name of a variant). A process that comes first builds them for all, under a lock."""
    loaded: dict[str, Kernels] = {}

    def get(name: str) -> Kernels:
        if name not in loaded:
            loaded[name] = Kernels(kept_object(kernel_cache, variant(name), kernels_object))
        return loaded[name]

    return get


@pytest.fixture(scope="session")
def kernels(isa: Isa, kernels_of: Callable[[str], Kernels]) -> Kernels:
    return kernels_of(isa.name)


def aligned(shape: Any, dtype: Any) -> np.ndarray:
    """Zeros that start on a cache line, as the arenas' do."""
    size = int(np.prod(shape)) * np.dtype(dtype).itemsize
    raw = np.zeros(size + 64, dtype=np.uint8)
    start = -raw.ctypes.data % 64
    return raw[start : start + size].view(dtype).reshape(shape)


def make_tensor(name: str, values: np.ndarray, fmt: str) -> Tensor:
    """Values in a block format, by the `gguf` package's quantiser; vectors stay float32, and filters, whose
    rows are shorter than a block."""
    if values.ndim == 1 or fmt == "F32" or values.shape[1] < 32:
        fmt, raw = "F32", np.ascontiguousarray(values, dtype=np.float32).view(np.uint8)
    else:
        raw = gguf.quants.quantize(values, gguf.GGMLQuantizationType[fmt]).view(np.uint8)
    rows = 1 if values.ndim == 1 else len(values)
    return Tensor(name, values.shape, BY_NAME[fmt], np.ascontiguousarray(raw).reshape(rows, -1))


def make_checkpoint(fmt: str | Callable[[str], str] = "Q8_0", seed: int = 1, **changes: Any) -> Checkpoint:
    config = ModelConfig(**{**SHAPE, **changes})
    weights = random_weights(config, seed)
    format_of = fmt if callable(fmt) else lambda name: fmt
    tensors = {name: make_tensor(name, values, format_of(name)) for name, values in weights.slots.items()}
    tokenizer: Any = None
    return Checkpoint(Path("toy"), "toy", 0, config, tensors, tokenizer, None)


@pytest.fixture
def toys(kernel_cache: Path) -> Iterator[SimpleNamespace]:
    """toys.checkpoint(fmt, seed, **config); toys.load(checkpoint, **options) -> JitLlama, closed later."""
    opened: list[JitLlama] = []

    def load(checkpoint: Checkpoint, **options: Any) -> JitLlama:
        opened.append(load_jit_model(checkpoint, **{"threads": 2, "kernel_cache": kernel_cache, **options}))
        return opened[-1]

    yield SimpleNamespace(checkpoint=make_checkpoint, load=load, aligned=aligned, tensor=make_tensor)
    for model in opened:
        model.close()
