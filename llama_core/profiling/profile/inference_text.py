"""An inference profile as tables and charts."""

from __future__ import annotations

from llama_core.profiling.lab.report import duration
from llama_core.profiling.profile.inference import InferenceProfile, Phase
from llama_core.profiling.profile.op_timers import NO_LAYER
from llama_core.profiling.profile.operations import OperationTable
from llama_core.profiling.profile.text import Bars, Section, markdown_table, mib, short_name, slug

_COMPILED = (
    "The compiled backend has norm and RoPE inside its products and its attention, and several layers in one "
    "call. For the times of whole layers it was called layer by layer. Of a prompt, the last layer computes "
    "the last token only, and of the others keys and values. The operations within a layer were watched from "
    "another core: there one thread computes, and a prompt operation by operation. What passed while the "
    'watcher was kept from looking is "not seen".\n'
)


def inference_section(profile: InferenceProfile) -> Section:
    """The phases, what the reply came to, the operations by layer, the functions."""
    name = short_name(profile.backend)
    parts = [
        markdown_table(("phase", "seconds", "amount", "rate"), [_phase_cells(p) for p in profile.phases]),
        markdown_table(("reply", ""), _reply_rows(profile)),
    ]
    phases = tuple((phase.name, phase.seconds) for phase in profile.phases)
    charts = [Bars(f"phases-{slug(name)}", f"Phases, {name}", "seconds", phases)]
    if name.startswith("jit"):
        parts.append(_COMPILED)
    for phase, table in profile.operations.items():
        parts += _operation_parts(phase, table)
        values = tuple((row.name, max(0.0, row.percent)) for row in table.rows)
        file = f"operations-{slug(phase)}-{slug(name)}"
        charts.append(Bars(file, f"Operations of {phase}, {name}", "% of the time", values))
    parts += ["Functions (cProfile, which slows small calls most):\n", _function_table(profile)]
    return Section(f"Inference, {profile.backend}", "\n".join(parts), tuple(charts))


def _phase_cells(phase: Phase) -> tuple[str, str, str, str]:
    seconds = f"{phase.seconds:.6f}"
    if phase.unit == "B":
        return phase.name, seconds, mib(phase.items), f"{mib(round(phase.per_second))}/s"
    if not phase.items:
        return phase.name, seconds, "", ""
    return phase.name, seconds, f"{phase.items:,} {phase.unit}", f"{phase.per_second:,.1f} {phase.unit}/s"


def _reply_rows(profile: InferenceProfile) -> list[tuple[str, str]]:
    return [
        ("tokens of the prompt", f"{profile.prompt_n:,}"),
        ("tokens generated", f"{profile.generated_n:,}"),
        ("tokens per second, after the first", f"{profile.timings.predicted_per_second:,.1f}"),
        ("first token after", duration(profile.timings.ttft_s)),
        ("threads", f"{profile.threads}"),
        ("model memory (weights)", mib(profile.weights_bytes)),
        ("KV cache, in use", f"{mib(profile.kv_used_bytes)} of {mib(profile.kv_bytes)} reserved"),
        ("scratch", mib(profile.scratch_bytes)),
        ("peak memory of the process", mib(profile.peak_bytes)),
    ]


def _operation_parts(phase: str, table: OperationTable) -> list[str]:
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
        "The same by layer, in milliseconds:\n",
        _layer_table(table),
    ]


def _layer_table(table: OperationTable) -> str:
    """A row a layer, and one for what belongs to none; a column an operation."""
    names = [row.name for row in table.rows if row.by_layer]
    layers = sorted({layer for row in table.rows for layer in row.by_layer if layer != NO_LAYER})
    unlayered = {row.name: row.by_layer.get(NO_LAYER, 0.0) for row in table.rows}
    by_name = {row.name: row.by_layer for row in table.rows}

    def cells(title: str, seconds: list[float]) -> tuple[str, ...]:
        numbers = (f"{1e3 * s:.3f}" if s else "" for s in seconds)
        return (title, *numbers, f"{1e3 * sum(seconds):.3f}")

    rows = [cells(str(layer), [by_name[name].get(layer, 0.0) for name in names]) for layer in layers]
    if any(unlayered.values()):
        rows.append(cells("none", [unlayered[name] for name in names]))
    return markdown_table(("layer", *names, "sum"), rows)


def _function_table(profile: InferenceProfile) -> str:
    rows = [
        (
            row.name,
            f"{row.calls:,}",
            duration(row.total_s),
            f"{row.percent:.1f} %",
            duration(row.cumulative_s),
            f"{row.cumulative_percent:.1f} %",
        )
        for row in profile.functions
    ]
    header = ("function", "calls", "total time", "share", "cumulative time", "share")
    return markdown_table(header, rows)
