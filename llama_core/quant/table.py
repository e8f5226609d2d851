"""The GGML tensor types: one row a type, as the GGUF specification numbers them."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class BlockFormat:
    """A tensor type: `block_size` values stand in `block_bytes` bytes."""

    name: str
    ggml_id: int
    block_size: int
    block_bytes: int

    def row_bytes(self, n_values: int) -> int:
        """Bytes of a row of `n_values`; raises `ValueError` when the row does not end on a block."""
        blocks, rest = divmod(n_values, self.block_size)
        if rest:
            raise ValueError(f"a row of {n_values} is no multiple of {self.name} blocks of {self.block_size}")
        return blocks * self.block_bytes


F32 = BlockFormat("F32", 0, 1, 4)
F16 = BlockFormat("F16", 1, 1, 2)
Q4_0 = BlockFormat("Q4_0", 2, 32, 18)
Q4_1 = BlockFormat("Q4_1", 3, 32, 20)
Q5_0 = BlockFormat("Q5_0", 6, 32, 22)
Q5_1 = BlockFormat("Q5_1", 7, 32, 24)
Q8_0 = BlockFormat("Q8_0", 8, 32, 34)
Q2_K = BlockFormat("Q2_K", 10, 256, 84)
Q3_K = BlockFormat("Q3_K", 11, 256, 110)
Q4_K = BlockFormat("Q4_K", 12, 256, 144)
Q5_K = BlockFormat("Q5_K", 13, 256, 176)
Q6_K = BlockFormat("Q6_K", 14, 256, 210)
Q8_K = BlockFormat("Q8_K", 15, 256, 292)
IQ2_XXS = BlockFormat("IQ2_XXS", 16, 256, 66)
IQ2_XS = BlockFormat("IQ2_XS", 17, 256, 74)
IQ3_XXS = BlockFormat("IQ3_XXS", 18, 256, 98)
IQ1_S = BlockFormat("IQ1_S", 19, 256, 50)
IQ4_NL = BlockFormat("IQ4_NL", 20, 32, 18)
IQ3_S = BlockFormat("IQ3_S", 21, 256, 110)
IQ2_S = BlockFormat("IQ2_S", 22, 256, 82)
IQ4_XS = BlockFormat("IQ4_XS", 23, 256, 136)
F64 = BlockFormat("F64", 28, 1, 8)
IQ1_M = BlockFormat("IQ1_M", 29, 256, 56)
BF16 = BlockFormat("BF16", 30, 1, 2)
TQ1_0 = BlockFormat("TQ1_0", 34, 256, 54)
TQ2_0 = BlockFormat("TQ2_0", 35, 256, 66)
MXFP4 = BlockFormat("MXFP4", 39, 32, 17)
NVFP4 = BlockFormat("NVFP4", 40, 64, 36)

# What a GGUF file may name and `dequantize` can read.
_ALL = (
    *(F32, F16, BF16, F64, Q4_0, Q4_1, Q5_0, Q5_1, Q8_0),
    *(Q2_K, Q3_K, Q4_K, Q5_K, Q6_K, Q8_K),
    *(IQ1_S, IQ1_M, IQ2_XXS, IQ2_XS, IQ2_S, IQ3_XXS, IQ3_S),
    *(IQ4_NL, IQ4_XS, MXFP4, NVFP4, TQ1_0, TQ2_0),
)
FORMATS: dict[int, BlockFormat] = {f.ggml_id: f for f in _ALL}
BY_NAME: dict[str, BlockFormat] = {f.name: f for f in FORMATS.values()}


def int8_groups(size: int) -> BlockFormat:
    """llama2.c's int8 weights, `size` of them to a float32 scale; in no GGUF file, hence the number -1."""
    return BlockFormat("Q8_GROUP", -1, size, 4 + size)


# Types with a number but no reader: scratch formats, integers, and layouts that GGML has given up.
UNREADABLE: dict[int, str] = {
    4: "Q4_2",
    5: "Q4_3",
    9: "Q8_1",
    24: "I8",
    25: "I16",
    26: "I32",
    27: "I64",
    31: "Q4_0_4_4",
    32: "Q4_0_4_8",
    33: "Q4_0_8_8",
    36: "IQ4_NL_4_4",
    37: "IQ4_NL_4_8",
    38: "IQ4_NL_8_8",
    41: "Q1_0",
}
