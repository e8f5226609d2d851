"""One prompt, one reply, no app: what pipes and scripts use."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from chat_app.console.interrupt import stop_on_signals
from chat_app.console.streams import read_stdin, say, write
from chat_app.text.errors import UsageError

if TYPE_CHECKING:
    from chat_app.config.settings import Settings
    from llama_core.engine.text import TextEngine
    from llama_core.events import Event, Finished

# Why a reply ended early, for stderr.
ENDINGS = {
    "length": "stopped at num_predict tokens",
    "context": "stopped: the context is full; --ctx-size makes it larger where the model allows it",
}


@dataclass(frozen=True, slots=True)
class Request:
    """What the command line asks for. `logits`: how many of the likeliest next tokens to report."""

    prompt: str
    output: str = "text"
    raw: bool = False
    logits: int = 0
    verbose: bool = False
    continue_latest: bool = False
    resume: str | None = None


def full_prompt(request: Request) -> str:
    """The prompt with what stands on stdin below it. A raw prompt keeps stdin to the byte.

    Raises UsageError when there is nothing to say.
    """
    piped = read_stdin()
    if piped is not None and not request.raw:
        piped = piped.rstrip("\n")
    prompt = "\n\n".join(part for part in (request.prompt, piped) if part)
    if not prompt.strip() and not (request.raw and prompt):
        raise UsageError("there is no prompt. Give one (llama-chat -p TEXT), or pipe one in.")
    return prompt


def run_oneshot(request: Request, settings: Settings) -> int:
    """Answer and return the exit code: 0, or 128 + the signal that stopped it. Raises what loading raises.

    A raw prompt is no conversation, so it leaves no transcript.
    """
    from chat_app.console.engine_start import started_engine
    from chat_app.console.line_chat import LineChat, open_chat

    prompt = full_prompt(request)
    with contextlib.ExitStack() as stack:
        file = open_chat(settings, continue_latest=request.continue_latest, resume=request.resume)
        stack.callback(file.close)
        engine, path, load_s = stack.enter_context(started_engine(settings))
        chat = LineChat(settings, file, engine, path)
        prompt_ids = engine.encode_raw(prompt) if request.raw else chat.ask(prompt)
        report = Report(request, path.name)
        flag = stack.enter_context(stop_on_signals())
        events = engine.generate(prompt_ids, settings.params, cancelled=flag.stop)
        if request.raw:
            finished = report.follow(events)
        else:
            # Closed at once when writing fails: the reply so far is saved now, not when it is collected.
            with contextlib.closing(chat.record(events)) as recorded:
                finished = report.follow(recorded)
        if finished is None:
            raise RuntimeError("The engine's stream ended without its last record.")
        report.end(engine, prompt_ids, finished, load_s)
        return flag.exit_code


class Report:
    """Turns the reply's events into the chosen output."""

    def __init__(self, request: Request, model: str) -> None:
        self._request = request
        self._model = model
        self._parts: list[str] = []

    def follow(self, events: Iterator[Event]) -> Finished | None:
        """Write the reply while it comes. Returns its last record."""
        from llama_core.events import Finished, TextDelta

        for event in events:
            if isinstance(event, Finished):
                return event
            if isinstance(event, TextDelta):
                self._parts.append(event.text)
                if self._request.output == "text":
                    write(event.text)
            if self._request.output == "stream-json":
                line = event_json(event)
                if line is not None:
                    write_json(line)
        return None

    def end(self, engine: TextEngine, prompt_ids: list[int], finished: Finished, load_s: float) -> None:
        """The newline after a text, or the JSON object; then the timings for people."""
        text = "".join(self._parts)
        if self._request.output == "text":
            if not text.endswith("\n"):
                write("\n")
        else:
            result: dict[str, Any] = {
                "model": self._model,
                "prompt_ids": prompt_ids,
                "ids": list(finished.ids),
                "text": text,
                "finish_reason": finished.reason,
                "timings": finished.timings.to_json(),
                "backend": engine.backend,
                "seed": finished.seed,
            }
            if self._request.logits:
                result["logits"] = top_logits(engine, prompt_ids, self._request.logits)
            write_json(result)
        if self._request.output == "text" and finished.reason in ENDINGS:  # JSON has finish_reason
            say(f"({ENDINGS[finished.reason]})")
        if self._request.verbose:
            from chat_app.console.timings_text import timing_lines

            say("\n".join(["", *timing_lines(finished.timings, load_s)]))


def top_logits(engine: TextEngine, prompt_ids: list[int], n: int) -> list[dict[str, Any]]:
    """The n largest logits after the prompt, computed from an empty cache; equal ones by rising id."""
    import numpy as np

    engine.reset()
    logits = engine.engine.prompt_logits(prompt_ids)
    order = np.argsort(-logits, kind="stable")[:n]
    return [{"id": int(i), "logit": float(logits[i])} for i in order]


def event_json(event: Event) -> dict[str, Any] | None:
    """One event as a line of stream-json, times in milliseconds. The stream's last line is the result."""
    from llama_core.events import LoadProgress, PrefillProgress, TextDelta, TokenEvent

    if isinstance(event, PrefillProgress):
        return {
            "type": "prefill",
            "cache_n": event.cached_n,
            "done_n": event.done_n,
            "total_n": event.total_n,
            "prompt_ms": event.prefill_s * 1e3,
        }
    if isinstance(event, TokenEvent):
        return {
            "type": "token",
            "index": event.index,
            "id": event.id,
            "logprob": event.logprob,
            "step_ms": event.step_s * 1e3,
            "drafted": event.drafted,
        }
    if isinstance(event, TextDelta):
        return {"type": "text", "text": event.text}
    if isinstance(event, LoadProgress):
        return {"type": "load", "stage": event.stage, "done": event.done_bytes, "total": event.total_bytes}
    return None


def write_json(value: dict[str, Any]) -> None:
    """One line of JSON. Onto a terminal in ASCII, so that no escape or control code is there to clean."""
    import json

    from chat_app.console.streams import is_terminal

    write(json.dumps(value, ensure_ascii=is_terminal(sys.stdout)), end="\n")
