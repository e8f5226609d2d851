"""A file that is too long for the context, summarised by the model piece by piece.

Each piece is as long as the context allows, and ends where a line does. Where the summaries of all pieces are
still too long, they are summarised as the file was.
"""

from __future__ import annotations

from dataclasses import dataclass

from chat_app.attachments.attachment import Attachment, prompt_text
from chat_app.attachments.sizes import BYTES_A_TOKEN, LEAST_SUMMARY
from chat_app.chat.summary import (
    MOST_TOKENS,
    SHARE,
    SummaryDraft,
    SummaryStoppedError,
    plain_params,
    write,
)
from chat_app.engines.base import Engine, Prompt, PromptRequest, Turn
from llama_core.errors import ContextFullError
from llama_core.sampling.params import SamplingParams

# Before the piece and behind it: small models forget what stands on one side alone.
INTRODUCTION = "Summarise the file below"
ABOUT = " for someone who asks: "
REQUEST = "Summarise the file above in a few sentences, with the names, numbers and facts in it."
QUESTION_LENGTH = 400
# A first guess at a piece: characters for each token of the context. It is shortened until it fits.
CHARACTERS_A_TOKEN = 6


@dataclass(frozen=True, slots=True)
class FileSummary:
    """What is to be written: the summary of `file`, in at most `room_n` tokens, for someone who asks
    `question`."""

    file: Attachment
    question: str
    room_n: int


def summarise_file(engine: Engine, wanted: FileSummary, params: SamplingParams, draft: SummaryDraft) -> str:
    """Write the summary into `draft`, and return it.

    Raises SummaryStoppedError, ContextFullError where not even one line has room, and what the engine raises.
    """
    text, what = wanted.file.text, "part"
    while True:
        pieces = _pieces(engine, wanted, text, params, draft)
        most = _most_of(engine, max(LEAST_SUMMARY, wanted.room_n // len(pieces)))
        draft.parts.clear()
        summaries: list[str] = []
        for n, piece in enumerate(pieces, 1):
            draft.step = f"{what} {n} of {len(pieces)}" if len(pieces) > 1 else ""
            if summaries:
                draft.parts.append("\n\n")
            prompt = _prompt(engine, wanted, piece, params, most)
            summaries.append(write(engine, prompt, plain_params(params, most), draft))
        shorter = "\n\n".join(summaries)
        if len(pieces) == 1 or _tokens(engine, shorter) <= wanted.room_n or len(shorter) >= len(text):
            return shorter
        text, what = shorter, "summaries, part"


def _most_of(engine: Engine, tokens: int) -> int:
    """So many tokens, or the most that a summary may take of this context."""
    limit = engine.info.ctx_size or MOST_TOKENS * SHARE
    return max(1, min(tokens, MOST_TOKENS, limit // SHARE))


def _prompt(engine: Engine, wanted: FileSummary, piece: str, params: SamplingParams, most: int) -> Prompt:
    """The question for the summary of a piece."""
    question = wanted.question.strip()[:QUESTION_LENGTH]
    introduction = f"{INTRODUCTION}{ABOUT}{question}" if question else f"{INTRODUCTION}."
    text = f"{introduction}\n\n{prompt_text(REQUEST, [Attachment(wanted.file.name, '', piece)])}"
    return engine.prepare(PromptRequest((Turn("user", text),), plain_params(params, most)))


def _pieces(
    engine: Engine, wanted: FileSummary, text: str, params: SamplingParams, draft: SummaryDraft
) -> list[str]:
    """The text in pieces that have room with their summaries."""
    most, found, at = _most_of(engine, MOST_TOKENS), list[str](), 0
    while at < len(text):
        if draft.cancelled.is_set():
            raise SummaryStoppedError
        n = _fitting(engine, wanted, text[at : at + _most_characters(engine)], params, most)
        found.append(text[at : at + n])
        at += n
    return found


def _most_characters(engine: Engine) -> int:
    return CHARACTERS_A_TOKEN * (engine.info.ctx_size or MOST_TOKENS * SHARE)


def _fitting(engine: Engine, wanted: FileSummary, text: str, params: SamplingParams, most: int) -> int:
    """How many characters of the text fit, up to the end of a line where one is near. Raises
    ContextFullError."""
    n = len(text)
    while n:
        prompt = _prompt(engine, wanted, text[:n], params, most)
        if prompt.fits:
            break
        # Texts are not equally dense everywhere, so that the share that fits is found in a few steps.
        n = int(n * min(0.95, (prompt.limit - prompt.reply_n) / prompt.prompt_n))
    else:
        raise ContextFullError(prompt.prompt_n + prompt.reply_n, prompt.limit)
    if n == len(text):
        return n
    line = text.rfind("\n", n // 2, n)
    return line + 1 if line >= 0 else n


def _tokens(engine: Engine, text: str) -> int:
    tokens = engine.tokens
    return len(text.encode()) // BYTES_A_TOKEN if tokens is None else len(tokens.encode(text))
