"""The typed values of GGUF metadata: numbers, bools, strings and arrays of these."""

from __future__ import annotations

import struct
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llama_core.loaders.cursor import U64, Cursor, quoted

U32 = struct.Struct("<I")
UINT32, BOOL, STRING, ARRAY = 4, 7, 8, 9
# Value type -> (struct code, NumPy dtype); bool, string and array are read by their own rules.
NUMBERS: dict[int, tuple[struct.Struct, str]] = {
    0: (struct.Struct("<B"), "<u1"),
    1: (struct.Struct("<b"), "<i1"),
    2: (struct.Struct("<H"), "<u2"),
    3: (struct.Struct("<h"), "<i2"),
    4: (U32, "<u4"),
    5: (struct.Struct("<i"), "<i4"),
    6: (struct.Struct("<f"), "<f4"),
    10: (U64, "<u8"),
    11: (struct.Struct("<q"), "<i8"),
    12: (struct.Struct("<d"), "<f8"),
}


def read_value(cursor: Cursor, kind: int, key: str) -> Any:
    """The value of `key`, whose type is the number `kind`, at the cursor.

    Numbers become int or float, arrays of numbers NumPy arrays, arrays of strings lists. Raises
    ModelFormatError for unknown types and for lengths that reach beyond the file.
    """
    what = f"the value of {quoted(key)}"
    if kind in NUMBERS:
        return cursor.scalar(NUMBERS[kind][0], what)
    if kind == STRING:
        return cursor.string(what)
    if kind == BOOL:
        return _as_bools(cursor, cursor.array("<u1", 1, what), what).item()
    if kind != ARRAY:
        raise cursor.error(f"{what} has the unknown type {kind}", cursor.position - U32.size)
    element = cursor.scalar(U32, f"the element type of {quoted(key)}")
    count = cursor.scalar(U64, f"the count of {quoted(key)}")
    if element in NUMBERS:
        return cursor.array(NUMBERS[element][1], count, what)
    if element == STRING:
        return cursor.strings(count, what)
    if element == BOOL:
        return _as_bools(cursor, cursor.array("<u1", count, what), what)
    # Arrays of arrays stand in the specification, but no model uses them and ggml refuses them too.
    raise cursor.error(f"{what} is an array of type {element}, which is not supported", cursor.position - 12)


def _as_bools(cursor: Cursor, values: NDArray[np.uint8], what: str) -> NDArray[np.bool_]:
    if values.size and int(values.max()) > 1:
        raise cursor.error(f"{what} holds a byte over 1, which is no bool", cursor.position - values.size)
    return values.view(np.bool_)
