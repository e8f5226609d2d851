"""One prompt, one reply, no app: what pipes and scripts use."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from chat_app.console.streams import read_stdin
from chat_app.text.errors import UsageError

if TYPE_CHECKING:
    from chat_app.config.settings import Settings

CONTEXT_HINT = "; --ctx-size makes it larger where the model allows it"


@dataclass(frozen=True, slots=True)
class Request:
    """What the command line asks for. `logits`: how many of the likeliest next tokens to report; `chosen`:
    the settings that were given there, which a chat that goes on does not change."""

    prompt: str
    output: str = "text"
    raw: bool = False
    logits: int = 0
    verbose: bool = False
    continue_latest: bool = False
    resume: str | None = None
    chosen: Collection[str] = ()
    show_thinking: bool = False
    files: Sequence[str] = ()


def full_prompt(request: Request) -> str:
    """The prompt with what stands on stdin below it. A raw prompt keeps stdin as it is, and may be empty: the
    model then begins with its begin token alone.

    Raises UsageError when there is nothing to say.
    """
    piped = read_stdin()
    if piped is not None and not request.raw:
        piped = piped.rstrip("\n")
    prompt = "\n\n".join(part for part in (request.prompt, piped) if part)
    if not prompt.strip() and not request.raw:
        raise UsageError("there is no prompt. Give one (llama-chat -p TEXT), or pipe one in.")
    return prompt


def run_oneshot(request: Request, settings: Settings) -> int:
    """Answer and return the exit code: 0, 1 where there is no reply, or 128 + the signal that stopped it.

    The chats of one-shot runs are kept apart: the history does not show them, and of `-c` only another
    one-shot run goes on with them. A raw prompt is no conversation, so it leaves no transcript. Raises what
    loading raises, and AttachmentError.
    """
    from chat_app.attachments.finding import attach
    from chat_app.chat.recall import resumed
    from chat_app.config.paths import get_paths
    from chat_app.console.chat import ConsoleChat
    from chat_app.console.engine_start import started_chat
    from chat_app.console.reply_writer import ReplyWriter, top_logits, write_json
    from chat_app.store.chats import open_store

    prompt = full_prompt(request)
    attach(request.files)  # what cannot be read is told before the model is loaded
    store = open_store(get_paths())
    chat_id, settings = resumed(
        store,
        settings,
        resume=request.resume,
        continue_latest=request.continue_latest,
        chosen=request.chosen,
        kind=None,
    )
    if request.raw:
        settings = replace(settings, save=False)
    with started_chat(settings) as (engine, source, load_s):
        writer = ReplyWriter(
            request.output,
            hint=CONTEXT_HINT,
            verbose=request.verbose,
            load_s=load_s,
            show_thinking=request.show_thinking,
        )
        with ConsoleChat(settings, engine, source, writer, store, kind="oneshot") as chat:
            chat.open(chat_id)
            chat.files += request.files
            # Scripts put texts of others into a prompt: these must not name files.
            code = chat.answer(prompt, raw=request.raw, mentions=False)
            if writer.result is not None:
                if request.logits:
                    ids, n = writer.result["prompt_ids"], request.logits
                    logits = chat.run(chat.controller.ask(lambda engine: top_logits(engine, ids, n)))
                    writer.result["logits"] = logits
                write_json(writer.result)
            return code
