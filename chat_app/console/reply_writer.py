"""A reply on stdout: its text as it comes, or JSON; what is to be said about it on stderr."""

from __future__ import annotations

import json
import math
import sys
from typing import TYPE_CHECKING, Any

from chat_app.chat.reply import ENDINGS
from chat_app.console.streams import is_terminal, say, write
from chat_app.console.timings_text import timing_lines
from llama_core.events import (
    UNKNOWN_ID,
    Event,
    Finished,
    LoadProgress,
    PrefillProgress,
    TextDelta,
    TokenEvent,
)

if TYPE_CHECKING:
    from chat_app.chat.controller import ChatController
    from chat_app.engines.base import Engine


class ReplyWriter:
    """Writes each event of a reply in the chosen form: "text", "json" or "stream-json".

    hint: what helps where the context is full. load_s: seconds it took to load the model, for the timings of
    `verbose`. show_thinking: a thought is part of the text, an empty line between it and the answer.
    """

    def __init__(
        self,
        output: str = "text",
        *,
        hint: str = "",
        verbose: bool = False,
        load_s: float = 0.0,
        show_thinking: bool = False,
    ) -> None:
        self._output = output
        self._hint = hint
        self._verbose = verbose
        self._load_s = load_s
        self._show_thinking = show_thinking
        self._parts: list[str] = []
        self._thought: list[str] = []
        self.result: dict[str, Any] | None = None
        self.controller: ChatController

    def write(self, event: Event) -> None:
        """Raises OSError where stdout takes no more."""
        if isinstance(event, TextDelta):
            if event.thought:
                self._thought.append(event.text)
            else:
                if self._thought and self._show_thinking and not self._parts and self._output == "text":
                    write("\n\n")
                self._parts.append(event.text)
            if self._output == "text" and (self._show_thinking or not event.thought):
                write(event.text)
        if isinstance(event, Finished):
            self._end(event)
        elif self._output == "stream-json" and (line := event_json(event)) is not None:
            write_json(line)

    def _end(self, finished: Finished) -> None:
        text, thought = "".join(self._parts), "".join(self._thought)
        self._parts.clear()
        self._thought.clear()
        reply, info = self.controller.reply, self.controller.model.info
        if self._output == "text":
            if not (text or (thought if self._show_thinking else "")).endswith("\n"):
                write("\n")
            if thought and not text and not self._show_thinking:
                say("(only a thought, no answer; --show-thinking prints it)")
            if finished.reason in ENDINGS:  # JSON has finish_reason
                hint = self._hint if finished.reason == "context" else ""
                say(f"({ENDINGS[finished.reason]}{hint})")
        elif reply is not None and info is not None:
            prompt_ids = reply.prompt.ids if reply.prompt is not None else None
            self.result = {
                "model": info.path.name if info.path is not None else info.name,
                "prompt_ids": list(prompt_ids) if prompt_ids is not None else None,
                "ids": list(finished.ids),
                "text": text,
                **({"reasoning_content": thought} if thought else {}),
                "finish_reason": finished.reason,
                "timings": finished.timings.to_json(),
                "backend": info.backend,
                "seed": finished.seed,
            }
        if self._verbose:
            say("\n".join(["", *timing_lines(finished.timings, self._load_s)]))


def top_logits(engine: Engine, prompt_ids: list[int], n: int) -> list[dict[str, Any]]:
    """The n largest logits after the prompt, computed from an empty cache; equal ones by rising id.

    Raises LookupError where the engine has none to show."""
    import numpy as np

    if engine.tokens is None:
        raise LookupError(f"{engine.info.name} shows no logits.")
    engine.reset()
    logits = engine.tokens.logits(prompt_ids)
    order = np.argsort(-logits, kind="stable")[:n]
    return [{"id": int(i), "logit": float(logits[i])} for i in order]


def event_json(event: Event) -> dict[str, Any] | None:
    """One event as a line of stream-json, times in milliseconds. The stream's last line is the result."""
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
            "id": event.id if event.id != UNKNOWN_ID else None,
            "logprob": event.logprob if math.isfinite(event.logprob) else None,
            "step_ms": event.step_s * 1e3,
            "drafted": event.drafted,
        }
    if isinstance(event, TextDelta):
        return {"type": "thought" if event.thought else "text", "text": event.text}
    if isinstance(event, LoadProgress):
        return {"type": "load", "stage": event.stage, "done": event.done_bytes, "total": event.total_bytes}
    return None


def write_json(value: dict[str, Any]) -> None:
    """One line of JSON. Onto a terminal in ASCII, so that no escape or control code is there to clean."""
    write(json.dumps(value, ensure_ascii=is_terminal(sys.stdout)), end="\n")
