"""The engine that computes on this machine: `llama_core` behind the chat's protocol."""

from __future__ import annotations

import logging
from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from chat_app.engines.base import (
    Capabilities,
    EngineInfo,
    OnProgress,
    Prompt,
    PromptRequest,
    ReplyParts,
    Restored,
    Token,
    ToldTogether,
    Turn,
    never,
)
from chat_app.engines.reply_ids import ReplyIds
from chat_app.text.formatting import MIB
from llama_core.events import Finished

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from chat_app.config.settings import Advice, Settings
    from chat_app.kv_files.keeper import KvKeeper
    from llama_core.backends.base import MemoryReport
    from llama_core.backends.step_watch import StepWatch
    from llama_core.checkpoint import Checkpoint
    from llama_core.choices import Thinking
    from llama_core.constraints.grammar import Grammar
    from llama_core.engine.text import TextEngine
    from llama_core.events import Event, PrefillProgress
    from llama_core.sampling.params import SamplingParams

_log = logging.getLogger(__name__)

TOP_N = 10  # alternatives that replies drawn together tell with each token
# Fewer tokens are read in the time that the key takes.
LEAST_AHEAD = 64
# What a turn may go on with: what both leave as it is, no end changes.
ENDINGS = ("a", "1")


def open_text_engine(
    path: Path,
    settings: Settings,
    on_progress: OnProgress,
    *,
    guessing: bool = True,
    watch: StepWatch | None = None,
) -> TextEngine:
    """Load a model as the settings say, `watch` in it, and with `guessing` the small one that guesses for
    it. NumPy is imported here, long after the first paint.

    Raises LlamaCoreError, OSError, MemoryError.
    """
    from chat_app.config.paths import get_paths
    from llama_core.engine.load import load_engine

    engine = load_engine(
        path,
        backend=settings.backend,
        threads=settings.threads,
        ctx_size=settings.ctx_size,
        kv=settings.kv,
        weights=settings.weights,
        tokenizer_path=settings.tokenizer,
        think_markers=settings.think_markers,
        kernel_cache=get_paths().kernels,
        on_progress=on_progress,
        watch=watch,
    )
    try:
        if guessing:
            _add_draft(engine, path, settings, on_progress)
    except BaseException:  # Ctrl+C too: the model has threads
        engine.close()
        raise
    return engine


def _add_draft(engine: TextEngine, path: Path, settings: Settings, on_progress: OnProgress) -> None:
    """The small model that guesses ahead, if the settings name one, or one is known and here. Only one that
    was asked for by name can fail."""
    from chat_app.config.paths import get_paths
    from chat_app.models.drafts import AUTO, find_draft
    from chat_app.text.errors import describe_error
    from llama_core.engine.drafting.attach import add_draft_model
    from llama_core.errors import LlamaCoreError
    from llama_core.events import LoadProgress

    draft = find_draft(settings.draft, path)
    if draft is None or (settings.draft == AUTO and not engine.backend.startswith("jit")):
        return
    note = f"{draft.stem} guesses ahead; the replies stay the same (without it: --draft none)."
    try:
        add_draft_model(
            engine, draft, kv=settings.kv, weights=settings.weights, kernel_cache=get_paths().kernels
        )
    except (LlamaCoreError, OSError, MemoryError) as error:
        if settings.draft != AUTO:
            raise
        note = f"{draft.stem} does not guess ahead: {describe_error(error)}"
    if settings.draft == AUTO:
        on_progress(LoadProgress("draft", 0, 1, note))


def open_local_engine(path: Path, settings: Settings, on_progress: OnProgress) -> LocalEngine:
    """An `OpenEngine`. Raises as `open_text_engine` does."""
    from llama_core.backends.step_watch import StepWatch

    watch = StepWatch()
    engine = open_text_engine(path, settings, on_progress, watch=watch)
    return LocalEngine(engine, path, kv_keeper(engine, path, settings), watch)


def kv_keeper(engine: TextEngine, path: Path, settings: Settings) -> KvKeeper | None:
    """What keeps the chats' keys and values on disk; None where the settings want nothing kept."""
    if not settings.save or not settings.kv_files_mib:
        return None
    from chat_app.config.paths import get_paths
    from chat_app.kv_files.keeper import KvKeeper

    try:
        # The compiled backend gives the same bits however a prompt is cut into passes.
        return KvKeeper(
            engine,
            path,
            get_paths().kv_files,
            settings.kv_files_mib * MIB,
            exact=engine.backend.startswith("jit"),
        )
    except OSError as error:
        _log.info("keys and values are not kept: %s", error)
        return None


def advice_of(path: Path, makers: Mapping[str, Any]) -> Advice:
    """What the file of the model at `path` advises, and where it says nothing, the catalogue."""
    from chat_app.models.catalogue import recommended_parameters

    place = "generation_config.json" if path.is_dir() else "the model's file"
    advice: dict[str, tuple[Any, str]] = {
        field: (value, "the catalogue") for field, value in recommended_parameters(path).items()
    }
    return advice | {field: (value, place) for field, value in makers.items()}


def advised_values(checkpoint: Checkpoint) -> dict[str, Any]:
    """The same without where each value is from, by the fields of `SamplingParams`."""
    advice = advice_of(checkpoint.path, checkpoint.sampling)
    return {field: value for field, (value, _) in advice.items()}


class LocalTokens:
    """`TokenAccess` to the loaded model."""

    def __init__(self, engine: TextEngine) -> None:
        self._engine = engine
        self._tokenizer = engine.tokenizer

    def encode(self, text: str) -> list[int]:
        """As the loaded model's tokenizer splits it; control tokens stay text."""
        return self._tokenizer.encode(text)

    def decode(self, ids: Sequence[int]) -> str:
        """As a reply is decoded while it comes. Raises IndexError for an id that the tokenizer lacks."""
        stream = self._tokenizer.stream()
        return "".join(map(stream.push, ids)) + stream.flush()

    def parts(self, prompt: Prompt, ids: Sequence[int]) -> ReplyParts:
        """The thought and the answer that these ids say."""
        text = self._engine.reply_text(prompt.ids or (), plain=prompt.raw)
        deltas, thought_n = [], 0
        for at, one in enumerate(ids, 1):
            deltas += text.push(one)
            thought_n = at if text.before_answer else thought_n
        deltas += text.flush()
        said = {kind: "".join(one.text for one in deltas if one.thought is kind) for kind in (True, False)}
        return ReplyParts(said[True], said[False], thought_n)

    def describe(self, ids: Sequence[int]) -> list[Token]:
        """Text and bytes as the vocabulary has them."""
        tokenizer = self._tokenizer
        return [Token(one, tokenizer.token_text(one), tokenizer.token_bytes(one)) for one in ids]

    def ends_reply(self, token_id: int) -> bool:
        """Whether it is one of the ids at which this model ends its turn."""
        return token_id in self._tokenizer.stop_ids

    def logits(self, ids: Sequence[int]) -> NDArray[np.float32]:
        """Computed in the model's own cache, so that the next reply reuses what they share."""
        return self._engine.engine.prompt_logits(ids)

    def allowed(
        self, grammar: Grammar, prompt_ids: Sequence[int], ids: Sequence[int]
    ) -> NDArray[np.bool_] | None:
        """Computed anew from the reply's beginning."""
        from llama_core.sampling.params import SamplingParams

        params = SamplingParams(grammar=grammar)
        constraint = self._engine.rules.of(params, [*prompt_ids, *ids], begun_n=len(ids)).constraint
        return None if constraint is None or constraint.complete else constraint.allowed()

    def cut_by(
        self,
        params: SamplingParams,
        logits: NDArray[np.float32],
        prompt_ids: Sequence[int],
        ids: Sequence[int],
        among: Sequence[int],
        allowed: NDArray[np.bool_] | None,
    ) -> tuple[str, ...]:
        """Asked of a sampler with the reply's parameters."""
        from llama_core.sampling.sampler import Sampler

        rules = self._engine.rules.of(replace(params, grammar=None))
        sampler = Sampler(params, len(logits), rules.breakers)
        seen = [*prompt_ids, *ids]
        return sampler.cut_by(logits, seen, among, prompt_n=len(prompt_ids), allowed=allowed)


class LocalEngine:
    """`Engine` on a `TextEngine`, which it closes. keeper: keeps on disk what was computed of chats. steps:
    the watch that the engine's model was made with."""

    def __init__(
        self,
        engine: TextEngine,
        path: Path,
        keeper: KvKeeper | None = None,
        steps: StepWatch | None = None,
    ) -> None:
        self._engine = engine
        self._keeper = keeper
        self.steps = steps
        self.tokens = LocalTokens(engine)
        special = engine.tokenizer.special_tokens.values()
        self._reply_ids = ReplyIds(self.tokens, self._render, special)
        checkpoint = engine.checkpoint
        self.info = EngineInfo(
            name=path.stem if path.is_file() else path.name,
            path=path,
            backend=engine.backend,
            threads=engine.model.threads,
            ctx_size=engine.ctx_size,
            file_bytes=checkpoint.file_bytes,
            has_template=engine.template is not None,
            architecture=checkpoint.config.architecture,
            tokenizer=checkpoint.tokenizer.kind,
            max_ctx_size=checkpoint.config.max_seq_len,
            template=checkpoint.chat_template or "",
            advice=advice_of(path, checkpoint.sampling),
            capabilities=Capabilities(
                thinks=engine.thinking is not None, restores=keeper is not None, reads_ahead=True
            ),
        )

    def prepare(self, request: PromptRequest) -> Prompt:
        """Render the turns by the model's template, encode them, and see whether they fit."""
        turns = request.turns
        ids = self._encode(request)
        begun_n = len(self._begun(turns[-1])) if request.continue_last else 0
        plan = self._engine.plan(ids, request.params)
        drop: tuple[int, ...] = ()
        if not plan.fits and not request.raw:
            drop = self._to_drop(request, plan.limit - plan.reply_n)
        notes = self._notes(request)
        return Prompt(
            turns,
            tuple(ids),
            plan.prompt_n,
            plan.reply_n,
            plan.limit,
            plan.fits,
            drop,
            notes,
            begun_n=begun_n,
            raw=request.raw,
            chat_id=request.chat_id,
        )

    def _encode(self, request: PromptRequest) -> list[int]:
        """The ids of a request. Of a reply that goes on, only what stands before it is rendered."""
        turns, thinking = request.turns, request.params.thinking
        if request.raw:
            return self._engine.encode_raw(turns[-1].content)
        if request.continue_last:
            return self._rendered(turns[:-1], thinking) + self._begun(turns[-1])
        return self._rendered(turns, thinking)

    def _begun(self, turn: Turn) -> list[int]:
        """The ids of a reply that goes on: its own where they are known, else made of its words."""
        markers = self._engine.thinking
        if markers is None or not turn.thought or self._reply_ids.known(turn):
            return self._reply_ids.of(turn)
        thought = [*markers.begins, *self.tokens.encode(turn.thought)]
        return [*thought, *markers.answers, *self.tokens.encode(turn.content)] if turn.content else thought

    def _rendered(self, turns: Sequence[Turn], thinking: Thinking) -> list[int]:
        return self._reply_ids.put_into(turns, self._render(turns, thinking))

    def _render(self, turns: Sequence[Turn], thinking: Thinking = None) -> list[int]:
        messages = [turn.to_message(with_thought=True) for turn in turns]
        if self._engine.thinking is not None:
            # Told of a thought, even an empty one, no template looks for tags in the words of an answer.
            messages = [
                {"reasoning_content": "", **one} if one["role"] == "assistant" else one for one in messages
            ]
        return self._engine.encode_chat(messages, thinking=thinking)

    def _to_drop(self, request: PromptRequest, room: int) -> tuple[int, ...]:
        """The places of the oldest turns without which the request is encoded in `room` tokens: whole
        questions with their replies, never the system prompt or the last question. None where nothing helps.
        """
        turns = request.turns
        ends = [at for at, turn in enumerate(turns) if turn.role == "user"][1:]
        choices = [tuple(at for at in range(end) if turns[at].role != "system") for end in ends]
        fewest = bisect_left(choices, True, key=lambda one: len(self._encode(request.without(one))) <= room)
        return choices[fewest] if fewest < len(choices) else ()

    def _notes(self, request: PromptRequest) -> tuple[str, ...]:
        """What was done to this request for want of a place in the template."""
        template = self._engine.template
        if request.raw or template is None or not template.system_note:
            return ()
        return (template.system_note,) if any(turn.role == "system" for turn in request.turns) else ()

    def stream(
        self,
        prompt: Prompt,
        params: SamplingParams,
        *,
        cancelled: Callable[[], bool],
        answer_now: Callable[[], bool] = never,
    ) -> Iterator[Event]:
        """The events of `TextEngine.generate`; it reuses what its cache or the disk has of the prompt."""
        keeper = self._keeper if prompt.chat_id else None
        if keeper is not None:
            keeper.restore(prompt.chat_id, prompt.ids or ())
        events = self._engine.generate(
            prompt.ids or (),
            params,
            cancelled=cancelled,
            begun_n=prompt.begun_n,
            answer_now=answer_now,
            plain=prompt.raw,
        )
        return events if keeper is None else _kept(events, prompt.chat_id, keeper)

    def stream_together(
        self, replies: Sequence[tuple[Prompt, SamplingParams]], *, cancelled: Callable[[], bool]
    ) -> Iterator[ToldTogether]:
        """In one batch. Each token tells its likeliest alternatives."""
        from llama_core.engine.batch.together import AskedReply, RepliesTogether

        asked = [
            AskedReply(prompt.ids or (), params, begun_n=prompt.begun_n, plain=prompt.raw)
            for prompt, params in replies
        ]
        return RepliesTogether(self._engine, top_n=TOP_N).run(asked, cancelled)

    def restore(self, request: PromptRequest) -> Restored | None:
        """Bring the keys and values of the chat's turns back from the disk."""
        if self._keeper is None or not request.chat_id or not request.turns:
            return None
        return self._keeper.restore(request.chat_id, self._encode(request))

    def read_ahead(
        self, request: PromptRequest, *, cancelled: Callable[[], bool]
    ) -> Iterator[PrefillProgress]:
        """What the cache or the disk has of it is reused; fewer than `LEAST_AHEAD` tokens wait for Enter."""
        ids = self._settled(request)
        engine = self._engine
        if not ids or not engine.plan(ids, request.params).fits:
            return
        if self._keeper is not None and request.chat_id:
            self._keeper.restore(request.chat_id, ids)
        if len(ids) - engine.engine.common(ids) >= LEAST_AHEAD:
            yield from engine.read_ahead(ids, cancelled)

    def _settled(self, request: PromptRequest) -> list[int]:
        """The ids of a request that are the same however its last turn goes on."""
        from llama_core.engine.context import common_prefix

        *before, last = request.turns
        some, others = (
            self._encode(replace(request, turns=(*before, replace(last, content=last.content + end))))
            for end in ENDINGS
        )
        return some[: common_prefix(some, others)]

    def reset(self) -> None:
        """Empty the KV cache; the next prompt is computed whole, whatever is kept."""
        if self._keeper is not None:
            self._keeper.pass_over()
        self._engine.reset()

    def memory(self) -> MemoryReport:
        """Weights, keys and values, scratch, in bytes."""
        return self._engine.memory()

    def close(self) -> None:
        """Close the `TextEngine`, once what is kept is written; may be called twice."""
        if self._keeper is not None:
            self._keeper.close()
        self._engine.close()


def _kept(events: Iterator[Event], chat_id: str, keeper: KvKeeper) -> Iterator[Event]:
    """The events of a reply; what the context holds then is kept."""
    for event in events:
        if isinstance(event, Finished):
            keeper.save(chat_id, event.timings)
        yield event
