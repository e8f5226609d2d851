"""The operations that each instruction set does its own way: integer dot products, float16 and back."""

from __future__ import annotations

from collections.abc import Sequence

from llama_core.backends.jit.build.variants import Isa
from llama_core.backends.jit.kernels.emit import F16, F32, I8, I16, I32, Code, Value, vector
from llama_core.backends.jit.kernels.operations import select


class Dots:
    """Sums over a block's columns of weight[r] * number: unsigned bytes times signed bytes, as exact int32.

    code writes the kernel; starts: per token int32 for each row, where its sum begins; bits: of a weight.
    """

    takes_off = 0  # what is taken off every 8-bit weight

    def __init__(self, isa: Isa, code: Code, starts: Sequence[Value], bits: int) -> None:
        self._isa, self._code, self._bits = isa, code, bits
        self._totals = list(starts)

    def add(self, words: Value, fours: Sequence[Value]) -> None:
        """Four columns. words: an int32 for each row, four weights. fours: per token its four numbers in one
        int32, in every lane."""
        # Both processors' instruction; LLVM knows it by its first name.
        name = f"llvm.x86.avx512.vpdpbusd.{32 * self._isa.lanes}"
        self._totals = [
            self._code.call(name, total.type, total, words, four)
            for total, four in zip(self._totals, fours, strict=True)
        ]

    def totals(self) -> list[Value]:
        """Per token the sums of all rows."""
        return self._totals


class PairDots(Dots):
    """AVX2's way. vpmaddubsw adds two products in 16 bits, and saturates. Of half a byte they are at most
    2 * 15 * 127: all eight of a block fit, and one vpmaddwd widens their sum. An 8-bit weight is cut into
    halves, of which the upper is worth 16."""

    def __init__(self, isa: Isa, code: Code, starts: Sequence[Value], bits: int) -> None:
        super().__init__(isa, code, starts, bits)
        self._pairs: dict[int, list[Value]] = {}

    def add(self, words: Value, fours: Sequence[Value]) -> None:
        bytes_, pairs = vector(I8, 4 * self._isa.lanes), vector(I16, 2 * self._isa.lanes)
        halves = {1: words} if self._bits == 4 else {1: words & 0x0F0F0F0F, 16: (words >> 4) & 0x0F0F0F0F}
        for worth, half in halves.items():
            found = [
                self._code.call("llvm.x86.avx2.pmadd.ub.sw", pairs, half.bits(bytes_), four.bits(bytes_))
                for four in fours
            ]
            if worth in self._pairs:
                sums = zip(self._pairs[worth], found, strict=True)
                found = [self._code.pin(before + new) for before, new in sums]
            self._pairs[worth] = found

    def totals(self) -> list[Value]:
        totals = self._totals
        for worth, pairs in self._pairs.items():
            worths = self._code.splat(vector(I16, 2 * self._isa.lanes), worth)
            totals = [
                total + self._code.call("llvm.x86.avx2.pmadd.wd", total.type, pair, worths)
                for total, pair in zip(totals, pairs, strict=True)
            ]
        return totals


class SignedDots(Dots):
    """Arm's way. `sdot` does what vpdpbusd does, but of signed bytes: half a byte is never negative, and an
    8-bit weight less 128 fits."""

    takes_off = 128

    def add(self, words: Value, fours: Sequence[Value]) -> None:
        bytes_ = vector(I8, 4 * self._isa.lanes)
        signed = (words if self._bits == 4 else words ^ 0x80808080).bits(bytes_)
        self._totals = [
            self._code.call(
                "llvm.aarch64.neon.sdot.v4i32.v16i8", total.type, total, signed, four.bits(bytes_)
            )
            for total, four in zip(self._totals, fours, strict=True)
        ]


class PlainDots(Dots):
    """Any processor's way: LLVM makes what it can of shifts and products."""

    def add(self, words: Value, fours: Sequence[Value]) -> None:
        for c in range(4):
            column = (words >> (8 * c)) & 255
            numbers = [(four << (24 - 8 * c)).shift_right_signed(24) for four in fours]
            self._totals = [
                total + column * number for total, number in zip(self._totals, numbers, strict=True)
            ]


_OTHERS: dict[str, type[Dots]] = {"avx2": PairDots, "neondot": SignedDots, "portable": PlainDots}


def dots_of(isa: Isa) -> type[Dots]:
    """The way of an instruction set."""
    return _OTHERS.get(isa.name, Dots)


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
