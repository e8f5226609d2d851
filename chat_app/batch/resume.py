"""What of a batch's input is still to be done, given the results that earlier runs left.

Each line of the input is judged by what OUT holds for it last. A request is known by its custom_id and must
then be the same request, answered by the same model; a line that cannot be run is known by its text, so that
lines may be put before it, and so that it is run as soon as it is corrected.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

from chat_app.batch.format import Asked, BadLine, parse_job
from chat_app.batch.identity import Computation, ModelIdentity
from chat_app.batch.output import BatchOutput, Recorded
from chat_app.batch.reader import MAX_LINE_BYTES, Line
from chat_app.openai.errors import short
from chat_app.text.errors import UsageError

Parse = Callable[[bytes], Asked]  # raises BadLine


@dataclass(frozen=True, slots=True)
class JudgedLine:
    """A line of the input. "done" and "failed" are what OUT holds already; "open" is yet to be done: a job to
    be run, a bad line to be reported."""

    line: Line
    item: Asked | BadLine
    state: Literal["done", "failed", "open"]


def judge(
    lines: Iterable[Line],
    output: BatchOutput,
    model: ModelIdentity,
    *,
    retry_failed: bool,
    parse: Parse = parse_job,
) -> Iterator[JudgedLine]:
    """Every line of the input in turn.

    Raises UsageError where OUT holds another request's or another model's answer under a line's custom_id.
    """
    seen: set[str] = set()
    unused = Counter(output.reported)  # two bad lines of the same text need two reports
    for line in lines:
        item = _parsed(line, seen, parse)
        if item.custom_id is not None:
            seen.add(item.custom_id)
            _check(line.number, item, output, model)
        state: Literal["done", "failed", "open"] = "open"
        if isinstance(item, BadLine):
            if unused[line.sha256]:
                unused[line.sha256] -= 1
                state = "failed"
        else:
            recorded = output.results.get(item.custom_id)
            if recorded is not None and not recorded.failed:
                state = "done"
            elif recorded is not None and not retry_failed and not _difference(recorded, item, model):
                state = "failed"
        yield JudgedLine(line, item, state)


def other_ways(output: BatchOutput, computation: Computation) -> str:
    """A sentence about answers of earlier runs that this one would compute otherwise; "" without such."""
    others = {way: n for way, n in output.ways.items() if way != computation.way}
    if not others:
        return ""
    named = "; ".join(f"{n:,} by {_way(way)}" for way, n in others.items())
    return (
        f"{output.path} holds answers that were computed another way ({short(named)[1:-1]}) than this run "
        f"computes them ({_way(computation.way)}): the same request may have got other tokens. The field x "
        "of each answer says how it was computed"
    )


def _way(way: tuple[str, str]) -> str:
    backend, kv = way
    return f"{backend} with --kv {kv}"


def _parsed(line: Line, seen: set[str], parse: Parse) -> Asked | BadLine:
    """The first line that names a custom_id owns it; the next one has none of its own."""
    try:
        if line.too_long:
            problem = f"the line has {line.size:,} bytes, the limit is {MAX_LINE_BYTES:,}"
            raise BadLine(problem, "invalid_json_line")
        item: Asked | BadLine = parse(line.text)
    except BadLine as error:
        item = error
    if item.custom_id in seen:
        problem = f"custom_id {short(item.custom_id)} occurs twice"
        return BadLine(problem, "duplicate_custom_id", "custom_id")
    return item


def _check(number: int, item: Asked | BadLine, output: BatchOutput, model: ModelIdentity) -> None:
    """An answer is never mixed with, or hidden by, one to another question. Raises UsageError."""
    recorded = output.results.get(item.custom_id or "")
    if recorded is None or recorded.failed:
        return
    difference = _difference(recorded, item, model)
    if difference:
        raise UsageError(
            f"{output.path} holds an answer for custom_id {short(item.custom_id)} (line {number}), but it "
            f"{difference}. Give another OUT file to have this run's as well; this one was left as it is."
        )


def _difference(recorded: Recorded, item: Asked | BadLine, model: ModelIdentity) -> str:
    """How a result differs from what this line and run would give; "" where it does not, or is silent."""
    differences: list[str] = []
    if recorded.request_sha256 and recorded.request_sha256 != item.request_sha256:
        differences.append("answers another request (the url or the body has changed)")
    if recorded.model_sha256 and not model.made(recorded.model_sha256):
        names = f"{recorded.model}, not {model.name}"
        if recorded.model == model.name:
            names = f"{model.name} with SHA-256 {recorded.model_sha256[:12]}, not {model.sha256[:12]}"
        differences.append(f"was made by another model ({names})")
    return " and ".join(differences)
