"""Records and kernels: declared once, the same for Python and for compiled code, and no name twice."""

from __future__ import annotations

import numpy as np
import pytest

from llama_core.backends.jit.build.control_code import _Compiler
from llama_core.backends.jit.control.records import Matrix, Plan, Product, Rows, Shared, Step
from llama_core.backends.jit.control.switch import Switch
from llama_core.backends.jit.kernels.declare import DECLARED, kernel, primitive
from llama_core.backends.jit.kernels.emit import Code, Value
from llama_core.backends.jit.record import Part, Pointer, Record, Table, Word


class Pair(Record):
    """Two words."""

    first = Word("tokens")
    second = Word("bytes")


class Whole(Record):
    """A record with records in it."""

    head = Word("rows")
    left = Part(Pair, "one pair")
    right = Part(Pair, "another")


def test_a_record_is_words_in_the_order_of_its_class() -> None:
    whole = Whole()
    whole.head, whole.left.second, whole.right.first = 1, 3, 4
    assert whole.words.tolist() == [1, 0, 3, 4, 0]
    pair = Pair()
    pair.set(first=8, second=9)
    whole.set(left=pair, head=7)
    assert whole.words.tolist() == [7, 8, 9, 4, 0]
    assert (Whole.n_words, Whole.nbytes, Whole.right.index) == (5, 40, 3)
    with pytest.raises(KeyError):
        pair.set(third=1)


def test_numpy_and_numba_see_the_same_places() -> None:
    whole = Whole()
    whole.words[:] = range(5)
    seen = whole.words.view(Whole.dtype)[0]
    assert (seen["head"], seen["left"]["second"], seen["right"]["first"]) == (0, 2, 3)
    for record in (Plan, Step, Product, Matrix):
        assert record.dtype.itemsize == record.nbytes


def test_a_table_is_records_behind_each_other() -> None:
    table = Table(Pair, 4)
    table.column(Pair.second)[1:3] = 5, 6
    assert [table[i].second for i in range(len(table))] == [0, 5, 6, 0]
    assert table.address(2) == table.address() + 2 * Pair.nbytes
    memory = np.zeros(6, np.int64)
    Table(Pair, 3, memory)[2].first = 9
    assert memory.tolist() == [0, 0, 0, 0, 9, 0]


def test_a_pointer_is_the_record_that_is_there() -> None:
    table = Table(Pair, 2)
    Pointer(Pair)(table.address(1)).second = 3
    assert table[1].second == 3


def test_a_word_may_have_a_cache_line_of_its_own() -> None:
    assert Shared.nbytes == Shared.n_words * 64
    assert [Shared.current.offset, Shared.done.offset] == [0, 64]
    shared = Shared(np.zeros(Shared.nbytes // 8, np.int64)[::8])
    shared.done = 2
    assert shared.words.base[8] == 2  # type: ignore[index]


def test_words_are_documented_with_their_units() -> None:
    assert "Two words.\n\nfirst: tokens\nsecond: bytes" in (Pair.__doc__ or "")
    assert all(part.about for part in Plan.parts.values())


def test_a_word_of_a_name_that_another_has_is_an_error() -> None:
    with pytest.raises(TypeError, match="Twice has two words named size"):

        class Twice(Record):
            size = Word("bytes")
            size = Word("rows")  # type: ignore[assignment] # noqa: PIE794

    with pytest.raises(TypeError, match="two words named pair"):

        class Mixed(Record):
            pair = Word("bytes")
            pair = Part(Pair, "two")  # type: ignore[assignment] # noqa: PIE794


@pytest.mark.parametrize("declare", [kernel, primitive])
def test_a_kernel_of_a_name_that_another_has_is_an_error(declare: object) -> None:
    def add_row(code: Code, x: Value) -> None:
        """Not the one in vector.py."""

    with pytest.raises(ValueError, match="two kernels are named add_row"):
        declare()(add_row)  # type: ignore[operator]


def test_what_a_kernel_is_called_with_comes_from_what_writes_it() -> None:
    matmul, word = DECLARED["matmul"], DECLARED["word"]
    assert matmul.parameters[:4] == ("kind", "tile", "weights", "panels")
    assert (word.parameters, word.inline, matmul.inline) == (("address", "index"), True, False)
    assert matmul.variant("q4", 8) == "matmul_q4_8"
    assert "tile of tokens" in (matmul.__doc__ or "")
    with pytest.raises(TypeError, match="matmul runs in compiled code only"):
        matmul(1, 2, 3)


LIST = [1, 2]


def uses_a_list(rows: Rows) -> int:
    return LIST[0] + rows.at


def takes_a_list(rows: list[int]) -> int:
    return rows[0]


def double(rows: Rows, number: int) -> int:
    return 2 * rows.at


def alone(rows: Rows) -> int:
    return rows.at


def add(rows: Rows, number: int) -> int:
    return rows.stride + number


SWITCH = Switch("chosen", {3: double, 5: add})
UNLIKE = Switch("unlike", {1: add, 2: alone})


def chooses(number: int, rows: Rows) -> int:
    return SWITCH(number, rows, 100)


def test_compiled_code_may_use_nothing_that_numba_would_take_otherwise() -> None:
    with pytest.raises(TypeError, match=r"LIST: compiled code cannot use \[1, 2\]"):
        _Compiler().compiled(uses_a_list)
    with pytest.raises(TypeError, match=r"rows is list\[int\], not an int or a record"):
        _Compiler().compiled(takes_a_list)


def chooses_of_unlike(rows: Rows) -> int:
    return UNLIKE(1, rows, 2)


def test_a_switch_of_functions_with_different_arguments_is_an_error() -> None:
    with pytest.raises(TypeError, match="the functions of unlike have different arguments"):
        _Compiler().compiled(chooses_of_unlike)


def test_a_switch_calls_the_function_of_a_number() -> None:
    rows = Rows()
    rows.set(at=20, stride=7)
    assert [chooses(number, rows) for number in (3, 5, 4)] == [40, 107, 0]
    compiled = _Compiler().compiled(chooses)
    text = compiled.library.get_llvm_str()
    assert "double" in text
    assert "add" in text
