"""`--choices`: how likely each of some answers is, instead of a reply. An exact classifier for pipes."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from chat_app.console.oneshot import Request, full_prompt
from chat_app.console.reply_writer import write_json
from chat_app.console.streams import write
from chat_app.text.errors import UsageError
from chat_app.text.sanitize import clean_line

if TYPE_CHECKING:
    from chat_app.config.settings import Settings


def read_answers(text: str) -> tuple[str, ...]:
    """Two answers or more, between commas; in brackets they are JSON, so that one may hold a comma or a space
    at its end. Raises UsageError."""
    answers: Any = [part.strip() for part in text.split(",")]
    if text.lstrip().startswith("["):
        try:
            answers = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise UsageError(f"--choices: {text!r} is not JSON: {error}") from None
    good = isinstance(answers, list) and all(isinstance(one, str) and one for one in answers)
    if not good or len(answers) < 2 or len(set(answers)) < len(answers):
        raise UsageError("--choices takes two answers or more, all different, as in: --choices yes,no")
    return tuple(answers)


def run_choices(request: Request, answers: tuple[str, ...], settings: Settings) -> int:
    """Print the answers with their probabilities, likeliest first. Nothing is kept of it. Raises UsageError,
    and what loading and scoring raise."""
    from chat_app.attachments.attachment import prompt_text
    from chat_app.attachments.finding import attach
    from chat_app.config.endpoints import find_endpoints
    from chat_app.console.engine_start import started_engine

    if find_endpoints(settings.model, settings.engines, must=False):
        raise UsageError(
            "--choices needs a model on this machine. Of servers `llama-chat serve` alone scores answers, to "
            "requests with guided_choice"
        )
    prompt = prompt_text(full_prompt(request), attach(request.files).attachments)
    messages = [{"role": "system", "content": settings.system}] if settings.system else []
    messages.append({"role": "user", "content": prompt})
    with started_engine(settings, guessing=False) as (engine, path, _):
        ids = engine.encode_raw(prompt) if request.raw else engine.encode_chat(messages)
        try:
            scores = dict(zip(answers, engine.score(ids, answers), strict=True))
        except ValueError as error:
            raise UsageError(f"--choices: {error}") from None
        ranked = sorted(scores, key=lambda text: -scores[text].logprob)
        if request.output == "text":
            for text in ranked:
                write(f"{scores[text].probability:.6f}\t{clean_line(text)}", end="\n")
            return 0
        rows = [
            {
                "text": text,
                "probability": scores[text].probability,
                "logprob": scores[text].logprob,
                "ids": list(scores[text].ids),
            }
            for text in ranked
        ]
        write_json({"model": path.name, "prompt_n": len(ids), "choices": rows, "backend": engine.backend})
        return 0
