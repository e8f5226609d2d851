"""The engine that computes on this machine: `llama_core` behind the chat's protocol."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from chat_app.engines.base import EngineInfo, OnProgress, Prompt, PromptRequest, Token, Turn

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from chat_app.config.settings import Settings
    from llama_core.backends.base import MemoryReport
    from llama_core.engine.text import TextEngine
    from llama_core.events import Event
    from llama_core.sampling_params import SamplingParams


def open_text_engine(path: Path, settings: Settings, on_progress: OnProgress) -> TextEngine:
    """Load a model as the settings say. NumPy is imported here, long after the first paint.

    Raises LlamaCoreError, OSError, MemoryError.
    """
    from chat_app.config.paths import get_paths
    from llama_core.engine.load import load_engine

    return load_engine(
        path,
        backend=settings.backend,
        threads=settings.threads,
        ctx_size=settings.ctx_size,
        kv=settings.kv,
        weights=settings.weights,
        tokenizer_path=settings.tokenizer,
        kernel_cache=get_paths().kernels,
        on_progress=on_progress,
    )


def open_local_engine(path: Path, settings: Settings, on_progress: OnProgress) -> LocalEngine:
    """An `OpenEngine`. Raises as `open_text_engine` does."""
    return LocalEngine(open_text_engine(path, settings, on_progress), path)


class LocalTokens:
    """`TokenAccess` to the loaded model."""

    def __init__(self, engine: TextEngine) -> None:
        self._engine = engine
        self._tokenizer = engine.tokenizer

    def encode(self, text: str) -> list[int]:
        return self._tokenizer.encode(text)

    def decode(self, ids: Sequence[int]) -> str:
        """As a reply is decoded while it comes. Raises IndexError for an id that the tokenizer lacks."""
        stream = self._tokenizer.stream()
        return "".join(map(stream.push, ids)) + stream.flush()

    def describe(self, ids: Sequence[int]) -> list[Token]:
        tokenizer = self._tokenizer
        return [Token(one, tokenizer.token_text(one), tokenizer.token_bytes(one)) for one in ids]

    def ends_reply(self, token_id: int) -> bool:
        return token_id in self._tokenizer.stop_ids

    def logits(self, ids: Sequence[int]) -> NDArray[np.float32]:
        return self._engine.engine.prompt_logits(ids)


class LocalEngine:
    """`Engine` on a `TextEngine`, which it closes."""

    def __init__(self, engine: TextEngine, path: Path) -> None:
        self._engine = engine
        self.tokens = LocalTokens(engine)
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
            template=checkpoint.chat_template or "",
        )

    def prepare(self, request: PromptRequest) -> Prompt:
        engine, turns = self._engine, request.turns
        if request.raw:
            ids = engine.encode_raw(turns[-1].content)
        elif request.continue_last:
            # What the reply said stays as it is: only what stands before it is rendered.
            ids = engine.encode_chat([turn.to_message() for turn in turns[:-1]])
            ids += self._said(turns[-1])
        else:
            ids = engine.encode_chat([turn.to_message() for turn in turns])
        plan = engine.plan(ids, request.params)
        drop: tuple[int, ...] = ()
        if not plan.fits and not request.raw:
            drop = engine.plan([turn.to_message() for turn in turns], request.params).drop
        return Prompt(turns, tuple(ids), plan.prompt_n, plan.reply_n, plan.limit, plan.fits, drop)

    def _said(self, turn: Turn) -> list[int]:
        """The ids that a turn was written with, where they still spell it with this tokenizer."""
        try:
            if turn.ids and self.tokens.decode(turn.ids) == turn.content:
                return list(turn.ids)
        except IndexError:
            pass  # the ids of another model
        return self.tokens.encode(turn.content)

    def stream(
        self, prompt: Prompt, params: SamplingParams, *, cancelled: Callable[[], bool]
    ) -> Iterator[Event]:
        return self._engine.generate(prompt.ids or (), params, cancelled=cancelled)

    def reset(self) -> None:
        self._engine.reset()

    def memory(self) -> MemoryReport:
        return self._engine.memory()

    def close(self) -> None:
        self._engine.close()
