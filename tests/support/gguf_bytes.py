"""GGUF files put together field by field, so that any field can be made wrong."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from typing import Any

# Value type -> struct code
CODES = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
U32, F32, BOOL, STRING, ARRAY = 4, 6, 7, 8, 9


def string(text: bytes | str) -> bytes:
    data = text.encode() if isinstance(text, str) else text
    return struct.pack("<Q", len(data)) + data


def value(kind: int, content: Any) -> bytes:
    """A value without its type. An array's content is (element type, list)."""
    if kind == STRING:
        return string(content)
    if kind == ARRAY:
        element, items = content
        return struct.pack("<IQ", element, len(items)) + b"".join(value(element, item) for item in items)
    return struct.pack("<" + CODES[kind], content)


def pair(key: bytes | str, kind: int, content: Any) -> bytes:
    return string(key) + struct.pack("<I", kind) + value(kind, content)


@dataclass
class RawTensor:
    name: bytes = b"t"
    dims: tuple[int, ...] = (32, 2)  # fastest first
    kind: int = 0
    offset: int = 0
    n_dims: int | None = None  # what the file claims; the truth where None

    def entry(self) -> bytes:
        n_dims = len(self.dims) if self.n_dims is None else self.n_dims
        dims = struct.pack(f"<{len(self.dims)}Q", *self.dims)
        return (
            string(self.name) + struct.pack("<I", n_dims) + dims + struct.pack("<IQ", self.kind, self.offset)
        )


@dataclass
class RawGguf:
    """A file; `n_kv and n_tensors are what it claims to hold, the truth where None."""

    pairs: list[bytes] = field(default_factory=list)
    tensors: list[RawTensor] = field(default_factory=list)
    data: bytes = bytes(256)
    magic: bytes = b"GGUF"
    version: int = 3
    n_kv: int | None = None
    n_tensors: int | None = None
    alignment: int = 32

    def build(self) -> bytes:
        n_kv = len(self.pairs) if self.n_kv is None else self.n_kv
        n_tensors = len(self.tensors) if self.n_tensors is None else self.n_tensors
        head = self.magic + struct.pack("<IQQ", self.version, n_tensors & (1 << 64) - 1, n_kv & (1 << 64) - 1)
        head += b"".join(self.pairs) + b"".join(tensor.entry() for tensor in self.tensors)
        return head + bytes(-len(head) % self.alignment) + self.data
