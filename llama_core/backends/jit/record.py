"""Records of int64 words that Python and the compiled step both read, each declared once.

    class Span(Record):
        "Tokens that attention takes together."
        first = Word("the first token")
        n_tokens = Word("tokens")

The declaration is all there is. From it come the place of each word in memory, the attributes by which
Python reads and writes one (`span.first = 3`), the structured type by which Numba's code reads the same
(`span.first`), and the documentation: `help(Span)` lists words with their units. A name that is given twice
is an error. Addresses and strides are in bytes; other words count what they say.
"""

from __future__ import annotations

import ctypes
from typing import Any, Generic, TypeVar, overload

import numpy as np
from numpy.typing import NDArray

WORD_BYTES = 8
Words = NDArray[np.int64]
R = TypeVar("R", bound="Record")


class Word:
    """An int64 of a record. about: what it holds, with its unit."""

    def __init__(self, about: str) -> None:
        self.about = about
        self.index = 0  # among the record's words
        self.offset = 0  # in bytes, from the record's beginning

    def place(self, index: int, spacing: int) -> int:
        """Take the words from `index` on; returns the index behind them."""
        self.index, self.offset = index, index * spacing
        return index + 1

    @overload
    def __get__(self, record: None, owner: Any) -> Word: ...
    @overload
    def __get__(self, record: Record, owner: Any) -> int: ...
    def __get__(self, record: Record | None, owner: Any) -> Word | int:
        return self if record is None else int(record.words[self.index])

    def __set__(self, record: Record, value: int) -> None:
        record.words[self.index] = value


class Part(Generic[R]):
    """A record within a record."""

    def __init__(self, kind: type[R], about: str) -> None:
        self.kind, self.about = kind, about
        self.index = 0

    def place(self, index: int, spacing: int) -> int:
        """Its first word's index; returns the index behind it. Raises TypeError for spaced-out words."""
        if spacing != WORD_BYTES:
            raise TypeError("only single words can be spaced out")
        self.index = index
        return index + self.kind.n_words

    @overload
    def __get__(self, record: None, owner: Any) -> Part[R]: ...
    @overload
    def __get__(self, record: Record, owner: Any) -> R: ...
    def __get__(self, record: Record | None, owner: Any) -> Part[R] | R:
        if record is None:
            return self
        return self.kind(record.words[self.index : self.index + self.kind.n_words])

    def __set__(self, record: Record, value: R) -> None:
        """Copy all words of `value`."""
        record.words[self.index : self.index + self.kind.n_words] = value.words


class _Names(dict[str, Any]):
    """A class body in which no word is declared twice."""

    def __setitem__(self, name: str, value: Any) -> None:
        if isinstance(self.get(name), Word | Part):
            raise TypeError(f"{self.get('__qualname__')} has two words named {name}")
        super().__setitem__(name, value)


class RecordType(type):
    """Gives each word its place. `spacing`: bytes from one word to the next."""

    n_words: int
    nbytes: int
    spacing: int
    parts: dict[str, Word | Part[Any]]

    @classmethod
    def __prepare__(cls, name: str, bases: tuple[type, ...], **_: Any) -> dict[str, Any]:  # type: ignore[override]
        return _Names()

    def __new__(
        cls, name: str, bases: tuple[type, ...], body: dict[str, Any], spacing: int = WORD_BYTES
    ) -> Any:
        """Lay the parts out in the order of the class body; the docstring lists them."""
        made = super().__new__(cls, name, bases, dict(body))
        made.parts = {k: v for k, v in body.items() if isinstance(v, Word | Part)}
        made.spacing, made.n_words = spacing, 0
        lines = []
        for part_name, part in made.parts.items():
            made.n_words = part.place(made.n_words, spacing)
            lines.append(f"{part_name}: {part.about}")
        made.nbytes = made.n_words * spacing
        made.__doc__ = "\n".join([made.__doc__ or "", "", *lines])
        return made

    @property
    def dtype(cls) -> np.dtype[Any]:
        """The record as a structured type: what Numba reads."""
        fields = [(name, np.int64 if isinstance(p, Word) else p.kind.dtype) for name, p in cls.parts.items()]
        return np.dtype(fields, align=True)


class Record(metaclass=RecordType):
    """A view of one record in memory. words: (n_words,) int64."""

    def __init__(self, words: Words | None = None) -> None:
        self.words: Words = np.zeros(type(self).n_words, dtype=np.int64) if words is None else words

    @property
    def address(self) -> int:
        """Where it begins. The caller keeps its memory alive."""
        return int(self.words.ctypes.data)

    def set(self, **values: int | Record) -> None:
        """Several words at once. Raises KeyError for a name that it does not have."""
        for name, value in values.items():
            self.__class__.parts[name].__set__(self, value)  # type: ignore[arg-type]


class Table(Generic[R]):
    """Records that follow each other in memory, their own or, where given, another's. words: (count, n_words)
    int64."""

    def __init__(self, kind: type[R], count: int, memory: Words | None = None) -> None:
        self.kind = kind
        if memory is None:
            memory = np.zeros(count * kind.n_words, dtype=np.int64)
        self.words: Words = memory.reshape(count, kind.n_words)

    def __len__(self) -> int:
        return len(self.words)

    def __getitem__(self, index: int) -> R:
        return self.kind(self.words[index])

    def column(self, word: Word) -> Words:
        """One word of every record, (count,): a view."""
        return self.words[:, word.index]

    def address(self, index: int = 0) -> int:
        """Where the record number `index` begins."""
        return int(self.words.ctypes.data) + index * self.kind.nbytes


class Pointer(Generic[R]):
    """`layer_at = Pointer(Layer)`: `layer_at(address)` is the record there, in Python as in compiled code."""

    def __init__(self, kind: type[R]) -> None:
        self.kind = kind

    def __call__(self, address: int) -> R:
        """The record at this address. Nothing is copied, and nothing keeps the memory alive."""
        memory = (ctypes.c_int64 * self.kind.n_words).from_address(address)
        return self.kind(np.ctypeslib.as_array(memory))
