"""What the compiled kernels are made of: their assembly's instructions by kind."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass

# Kinds of instructions by mnemonic, x86 and Arm; the first that matches counts.
_KINDS: tuple[tuple[str, str], ...] = (
    ("integer dot product", r"v?pdpbusds?|v?pmaddubsw|v?pmaddwd|[su]dot|u?sdot|smmla"),
    ("fused multiply-add", r"v?fn?m(add|sub)\d*[ps][sd]|fml[as]"),
    (
        "float arithmetic",
        r"v?(add|sub|mul|div|max|min|sqrt|rcp14|rsqrt14|scalef|rndscale)[ps][sd]|f(add|sub|mul|div|max|min)",
    ),
    ("conversion", r"v?cvt\w+|[su]cvtf|fcvt\w*|v?pmov[sz]x\w+"),
    (
        "shuffle and broadcast",
        r"v?p?(shuf|perm|unpck|broadcast|align|blend|insert|extract)\w*|v?punpck\w+|zip\d|uzp\d|tbl|dup|ext",
    ),
    (
        "vector logic and integer",
        r"v?(xor|and|andn|or)p[sd]|v?p(and|andn|or|xor|add|sub|sll|srl|sra|mull|max|min|ternlog|abs|cmp|test)\w*",
    ),
    ("vector move", r"v?mov(ap|up|dqa|dqu|nt|s[sd]|d|q|hl|lh)\w*|ld[1234rp]\w*|st[1234p]\w*"),
    ("branch and call", r"j\w+|call\w*|ret\w*|b(\.\w+)?|bl|cb\w+|tb\w+"),
)
_PATTERNS = tuple((kind, re.compile(pattern)) for kind, pattern in _KINDS)
OTHER = "scalar and addresses"


@dataclass(frozen=True, slots=True)
class KernelMix:
    """One kernel: its instructions in all, by kind, and its commonest mnemonics."""

    name: str
    instructions: int
    kinds: dict[str, int]
    commonest: dict[str, int]


def kind_of(mnemonic: str) -> str:
    """The kind of an instruction."""
    return next((kind for kind, pattern in _PATTERNS if pattern.fullmatch(mnemonic)), OTHER)


def parse_assembly(text: str) -> list[KernelMix]:
    """Count the instructions below each function's label, the longest function first."""
    counts: dict[str, Counter[str]] = {}
    current: Counter[str] | None = None
    for line in text.splitlines():
        label = re.match(r"([A-Za-z_$][\w.$]*):", line)
        if label and not label[1].startswith((".L", "L_", "LCPI")):
            current = counts.setdefault(label[1], Counter())
            continue
        instruction = re.match(r"\s+([a-z][a-z0-9.]*)\b(?!:)", line)
        if instruction and current is not None:
            current[instruction[1]] += 1
    mixes = []
    for name, mnemonics in counts.items():
        if mnemonics:
            kinds: Counter[str] = Counter()
            for mnemonic, n in mnemonics.items():
                kinds[kind_of(mnemonic)] += n
            total = mnemonics.total()
            mixes.append(KernelMix(name, total, dict(kinds.most_common()), dict(mnemonics.most_common(6))))
    return sorted(mixes, key=lambda mix: -mix.instructions)


def profile_kernels() -> tuple[str, list[KernelMix]]:
    """The variant that this machine runs, and its kernels; where there are none, the reason instead."""
    from llama_core.backends import jit

    reason = jit.jit_available()
    if reason is not None:
        return f"not measured: {reason}", []
    import llvmlite.binding as llvm

    from llama_core.backends.jit.build.objects import kernel_ir, optimise, target_machine
    from llama_core.backends.jit.build.variants import choose, host_features

    variant = choose(host_features())
    machine = target_machine(variant)
    module = llvm.parse_assembly(kernel_ir(variant))
    optimise(module, machine)
    return variant.name, parse_assembly(machine.emit_assembly(module))
