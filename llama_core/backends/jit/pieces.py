"""What compiled code is told of a file, so that it reads and packs it by itself (`kernels/stream.py`)."""

from __future__ import annotations

from llama_core.backends.jit.layout import LINE_BYTES
from llama_core.backends.jit.record import Record, Word


class Piece(Record):
    """Some panels of a tensor in a file. They are read and packed in steps of `at_once` panels, so that what
    was read is still in the core's cache when it is packed."""

    descriptor = Word("of the file")
    start = Word("byte of the file where the first row begins")
    pitch = Word("bytes from one row to the next")
    row_bytes = Word("bytes of a row")
    n_rows = Word("rows in the file; a last panel may lack some")
    numbers = Word("address of a word for each row of the panels: its number in its step; -1: zeros")
    kind = Word("PackedKind.code")
    panels = Word("panels")
    at_once = Word("panels of a step; the last one may have fewer")
    blocks = Word("blocks of a row")
    out = Word("address where the first panel is to be")
    stride = Word("bytes from one panel to the next there")
    is_packed = Word("1: done; 0: not begun, or the file gave less than it should")


class Stream(Record, spacing=LINE_BYTES):
    """What the threads agree by."""

    claimed = Word("pieces that were begun")
    read_bytes = Word("bytes of the file that were packed")
    stop = Word("1: no step is begun any more")


class Worker(Record):
    """A thread's own memory."""

    rows = Word("address of a word for each row of a step: where it is")
    buffer = Word("address of the bytes of a step")
    zeros = Word("address of a row of zeros")
