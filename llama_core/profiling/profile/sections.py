"""Profiles as Markdown tables, and as the bars that charts and terminals draw."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from llama_core.backends.base import NO_LAYER
from llama_core.profiling.formatting import MIB, duration, markdown_table, mib, number, slug
from llama_core.profiling.profile.bytecode import BytecodeProfile, FunctionCode, totals
from llama_core.profiling.profile.counters import CounterProfile
from llama_core.profiling.profile.first_version import FirstVersionProfile
from llama_core.profiling.profile.inference import FunctionRow, InferenceProfile, Phase
from llama_core.profiling.profile.memory import MemoryProfile, StepAllocation
from llama_core.profiling.profile.operations import OperationTable


@dataclass(frozen=True, slots=True)
class Bars:
    """A bar chart: one value a label, all in `unit`."""

    name: str
    title: str
    unit: str
    values: tuple[tuple[str, float], ...]


@dataclass(frozen=True, slots=True)
class Section:
    """A part of a report: its Markdown, its charts, and the .pstats file that belongs to it."""

    title: str
    markdown: str
    charts: tuple[Bars, ...] = ()
    stats_name: str = ""
    pstats: bytes = b""


def short_name(backend: str) -> str:
    """A backend for a title: "jit avx2" of "jit avx2 (Q4_1 as q4m, Q8_0 as q8)"."""
    return backend.partition(" (")[0]


# Rows of a table of executed functions.
EXECUTED = 8


def bytecode_section(profile: BytecodeProfile, top: int = 20) -> Section:
    """Functions by their instructions, the engine's beside the baseline's, `top` of each."""
    sides = (("engine", profile.engine), ("baseline", profile.baseline))
    header = ("functions", "instructions", "attribute loads", "keyword calls")
    whole = {name: totals(functions) for name, functions in sides}
    summary = [(name, str(len(functions)), *_code_cells(whole[name])[1:4]) for name, functions in sides]
    parts = [
        f"Instructions as Python {profile.python} compiles them.\n",
        markdown_table(("code", *header), summary),
        "The commonest opcodes, and their share of all instructions:\n",
        _opcode_table(whole["engine"], whole["baseline"]),
    ]
    for name, functions in sides:
        rows = [_code_cells(function) for function in functions[:top]]
        said = f"Longest functions of the {name} (of {len(functions)}; report.json has them all):\n"
        parts += [said, markdown_table(("function", *header[1:], "commonest opcodes"), rows)]
    for step in profile.steps:
        most = [(one.name, f"{one.calls:,}", f"{one.instructions:,}") for one in step.functions[:EXECUTED]]
        said = (
            f"Executed in one step, {step.name} ({step.n_layers} layers): {step.instructions:,} instructions "
            f"in {step.calls:,} calls. The most:\n"
        )
        parts += [said, markdown_table(("function", "calls", "instructions executed"), most)]
    charts = tuple(
        Bars(
            f"bytecode-{name}",
            f"Longest functions, {name}",
            "instructions",
            tuple((function.name, float(function.instructions)) for function in functions[:12]),
        )
        for name, functions in sides
    )
    return Section("Bytecode", "\n".join(parts), charts)


def _opcode_table(engine: FunctionCode, baseline: FunctionCode, top: int = 12) -> str:
    commonest = list(dict.fromkeys([*list(engine.opcodes)[:top], *list(baseline.opcodes)[:top]]))

    def counted(code: FunctionCode, opcode: str) -> str:
        n = code.opcodes.get(opcode, 0)
        return f"{n:,} ({100 * n / max(1, code.instructions):.1f} %)"

    rows = [(opcode, counted(engine, opcode), counted(baseline, opcode)) for opcode in commonest]
    return markdown_table(("opcode", "engine", "baseline"), rows)


def _code_cells(code: FunctionCode) -> tuple[str, str, str, str, str]:
    commonest = ", ".join(f"{opcode} {n}" for opcode, n in list(code.opcodes.items())[:3])
    loads, calls = f"{code.attribute_loads:,}", f"{code.keyword_calls:,}"
    return code.name, f"{code.instructions:,}", loads, calls, commonest


def memory_section(profile: MemoryProfile) -> Section:
    """What holds the resident memory: parts that add up to it, then the steps that were watched."""
    account = profile.account
    compiled = profile.backend.startswith("jit")
    rows = (
        ("interpreter and libraries, before the model was loaded", profile.before_bytes),
        ("packed weights" if compiled else "weights, float32", account.weights_bytes),
        (f"KV cache: {profile.context_n:,} positions in use", account.kv_used_bytes),
        ("KV cache: the rest of the pages that these touch", profile.kv_page_bytes),
        ("scratch", account.scratch_bytes),
        ("pages of the model's file", profile.file_bytes),
        ("the rest: code loaded with the model, tokenizer, allocator", profile.rest_bytes),
    )
    table = [*rows, ("resident size, the sum", account.resident_bytes)]
    reserved = (
        f"The KV cache reserves {mib(account.kv_bytes)} for {profile.capacity_n:,} positions; memory is "
        "taken as pages are written (of 2 MiB in the compiled backend, where the system gives such).\n"
    )
    parts = [markdown_table(("part", "size"), [(name, mib(size)) for name, size in table]), reserved]
    for step in profile.steps:
        parts.append(_step_text(step))
    values = tuple((name.partition(",")[0], max(0.0, size / MIB)) for name, size in rows)
    name = short_name(profile.backend)
    chart = Bars(f"memory-{slug(name)}", f"Resident memory, {name}", "MiB", values)
    return Section(f"Memory, {profile.backend}", "\n".join(parts), (chart,))


def _step_text(step: StepAllocation) -> str:
    what = f"One prefill pass of {step.tokens} tokens" if step.name == "prefill" else "One decode step"
    return f"{what} took {step.peak_bytes:,} bytes at once at most, of which {step.kept_bytes:,} were kept.\n"


def counters_section(profiles: Sequence[CounterProfile]) -> Section:
    """What was counted a token."""
    parts = [said + "\n" for said in dict.fromkeys(profile.said for profile in profiles)]
    for profile in profiles:
        if profile.per_token:
            rows = [(name, f"{value:,.0f}") for name, value in profile.per_token.items()]
            parts += [
                f"For each decoded token of {profile.model}, backend {profile.backend}:\n",
                markdown_table(("event", "per token"), rows),
            ]
    return Section("Counters", "\n".join(parts))


_COMPILED = (
    "The compiled backend has norm and RoPE inside its products and its attention. Of a prompt, threads take "
    "tokens through whole layers; the last layer computes the last token only, and of the others keys and "
    "values. In the table by operation, threads share each operation out, and the last layer computes all.\n"
)


def inference_section(profile: InferenceProfile, *, layers: bool = False) -> Section:
    """The phases, what the reply came to, the operations (layer by layer where asked for), the functions."""
    name = short_name(profile.backend)
    parts = [
        markdown_table(("phase", "time", "amount", "rate"), [_phase_cells(p) for p in profile.phases]),
        markdown_table(("reply", ""), _reply_rows(profile)),
    ]
    phases = tuple((phase.name, phase.seconds) for phase in profile.phases)
    charts = [Bars(f"phases-{slug(name)}", f"Phases, {name}", "seconds", phases)]
    if name.startswith("jit"):
        parts.append(_COMPILED)
    for phase, table in profile.operations.items():
        parts += _operation_parts(phase, table, layers)
        values = tuple((row.name, max(0.0, row.percent)) for row in table.rows)
        file = f"operations-{slug(phase)}-{slug(name)}"
        charts.append(Bars(file, f"Operations of {phase}, {name}", "% of the time", values))
    parts += ["Functions (cProfile, which slows small calls most):\n", function_table(profile.functions)]
    stats_name = f"inference-{slug(name)}.pstats"
    return Section(
        f"Inference, {profile.backend}", "\n".join(parts), tuple(charts), stats_name, profile.pstats
    )


def _phase_cells(phase: Phase) -> tuple[str, str, str, str]:
    seconds = duration(phase.seconds)
    if phase.unit == "B":
        return phase.name, seconds, mib(phase.items), f"{mib(round(phase.per_second))}/s"
    if not phase.items:
        return phase.name, seconds, "", ""
    return phase.name, seconds, f"{phase.items:,} {phase.unit}", f"{number(phase.per_second)} {phase.unit}/s"


def _interpreter(profile: InferenceProfile) -> str:
    """See `interpreter_share`."""
    return f"{100 * profile.interpreter_share:.3g} %"


def _reply_rows(profile: InferenceProfile) -> list[tuple[str, str]]:
    return [
        ("tokens of the prompt", f"{profile.prompt_n:,}"),
        ("tokens generated", f"{profile.generated_n:,}"),
        ("tokens per second, after the first", number(profile.timings.predicted_per_second)),
        ("first token after", duration(profile.timings.ttft_s)),
        ("share of the interpreter in a decode step", _interpreter(profile)),
        ("threads", f"{profile.threads}"),
        ("model memory (weights)", mib(profile.weights_bytes)),
        ("KV cache, in use", f"{mib(profile.kv_used_bytes)} of {mib(profile.kv_bytes)} reserved"),
        ("scratch", mib(profile.scratch_bytes)),
        ("peak memory of the process", mib(profile.peak_bytes)),
    ]


def _operation_parts(phase: str, table: OperationTable, layers: bool) -> list[str]:
    rows = [
        (row.name, duration(row.seconds), f"{row.percent:.1f} %", f"{row.calls:,}" if row.calls else "")
        for row in table.rows
    ]
    rows.append(("sum", duration(table.total_s), "100.0 %", ""))
    share = 100 * table.clocks_s / table.total_s if table.total_s > 0 else 0.0
    clocks = f" (looking at the clock took about {share:.1f} % of it)" if table.clocks_s else ""
    return [
        f"Operations of {phase}{clocks}:\n",
        markdown_table(("operation", "time", "share", "calls"), rows),
        *(("The same by layer, in milliseconds:\n", _layer_table(table)) if layers else ()),
    ]


def _layer_table(table: OperationTable) -> str:
    """A row a layer, and one for what belongs to none; a column an operation."""
    names = [row.name for row in table.rows if row.by_layer]
    layers = sorted({layer for row in table.rows for layer in row.by_layer if layer != NO_LAYER})
    unlayered = {row.name: row.by_layer.get(NO_LAYER, 0.0) for row in table.rows}
    by_name = {row.name: row.by_layer for row in table.rows}

    def cells(title: str, seconds: list[float]) -> tuple[str, ...]:
        return (title, *(number(1e3 * s) if s else "" for s in seconds), number(1e3 * sum(seconds)))

    rows = [cells(str(layer), [by_name[name].get(layer, 0.0) for name in names]) for layer in layers]
    if any(unlayered.values()):
        rows.append(cells("none", [unlayered[name] for name in names]))
    return markdown_table(("layer", *names, "sum"), rows)


def function_table(functions: Sequence[FunctionRow]) -> str:
    """cProfile's columns, and the shares of the whole."""
    rows = [
        (
            row.name,
            f"{row.calls:,}",
            duration(row.total_s),
            duration(row.total_s / max(1, row.calls)),
            f"{row.percent:.3g} %",
            duration(row.cumulative_s),
            f"{row.cumulative_percent:.3g} %",
        )
        for row in functions
    ]
    header = ("function", "ncalls", "tottime", "percall", "share", "cumtime", "share")
    return markdown_table(header, rows)


def first_version_section(profile: FirstVersionProfile) -> Section:
    """Phases and functions of the first version."""
    phases = tuple((phase.name, phase.seconds) for phase in profile.phases)
    parts = [
        markdown_table(("phase", "time", "amount", "rate"), [_phase_cells(p) for p in profile.phases]),
        "Functions (cProfile, which slows small calls most):\n",
        function_table(profile.functions),
    ]
    chart = Bars("phases-first-version", "Phases, first version", "seconds", phases)
    stats_name = "inference-first-version.pstats"
    return Section("Inference, first version", "\n".join(parts), (chart,), stats_name, profile.pstats)
