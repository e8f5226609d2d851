"""The operations that each instruction set does its own way: integer dot products, float16 and back."""

from __future__ import annotations

from collections.abc import Sequence

from llama_core.jit.emit import F16, F32, I8, I16, I32, Code, Value, vector
from llama_core.jit.operations import select
from llama_core.jit.variants import Isa


def dot_block(
    isa: Isa, code: Code, start: Value, quants: Sequence[tuple[int, Value]], bits: int, numbers: Value
) -> Value:
    """start[r] + sum over the block's 32 columns of weight[r] * number: unsigned bytes times signed bytes.

    start: int32 per row. quants: (first column, as many int32, each four columns of a row), weights of `bits`
    bits. numbers: the address of 32 signed bytes.
    """
    lanes = start.type.count
    pairs = [(words, code.load(I32, numbers + column)) for column, words in quants]
    if isa.name == "avx2":
        return _madd(code, start, [(words, four.splat(lanes)) for words, four in pairs], bits)
    for words, four in pairs:
        if isa.name == "portable":
            start = _portable(start, words, four)
        else:
            # Both processors' instruction; LLVM knows it by its first name.
            name = f"llvm.x86.avx512.vpdpbusd.{32 * lanes}"
            start = code.call(name, start.type, start, words, four.splat(lanes))
    return start


def float16(isa: Isa, code: Code, address: Value, lanes: int = 16) -> Value:
    """Float16 numbers from memory as float32."""
    wide = vector(F32, lanes)
    if isa.name != "portable":
        return code.load(vector(F16, lanes), address).to(wide)
    # Without a conversion instruction LLVM would call a runtime function that may not exist. Moving
    # exponent and fraction into place gives the number divided by 2^112, subnormals included.
    half = code.load(vector(I16, lanes), address).zero_extend(vector(I32, lanes))
    magnitude = ((half & 0x7FFF) << 13).bits(wide) * 2.0**112
    return (magnitude.bits(half.type) ^ ((half & 0x8000) << 16)).bits(wide)


def to_float16(isa: Isa, number: Value) -> Value:
    """One float32 of a magnitude up to 65504, or NaN, rounded to the nearest float16; as its 16 bits."""
    if isa.name != "portable":
        return number.to(F16).bits(I16)
    bits = number.bits(I32)
    magnitude = bits & 0x7FFFFFFF
    # Rebase the exponent and round: half a unit less one, plus the last bit kept, carries where it must.
    normal = (magnitude - (112 << 23) + 0xFFF + ((magnitude >> 13) & 1)) >> 13
    # Below 2^-14 the spacing is 2^-24, that of float32 just above 0.5: adding 0.5 rounds to it.
    tiny = (magnitude.bits(F32) + 0.5).bits(I32) - 0x3F000000
    half = select(magnitude.compare("<", 113 << 23), tiny, normal)
    half = select(magnitude.compare(">", 255 << 23), number.code.splat(I32, 0x7E00), half)
    return (half ^ ((bits >> 16) & 0x8000)).to(I16)


def _madd(code: Code, total: Value, pairs: Sequence[tuple[Value, Value]], bits: int) -> Value:
    """vpmaddubsw adds two products in 16 bits, and saturates. Of half a byte they are at most 2 * 15 * 127:
    all eight of a block fit, and one vpmaddwd widens their sum. An 8-bit weight is cut into halves, of which
    the upper is worth 16."""
    lanes = total.type.count
    bytes_, words16 = vector(I8, 4 * lanes), vector(I16, 2 * lanes)
    for shift, worth in [(0, 1)] if bits == 4 else [(0, 1), (4, 16)]:
        sums = []
        for words, four in pairs:
            nibble = words if bits == 4 else (words >> shift) & 0x0F0F0F0F
            sums.append(
                code.call("llvm.x86.avx2.pmadd.ub.sw", words16, nibble.bits(bytes_), four.bits(bytes_))
            )
        # In pairs, so that no addition waits for all before it.
        while len(sums) > 1:
            sums = [left + right for left, right in zip(sums[::2], sums[1::2], strict=True)]
        total = total + code.call("llvm.x86.avx2.pmadd.wd", total.type, sums[0], code.splat(words16, worth))
    return total


def _portable(acc: Value, words: Value, four: Value) -> Value:
    for c in range(4):
        column = (words >> (8 * c)) & 255
        number = (four << (24 - 8 * c)).shift_right_signed(24)
        acc = acc + column * number.splat(acc.type.count)
    return acc
