"""The kernel that reads a file and packs it, piece by piece, while others do the same.

Between two pieces nobody asks Python for anything: its lock may be held for long by whoever builds a
tokenizer's tables or draws a screen.
"""

from __future__ import annotations

from llvmlite import ir

from llama_core.backends.jit.kernels.declare import kernel
from llama_core.backends.jit.kernels.emit import I32, I64, Code, Value
from llama_core.backends.jit.kernels.operations import select
from llama_core.backends.jit.kernels.pack import pack
from llama_core.backends.jit.layout import PANEL_ROWS
from llama_core.backends.jit.pieces import Piece, Stream, Worker
from llama_core.backends.jit.record import Word


@kernel()
def stream(code: Code, pieces: Value, count: Value, shared: Value, worker: Value, read: Value) -> None:
    """Claim pieces and pack them until there are none left, or someone says stop.

    pieces: address of `count` Pieces; shared: of a Stream; worker: of the thread's own Worker; read: of C's
    `ssize_t pread(int, void *, size_t, off_t)`. A piece whose bytes did not come whole stays unpacked.
    """
    with code.loop(0, count):
        number = _add(code, shared + Stream.claimed.offset, code.splat(I64, 1))
        with code.when(number.compare("<", count)):
            _pack_piece(code, pieces + number * Piece.nbytes, shared, worker, read)


def _pack_piece(code: Code, piece: Value, shared: Value, worker: Value, read: Value) -> None:
    """All steps of a piece."""
    panels, at_once, n_rows = (_word(code, piece, w) for w in (Piece.panels, Piece.at_once, Piece.n_rows))
    pitch, row_bytes = _word(code, piece, Piece.pitch), _word(code, piece, Piece.row_bytes)
    steps = (panels + at_once - 1) / at_once
    whole = code.var(code.splat(I64, 0))
    with code.loop(0, steps) as step, code.when(_load(code, shared + Stream.stop.offset).compare("==", 0)):
        first = step * at_once
        rows_here = _least(n_rows - first * PANEL_ROWS, at_once * PANEL_ROWS)
        wanted = (rows_here - 1) * pitch + row_bytes
        start = _word(code, piece, Piece.start) + first * PANEL_ROWS * pitch
        got = _read(code, read, _word(code, piece, Piece.descriptor), worker, wanted, start)
        with code.when(got.compare("==", wanted)):
            _pack_step(code, piece, worker, first, _least(panels - first, at_once))
            _add(code, shared + Stream.read_bytes.offset, rows_here * row_bytes)
            whole.set(whole.get() + 1)
    with code.when(whole.get().compare("==", steps)):
        code.store(code.splat(I64, 1), piece + Piece.is_packed.offset)


def _pack_step(code: Code, piece: Value, worker: Value, first: Value, panels: Value) -> None:
    """Panels whose bytes are in the worker's buffer, from number `first` of the piece on."""
    pitch, buffer = _word(code, piece, Piece.pitch), _word(code, worker, Worker.buffer)
    numbers = _word(code, piece, Piece.numbers) + first * (PANEL_ROWS * 8)
    rows, zeros = _word(code, worker, Worker.rows), _word(code, worker, Worker.zeros)
    with code.loop(0, panels * PANEL_ROWS) as i:
        number = code.load(I64, numbers + i * 8)
        row = select(number.compare("<", 0), zeros, buffer + number * pitch)
        code.store(row, rows + i * 8)
    stride = _word(code, piece, Piece.stride)
    out = _word(code, piece, Piece.out) + first * stride
    arguments = (_word(code, piece, Piece.kind), rows, panels, _word(code, piece, Piece.blocks), out, stride)
    code.builder.call(code.module.globals[pack.name], [argument.ir for argument in arguments])


def _read(code: Code, read: Value, descriptor: Value, worker: Value, nbytes: Value, start: Value) -> Value:
    """Bytes of the file into the worker's buffer; how many came, or -1."""
    type_ = ir.FunctionType(I64, [I32, I64, I64, I64])
    pointer = code.builder.inttoptr(read.ir, type_.as_pointer())
    arguments = (descriptor.to(I32), _word(code, worker, Worker.buffer), nbytes, start)
    return Value(code, code.builder.call(pointer, [argument.ir for argument in arguments]))


def _word(code: Code, record: Value, word: Word) -> Value:
    return code.load(I64, record + word.offset)


def _least(a: Value, b: Value) -> Value:
    return select(a.compare("<", b), a, b)


def _add(code: Code, at: Value, number: Value) -> Value:
    """Add to a word that other threads change too; returns what it was."""
    pointer = code.builder.inttoptr(at.ir, I64.as_pointer())
    return Value(code, code.builder.atomic_rmw("add", pointer, number.ir, "seq_cst"))


def _load(code: Code, at: Value) -> Value:
    """A word that other threads change."""
    return Value(code, code.builder.load_atomic(code.builder.inttoptr(at.ir, I64.as_pointer()), "seq_cst", 8))
