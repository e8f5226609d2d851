"""The instruction sets that kernels are written for, and which of them this processor has.

Every variant computes the same integers. Floating-point code is shared, or rounds in the same places (for
products of bfloat16, in `dots.py`). So all variants give the same bits. A variant can be forced
(`LLAMA_CORE_JIT_ISA`, or the `isa` argument), which is how the tests run each of them on one machine. Nothing
here imports LLVM: a start with cached kernels does without.
"""

from __future__ import annotations

import platform
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

# Linux's names where they differ from LLVM's.
_LINUX_NAMES = {
    "avx512_vnni": "avx512vnni",
    "avx512_bf16": "avx512bf16",
    "avx_vnni": "avxvnni",
    "asimddp": "dotprod",
}


@dataclass(frozen=True, slots=True)
class Isa:
    """A variant. `tiles`: how many tokens a matrix kernel takes at once, largest first, and `lanes`: how many
    32-bit numbers a kernel's vector holds, as the registers allow. `sums`: how many such vectors may gather
    results while others are loaded. `cpu` and `features` are LLVM's names for what the code may use; an empty
    `cpu` means the host and all it has beside `features`. `needs`: the CPU features without which it cannot
    run. `pair_dots`: whether this host multiplies pairs of bfloat16 by one instruction."""

    name: str
    tiles: tuple[int, ...]
    lanes: int = 16
    sums: int = 16
    cpu: str = ""
    features: str = ""
    needs: tuple[str, ...] = ()
    pair_dots: bool = False


AVX512_VNNI = Isa("avx512vnni", (8, 4, 2, 1), needs=("avx512f", "avx512bw", "avx512vl", "avx512vnni"))
AVX_VNNI = Isa("avxvnni", (4, 2, 1), 8, 8, "x86-64-v3", "+avxvnni", needs=("avx2", "fma", "f16c", "avxvnni"))
AVX2 = Isa("avx2", (4, 2, 1), 8, 8, "x86-64-v3", needs=("avx2", "fma", "f16c"))
NEON_DOT = Isa("neondot", (4, 2, 1), 4, 16, features="+dotprod", needs=("dotprod",))
PORTABLE = Isa("portable", (4, 2, 1), 16, 6)
VARIANTS = {isa.name: isa for isa in (AVX512_VNNI, AVX_VNNI, AVX2, NEON_DOT, PORTABLE)}


def choose(features: Mapping[str, bool], forced: str | None = None) -> Isa:
    """The best variant for a CPU with these features; raises ValueError when the forced one cannot run."""
    if forced:
        if forced not in VARIANTS:
            raise ValueError(f"no instruction set {forced!r}; known are {', '.join(VARIANTS)}")
        missing = [f for f in VARIANTS[forced].needs if not features.get(f)]
        if missing:
            raise ValueError(f"this CPU lacks {', '.join(missing)}, which {forced} needs")
        found = VARIANTS[forced]
    else:
        found = next(isa for isa in VARIANTS.values() if all(features.get(f) for f in isa.needs))
    if found is AVX512_VNNI and features.get("avx512bf16"):
        return replace(found, pair_dots=True)
    return found


def host_features() -> Mapping[str, bool]:
    """What this processor can do, by LLVM's names of features."""
    if sys.platform == "darwin" and platform.machine() == "arm64":
        return {"dotprod": True}  # every Apple processor that macOS runs on has it
    described = cpu_description()
    if described is None:
        return llvm_features()
    # One line lists them: "flags" on x86, "Features" on Arm.
    lines = (line.partition(":") for line in described.splitlines())
    flags = [
        flag for name, _, listed in lines if name.strip() in ("flags", "Features") for flag in listed.split()
    ]
    return {_LINUX_NAMES.get(flag, flag): True for flag in flags}


def llvm_features() -> dict[str, bool]:
    """What LLVM knows of this processor: nothing, on some systems."""
    import llvmlite.binding as llvm

    try:
        return dict(llvm.get_host_cpu_features())
    except RuntimeError:
        return {}


def llvm_feature_list() -> str:
    """The same in the form in which LLVM takes it."""
    return ",".join(f"{'+' if has else '-'}{name}" for name, has in sorted(llvm_features().items()))


def cpu_description() -> str | None:
    """The first processor as Linux describes it, None elsewhere."""
    if not sys.platform.startswith("linux"):
        return None
    try:
        return Path("/proc/cpuinfo").read_text().partition("\n\n")[0]
    except OSError:
        return None
