"""The vector kernels and primitives as the control code calls them: names and arguments, no bodies.

Numba binds each name to the machine code of the same name (`build.py`). What a kernel does is said where it
is written: `matmul.py`, `vector.py`, `attention.py`, `primitives.py`. All arguments are int64.
"""

from __future__ import annotations


def word(address: int, index: int) -> int: ...  # type: ignore[empty-body]
def store_int32(address: int, value: int) -> None: ...
def atomic_load(address: int) -> int: ...  # type: ignore[empty-body]
def atomic_store(address: int, value: int) -> None: ...
def atomic_add(address: int, value: int) -> int: ...  # type: ignore[empty-body]
def compare_exchange(address: int, expected: int, value: int) -> int: ...  # type: ignore[empty-body]
def reads_before() -> None: ...
def fetch(address: int, lines: int) -> None: ...
def pause() -> None: ...
def call_pointer(function: int, argument: int) -> int: ...  # type: ignore[empty-body]


def matmul(
    kind: int,
    tile: int,
    weights: int,
    panels: int,
    blocks: int,
    activations: int,
    out: int,
    out_stride: int,
    add: int,
    ahead: int,
) -> None: ...


def rms_norm(x: int, weight: int, out: int, padded: int, numbers: int) -> None: ...
def quantize(x: int, padded: int, out: int, tile: int, token: int, numbers: int) -> None: ...
def rotate(x: int, cos: int, sin: int, half: int) -> None: ...
def scale_row(x: int, count: int, factor: int) -> None: ...
def add_row(x: int, y: int, count: int) -> None: ...
def copy_row(x: int, y: int, count: int) -> None: ...
def swiglu(pairs: int, out: int, count: int) -> None: ...


def attend(
    kind: int,
    rows: int,
    queries: int,
    keys: int,
    values: int,
    head_dim: int,
    positions: int,
    ahead: int,
    limits: int,
    lows: int,
    scores: int,
    out: int,
    out_stride: int,
) -> None: ...


def merge(total: int, partial: int, head_dim: int) -> None: ...
def normalize(partial: int, out: int, head_dim: int) -> None: ...
def interleave(row: int, out: int, count: int, stride: int) -> None: ...
def store_f16(row: int, out: int, count: int, stride: int) -> None: ...
def store_q8(row: int, out: int, count: int, stride: int, scale_at: int) -> None: ...
