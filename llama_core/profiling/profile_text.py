"""Profiles as Markdown tables, and as the bars that charts and terminals draw."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from llama_core.profiling.bytecode import BytecodeProfile, FunctionCode, totals
from llama_core.profiling.counters import CounterProfile
from llama_core.profiling.inference_profile import InferenceProfile
from llama_core.profiling.kernel_mix import KernelMix
from llama_core.profiling.memory_profile import MemoryProfile
from llama_core.profiling.report import cell, duration

MIB = 1 << 20


@dataclass(frozen=True, slots=True)
class Bars:
    """A bar chart: one value a label, all in `unit`."""

    name: str
    title: str
    unit: str
    values: tuple[tuple[str, float], ...]


@dataclass(frozen=True, slots=True)
class Section:
    """A part of a report: its Markdown and its charts."""

    title: str
    markdown: str
    charts: tuple[Bars, ...] = ()


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = ["| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
    lines += ["| " + " | ".join(cell(text) for text in row) + " |" for row in rows]
    return "\n".join(lines) + "\n"


def terminal_bars(bars: Bars, width: int = 40) -> str:
    """A chart in characters."""
    if not bars.values:
        return ""
    longest = max(len(label) for label, _ in bars.values)
    largest = max(value for _, value in bars.values) or 1.0
    lines = [f"{bars.title} ({bars.unit})"]
    for label, value in bars.values:
        filled = max(0, round(width * value / largest))
        lines.append(f"  {label.ljust(longest)}  {'#' * filled}{' ' * (width - filled)}  {value:,.4g}")
    return "\n".join(lines) + "\n"


def mib(n_bytes: int) -> str:
    return f"{n_bytes / MIB:,.1f} MiB"


def inference_section(profile: InferenceProfile) -> Section:
    phases = [
        (phase.name, duration(phase.seconds), f"{phase.items:,}", f"{phase.per_second:,.0f} {phase.unit}/s")
        for phase in profile.phases
    ]
    said = (
        f"{profile.prompt_n} prompt tokens, {profile.generated_n} generated at "
        f"{profile.timings.predicted_per_second:,.1f} tok/s with {profile.threads} threads; first token "
        f"after {duration(profile.timings.ttft_s)}. Memory: weights {mib(profile.weights_bytes)}, KV cache "
        f"{mib(profile.kv_bytes)}, scratch {mib(profile.scratch_bytes)}, peak of the process "
        f"{mib(profile.peak_bytes)}.\n"
    )
    parts = [markdown_table(("phase", "time", "items", "rate"), phases), said]
    charts = [
        Bars(
            f"phases-{_slug(profile.backend)}",
            f"Phases, {profile.backend}",
            "s",
            tuple((phase.name, phase.seconds) for phase in profile.phases),
        )
    ]
    for phase, rows in profile.operations.items():
        table = [
            (row.name, duration(row.seconds), f"{row.percent:.1f} %", f"{row.calls:,}", _layers(row.by_layer))
            for row in rows
        ]
        header = ("operation", "time", "share", "calls", "per layer: least, median, most")
        parts += [f"Operations of {phase}:\n", markdown_table(header, table)]
        name = f"operations-{phase}-{_slug(profile.backend)}"
        values = tuple((row.name, row.percent) for row in rows)
        charts.append(Bars(name, f"Operations of {phase}, {profile.backend}", "%", values))
    if profile.timers_cost is not None:
        parts.append(
            f"With these timers on, decoding ran at {profile.timers_cost:.2f} of its rate without.\n"
        )
    else:
        parts.append("This backend computes a step in one compiled call: there is no operation to time.\n")
    functions = [
        (
            row.name,
            f"{row.calls:,}",
            duration(row.total_s),
            duration(row.cumulative_s),
            f"{row.percent:.1f} %",
        )
        for row in profile.functions
    ]
    parts += [
        "Functions (cProfile, which slows small calls most):\n",
        markdown_table(("function", "calls", "own time", "with callees", "share"), functions),
    ]
    return Section(f"Inference, {profile.backend}", "\n".join(parts), tuple(charts))


def _layers(by_layer: dict[int, float]) -> str:
    seconds = sorted(s for layer, s in by_layer.items() if layer >= 0)
    if not seconds:
        return ""
    return ", ".join(duration(s) for s in (seconds[0], seconds[len(seconds) // 2], seconds[-1]))


def _slug(text: str) -> str:
    return "".join(c if c.isalnum() else "-" for c in text.lower()).strip("-")


def bytecode_section(profile: BytecodeProfile, top: int = 12) -> Section:
    sides = (("engine", profile.engine), ("baseline", profile.baseline))
    parts = [f"Instructions as Python {profile.python} compiles them.\n"]
    summary = []
    for name, functions in sides:
        whole = totals(functions)
        commonest = ", ".join(f"{opcode} {n}" for opcode, n in list(whole.opcodes.items())[:6])
        summary.append((name, str(len(functions)), *_code_cells(whole)[1:], commonest))
    header = ("code", "functions", "instructions", "attribute loads", "keyword calls", "commonest opcodes")
    parts.append(markdown_table(header, summary))
    for name, functions in sides:
        rows = [_code_cells(function) for function in functions[:top]]
        parts += [f"Longest functions of the {name}:\n", markdown_table(("function", *header[2:5]), rows)]
    charts = tuple(
        Bars(
            f"bytecode-{name}",
            f"Longest functions, {name}",
            "instructions",
            tuple((function.name, float(function.instructions)) for function in functions[:top]),
        )
        for name, functions in sides
    )
    return Section("Bytecode", "\n".join(parts), charts)


def _code_cells(code: FunctionCode) -> tuple[str, str, str, str]:
    return (code.name, f"{code.instructions:,}", f"{code.attribute_loads:,}", f"{code.keyword_calls:,}")


def memory_section(profile: MemoryProfile) -> Section:
    account = profile.account
    rows = (
        ("before the model was loaded", profile.before_bytes),
        ("weights", account.weights_bytes),
        ("KV cache, positions in use", account.kv_used_bytes),
        ("scratch", account.scratch_bytes),
        ("mapped file", account.mapped_bytes),
        ("not accounted for", profile.unaccounted_bytes),
        ("resident size", account.resident_bytes),
        ("KV cache, reserved", account.kv_bytes),
    )
    parts = [markdown_table(("part", "size"), [(name, mib(size)) for name, size in rows])]
    for step in profile.steps:
        parts.append(
            f"One {step.name} step of {step.tokens} tokens allocated {step.peak_bytes:,} bytes at its peak "
            f"and kept {step.kept_bytes:,}. Held before the middle layer:\n"
        )
        lines = [(line.place, f"{line.held_bytes:,}", f"{line.blocks:,}") for line in step.lines]
        parts.append(markdown_table(("line", "bytes", "blocks"), lines))
    values = tuple((name, max(0.0, size / MIB)) for name, size in rows[:6])
    chart = Bars(f"memory-{_slug(profile.backend)}", f"Resident memory, {profile.backend}", "MiB", values)
    return Section(f"Memory, {profile.backend}", "\n".join(parts), (chart,))


def counters_section(profile: CounterProfile, variant: str, kernels: Sequence[KernelMix]) -> Section:
    parts = [profile.said + "\n"]
    if profile.per_token:
        rows = [(name, f"{value:,.0f}") for name, value in profile.per_token.items()]
        parts += [
            f"For each decoded token of {profile.model}, backend {profile.backend}:\n",
            markdown_table(("event", "per token"), rows),
        ]
    charts: tuple[Bars, ...] = ()
    if kernels:
        kinds = sorted({kind for kernel in kernels[:10] for kind in kernel.kinds})
        table = [
            (kernel.name, str(kernel.instructions), *(str(kernel.kinds.get(kind, 0)) for kind in kinds))
            for kernel in kernels[:10]
        ]
        parts += [
            f"Instructions in the assembly of the longest compiled kernels, variant {variant}:\n",
            markdown_table(("kernel", "all", *kinds), table),
        ]
        values = tuple((kernel.name, float(kernel.instructions)) for kernel in kernels[:10])
        charts = (Bars("kernels", f"Longest kernels, {variant}", "instructions", values),)
    else:
        parts.append(f"Compiled kernels: {variant}.\n")
    return Section("Counters", "\n".join(parts), charts)
