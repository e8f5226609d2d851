"""The operations that each instruction set does its own way: integer dot products, float16 and back."""

from __future__ import annotations

from collections.abc import Sequence

from llvmlite import ir

from llama_core.backends.jit.build.variants import Isa
from llama_core.backends.jit.kernels.emit import (
    BF16,
    F16,
    F32,
    I8,
    I16,
    I32,
    Code,
    Value,
    element,
    like,
    vector,
)
from llama_core.backends.jit.kernels.operations import absolute, fma, select

# Between these, products of bfloat16 and sums of them are exact above float32's least normal number.
BFLOAT16_LEAST = 2.0**-50
BFLOAT16_MAX = 255 * 2.0**120


class Dots:
    """Sums over columns of weight[r] * number as exact int32: bytes times signed bytes.

    code writes the kernel; starts: per token int32 for each row, where its sum begins; top: the largest
    weight; signed: weights are signed bytes, not unsigned.
    """

    wants_signed = False  # whether weights with an offset of 128 are wanted as signed bytes

    def __init__(self, isa: Isa, code: Code, starts: Sequence[Value], top: int, signed: bool = False) -> None:
        self._isa, self._code, self._top, self._signed = isa, code, top, signed
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
    """AVX2's way. vpmaddubsw adds two products in 16 bits, and saturates. Several words' sums fit there if
    weights are small: eight words of 4 bits, 8 * 2 * 15 * 127. Then one vpmaddwd widens them. A signed weight
    gives its sign to the activation, by vpsignb, and its magnitude, up to 128, is multiplied: 2 * 128 * 127
    fits, once."""

    wants_signed = True

    def __init__(self, isa: Isa, code: Code, starts: Sequence[Value], top: int, signed: bool = False) -> None:
        super().__init__(isa, code, starts, top, signed)
        self._room = 32767 // (2 * 127 * (128 if signed else top))
        self._pairs: list[Value] = []
        self._words = 0

    def add(self, words: Value, fours: Sequence[Value]) -> None:
        """Add 4 columns in 16 bits; the sums are widened before they could saturate."""
        bytes_, pairs = vector(I8, 4 * self._isa.lanes), vector(I16, 2 * self._isa.lanes)
        weights, numbers = words.bits(bytes_), [four.bits(bytes_) for four in fours]
        if self._signed:
            numbers = [self._sign(number, weights) for number in numbers]
            weights = self._sign(weights, weights)
        found = [self._code.call("llvm.x86.avx2.pmadd.ub.sw", pairs, weights, number) for number in numbers]
        if self._pairs:
            sums = zip(self._pairs, found, strict=True)
            found = [self._code.pin(before + new) for before, new in sums]
        self._pairs = found
        self._words += 1
        if self._words == self._room:
            self._widen()

    def _sign(self, number: Value, by: Value) -> Value:
        return self._code.call("llvm.x86.avx2.psign.b", number.type, number, by)

    def _widen(self) -> None:
        ones = self._code.splat(vector(I16, 2 * self._isa.lanes), 1)
        self._totals = [
            self._code.pin(total + self._code.call("llvm.x86.avx2.pmadd.wd", total.type, pair, ones))
            for total, pair in zip(self._totals, self._pairs, strict=True)
        ]
        self._pairs, self._words = [], 0

    def totals(self) -> list[Value]:
        """The sums in 32 bits, what is still in 16 bits included."""
        if self._pairs:
            self._widen()
        return self._totals


class SignedDots(Dots):
    """Arm's way. `sdot` does what vpdpbusd does, but of signed bytes; small weights are both."""

    wants_signed = True

    def add(self, words: Value, fours: Sequence[Value]) -> None:
        """Add 4 columns to each sum with one `sdot`."""
        bytes_ = vector(I8, 4 * self._isa.lanes)
        weights = words.bits(bytes_)
        self._totals = [
            self._code.call(
                "llvm.aarch64.neon.sdot.v4i32.v16i8", total.type, total, weights, four.bits(bytes_)
            )
            for total, four in zip(self._totals, fours, strict=True)
        ]


class PlainDots(Dots):
    """Any processor's way: LLVM makes what it can of shifts and products."""

    def add(self, words: Value, fours: Sequence[Value]) -> None:
        """Add 4 columns, one after the other, in 32 bits."""
        for c in range(4):
            column = (words >> (8 * c)) & 255
            numbers = [(four << (24 - 8 * c)).shift_right_signed(24) for four in fours]
            self._totals = [
                total + column * number for total, number in zip(self._totals, numbers, strict=True)
            ]


def add_pairs(isa: Isa, total: Value, a: Value, b: Value) -> Value:
    """total + the products of the signed halves of a and b, int32 of which each holds two of 16 bits."""
    code, lanes = total.code, isa.lanes
    if isa.name in ("avx512vnni", "avxvnni"):
        return code.call(f"llvm.x86.avx512.vpdpwssd.{32 * lanes}", total.type, total, a, b)
    if isa.name == "avx2":
        pairs = vector(I16, 2 * lanes)
        return total + code.call("llvm.x86.avx2.pmadd.wd", total.type, a.bits(pairs), b.bits(pairs))
    low = (a << 16).shift_right_signed(16) * (b << 16).shift_right_signed(16)
    return total + low + a.shift_right_signed(16) * b.shift_right_signed(16)


_OTHERS: dict[str, type[Dots]] = {"avx2": PairDots, "neondot": SignedDots, "portable": PlainDots}


def dots_of(isa: Isa) -> type[Dots]:
    """The way of an instruction set."""
    return _OTHERS.get(isa.name, Dots)


# A byte shuffle within 16 bytes, by how many bytes a vector has.
_SHUFFLES = {
    16: "llvm.x86.ssse3.pshuf.b.128",
    32: "llvm.x86.avx2.pshuf.b",
    64: "llvm.x86.avx512.pshuf.b.512",
}


def look_up(isa: Isa, words: Value, levels: Sequence[int]) -> Value:
    """The level of each byte of `words`, which are 0 to 15. levels: sixteen bytes, signed or not."""
    code, n = words.code, 4 * isa.lanes
    indices = words.bits(vector(I8, n))
    table = [level & 255 for level in levels]
    if isa.name == "portable":
        return _look_up_by_bits(indices, table).bits(words.type)
    name = "llvm.aarch64.neon.tbl1.v16i8" if isa.name == "neondot" else _SHUFFLES[n]
    constant = ir.Constant(indices.type, [ir.Constant(I8, level) for level in table * (n // 16)])
    return code.call(name, indices.type, Value(code, constant), indices).bits(words.type)


def _look_up_by_bits(indices: Value, table: list[int]) -> Value:
    """Without a shuffle: of each two levels the one that a bit of the index says, four times."""
    candidates = [indices.code.splat(indices.type, level) for level in table]
    for bit in range(4):
        is_set = (indices & (1 << bit)).compare("==", 1 << bit)
        pairs = zip(candidates[::2], candidates[1::2], strict=True)
        candidates = [select(is_set, odd, even) for even, odd in pairs]
    return candidates[0]


def bfloat16_half(isa: Isa, words: Value, half: int) -> Value:
    """What `add_product` takes of pairs of bfloat16, one in each int32: the pair, or one half as float32."""
    if isa.pair_dots:
        return words.bits(vector(BF16, 2 * isa.lanes))
    return (words & 0xFFFF0000 if half else words << 16).bits(vector(F32, isa.lanes))


def add_product(a: Value, b: Value, total: Value) -> Value:
    """total + a * b. Of pairs the odd product is added first, then the even one, rounded after each. So has
    vpdpbf16ps it as long as nothing is below 2^-126; no number that `to_bfloat16` leaves is so small."""
    if element(a.type) == BF16:
        return total.code.call("llvm.x86.avx512bf16.dpbf16ps.512", total.type, total, a, b)
    return fma(a, b, total)


def to_bfloat16(number: Value) -> Value:
    """Float32 rounded to the nearest bfloat16, still float32: 0 below 2^-50, at most the largest."""
    code, magnitude = number.code, absolute(number)
    number = select(magnitude.compare("<", BFLOAT16_LEAST), number * 0.0, number)
    number = select(number.compare(">", BFLOAT16_MAX), code.splat(number.type, BFLOAT16_MAX), number)
    number = select(number.compare("<", -BFLOAT16_MAX), code.splat(number.type, -BFLOAT16_MAX), number)
    return round_to_bfloat16(number)


def round_to_bfloat16(number: Value) -> Value:
    """`to_bfloat16` of what is within its bounds, or 0."""
    bits = number.bits(like(number.type, I32))
    # Half a unit less one, plus the last bit kept, carries where it must. NaN carries into nothing: what
    # arithmetic makes has no low bits.
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) & 0xFFFF0000).bits(number.type)


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
