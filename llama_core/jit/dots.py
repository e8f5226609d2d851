"""The operations that each instruction set does its own way: integer dot products, float16 and back."""

from __future__ import annotations

from llvmlite import ir

from llama_core.jit.emit import F16, F32, I16, I32, Code, F16x16, F32x16, I32x16, Value
from llama_core.jit.operations import select
from llama_core.jit.variants import Isa

I32x8 = ir.VectorType(I32, 8)
I8x32 = ir.VectorType(ir.IntType(8), 32)
I16x16 = ir.VectorType(I16, 16)
LOW, HIGH = range(8), range(8, 16)


def dot_quads(isa: Isa, code: Code, acc: Value, weights: Value, four: Value) -> Value:
    """acc[r] + sum over c of weights[4r + c] * four[c]: unsigned bytes times signed bytes.

    acc: 16 int32. weights: 64 bytes. four: 4 signed bytes in one int32.
    """
    if isa.name == "avx512vnni":
        name = "llvm.x86.avx512.vpdpbusd.512"
        return code.call(name, I32x16, acc, weights.bits(I32x16), four.splat())
    if isa.name in ("avxvnni", "avx2"):
        words, right = weights.bits(I32x16), four.splat(8)
        dot = _vnni_256 if isa.name == "avxvnni" else _madd_256
        halves = [dot(code, acc.shuffle(h), words.shuffle(h), right) for h in (LOW, HIGH)]
        return Value(code, code.builder.shuffle_vector(*(h.ir for h in halves), _both_halves()))
    return _portable(acc, weights.bits(I32x16), four)


def float16(isa: Isa, code: Code, address: Value) -> Value:
    """Sixteen float16 numbers from memory as float32."""
    if isa.name != "portable":
        return code.load(F16x16, address).to(F32x16)
    # Without a conversion instruction LLVM would call a runtime function that may not exist. Moving
    # exponent and fraction into place gives the number divided by 2^112, subnormals included.
    half = code.load(I16x16, address).zero_extend(I32x16)
    magnitude = ((half & 0x7FFF) << 13).bits(F32x16) * 2.0**112
    return (magnitude.bits(I32x16) ^ ((half & 0x8000) << 16)).bits(F32x16)


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


def _both_halves() -> ir.Constant:
    return ir.Constant(ir.VectorType(I32, 16), [ir.Constant(I32, i) for i in range(16)])


def _vnni_256(code: Code, acc: Value, words: Value, right: Value) -> Value:
    return code.call("llvm.x86.avx512.vpdpbusd.256", I32x8, acc, words, right)


def _madd_256(code: Code, acc: Value, words: Value, right: Value) -> Value:
    # vpmaddubsw saturates its 16-bit pair sums, which 8-bit weights would reach; halves of a byte cannot:
    # 2 * 15 * 127 fits. The upper half is then worth 16.
    low, high = words & 0x0F0F0F0F, (words >> 4) & 0x0F0F0F0F
    for part, worth in ((low, 1), (high, 16)):
        pairs = code.call("llvm.x86.avx2.pmadd.ub.sw", I16x16, part.bits(I8x32), right.bits(I8x32))
        acc = acc + code.call("llvm.x86.avx2.pmadd.wd", I32x8, pairs, code.splat(I16x16, worth))
    return acc


def _portable(acc: Value, words: Value, four: Value) -> Value:
    for c in range(4):
        column = (words >> (8 * c)) & 255
        number = (four << (24 - 8 * c)).shift_right_signed(24)
        acc = acc + column * number.splat()
    return acc
