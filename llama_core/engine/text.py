"""Turns in, text out: the only place where tokens and text meet."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from llama_core.backends.base import MemoryReport, Model
from llama_core.checkpoint import Checkpoint
from llama_core.choices import Thinking
from llama_core.engine.engine import Engine
from llama_core.engine.loops import LoopWatch
from llama_core.engine.reply.closed_thought import never
from llama_core.engine.reply.events import ReplyEvents
from llama_core.engine.reply.text import ReplyText
from llama_core.engine.rules import Rules
from llama_core.engine.scoring import ScoredAnswer
from llama_core.events import Event, PrefillProgress
from llama_core.sampling.params import SamplingParams
from llama_core.tokenizers.base import Tokenizer
from llama_core.tokenizers.thinking.base import ThinkingFormat
from llama_core.tokenizers.thinking.formats import has_switch, thinking_format

if TYPE_CHECKING:
    from llama_core.tokenizers.templates.chat_template import ChatTemplate

Messages = Sequence[Mapping[str, Any]]
Poll = Callable[[], bool]

# By these names templates ask whether the model is to think.
SWITCHES = ("enable_thinking", "thinking")
# A plan keeps this much room for a reply whose length nobody limited (or a quarter of a small context).
REPLY_RESERVE = 256


@dataclass(frozen=True, slots=True)
class ContextPlan:
    """Whether a prompt and its reply fit, known before any work.

    prompt_n: tokens of the prompt; reply_n: room to be kept for the reply; limit: the context's size. Where
    they do not fit, `drop` holds the indices of the oldest messages whose removal helps: whole turns, never
    the system prompt or the last message. It is empty when the prompt fits, and when nothing would help.
    """

    prompt_n: int
    reply_n: int
    limit: int
    fits: bool
    drop: tuple[int, ...] = ()


def completion_text(messages: Messages) -> str:
    """A conversation as one running text, for a base model: it goes on where the last word stands."""
    text = ""
    for message in messages:
        begins_anew = message["role"] != "assistant" and text
        text += ("\n" if begins_anew else "") + message["content"]
    return text


class TextEngine:
    """A model one can talk to. One thread at a time; `cancelled` may answer for another.

    `checkpoint` keeps the header alone: its tensors are let go once the model has them. think_markers: the
    tags around thoughts, where the model's own are not found.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        model: Model,
        ctx_size: int | None = None,
        think_markers: tuple[str, str] | None = None,
    ) -> None:
        self.checkpoint = replace(checkpoint, tensors={})
        self.tokenizer: Tokenizer = checkpoint.tokenizer
        self.model = model
        self.engine = Engine(model, ctx_size)
        self.thinking: ThinkingFormat | None = thinking_format(
            self.tokenizer, checkpoint.chat_template, think_markers
        )
        self.rules = Rules(self.tokenizer, model.config.vocab_size, self.thinking)
        self.template: ChatTemplate | None = None
        if checkpoint.chat_template is not None:
            # Here, because base models need no template engine.
            from llama_core.tokenizers.templates.chat_template import ChatTemplate

            self.template = ChatTemplate(
                checkpoint.chat_template,
                bos_token=self._control_text(self.tokenizer.bos_id),
                eos_token=self._control_text(self.tokenizer.eos_id),
            )

    @property
    def ctx_size(self) -> int:
        """Positions of the context, for the prompt and the reply together."""
        return self.engine.ctx_size

    @property
    def backend(self) -> str:
        """What computes, for people."""
        return self.model.backend

    def encode_chat(
        self,
        messages: Messages,
        *,
        continue_last: bool = False,
        thinking: Thinking = None,
        tools: Sequence[Mapping[str, Any]] = (),
    ) -> list[int]:
        """The prompt of a chat, up to where the assistant's reply begins.

        messages: mappings with "role" and "content". With `continue_last` the last one is the beginning of
        the reply, which goes on from there. A message may hold its thought as "reasoning_content": it is sent
        where the template wants it, and calls of tools as "tool_calls". thinking: see `_open_reply`. tools:
        the functions that the model may call, as OpenAI describes them; a template that knows none leaves
        them out. A model without a template continues `completion_text`, in which nobody's words become
        control tokens. Raises TemplateError.
        """
        if self.template is None:
            return self._with_bos(self.tokenizer.encode(completion_text(messages)))
        partial = messages[-1]["content"] if continue_last and messages else ""
        said = messages[:-1] if continue_last else messages
        variables: dict[str, Any] = {}
        if thinking is not None:
            variables = dict.fromkeys(SWITCHES, thinking != "off")
        if tools:
            variables["tools"] = list(tools)
        ids = self.template.encode(said, self.tokenizer, add_generation_prompt=True, variables=variables)
        if thinking is not None:
            ids = self._open_reply(ids, thinking)
        return ids + self.tokenizer.encode(partial) if partial else ids

    def _open_reply(self, ids: list[int], thinking: Thinking) -> list[int]:
        """A prompt whose reply thinks or does not. Templates that ask have done so; for others the thought is
        opened here, or closed where it would begin."""
        markers, template = self.thinking, self.template
        if markers is None or template is None or has_switch(template.source):
            return ids
        is_open = markers.reader(ids).thinking
        if thinking != "off":
            return ids if is_open else [*ids, *markers.begins]
        return [*ids, *(markers.answers if is_open else markers.skips)]

    def encode_raw(self, prompt: str) -> list[int]:
        """The prompt as it stands: control tokens in it are parsed, BOS is put first where the file asks. An
        empty prompt is BOS alone where the model has one."""
        ids = self._with_bos(self.tokenizer.encode(prompt, special=True))
        bos = self.tokenizer.bos_id
        return ids if ids or bos is None else [bos]

    def plan(self, prompt: Sequence[int] | Messages, params: SamplingParams) -> ContextPlan:
        """Whether a prompt (ids, or the messages of a chat) and its reply fit, and what to drop if not."""
        limit = self.ctx_size
        quarter = max(1, limit // 4)
        reserve = min(REPLY_RESERVE, quarter)
        reply_n = reserve if params.max_tokens is None else min(params.max_tokens, quarter)
        ids = [item for item in prompt if isinstance(item, int)]
        messages = [item for item in prompt if not isinstance(item, int)]
        prompt_n = len(ids) or len(self.encode_chat(messages))
        fits = prompt_n + reply_n <= limit
        drop = () if fits or not messages else self._droppable(messages, limit - reply_n)
        return ContextPlan(prompt_n, reply_n, limit, fits, drop)

    def chat(
        self,
        messages: Messages,
        params: SamplingParams,
        *,
        cancelled: Poll | None = None,
        top_n: int = 0,
        continue_last: bool = False,
    ) -> Iterator[Event]:
        """The assistant's reply to a chat. Raises as `generate` and `encode_chat` do."""
        ids = self.encode_chat(messages, continue_last=continue_last)
        return self.generate(ids, params, cancelled=cancelled, top_n=top_n)

    def complete(
        self, prompt: str, params: SamplingParams, *, cancelled: Poll | None = None, top_n: int = 0
    ) -> Iterator[Event]:
        """What follows a raw prompt. Raises as `generate` does."""
        return self.generate(self.encode_raw(prompt), params, cancelled=cancelled, top_n=top_n)

    def generate(
        self,
        prompt_ids: Sequence[int],
        params: SamplingParams,
        *,
        cancelled: Poll | None = None,
        top_n: int = 0,
        begun_n: int = 0,
        answer_now: Poll = never,
        plain: bool = False,
    ) -> Iterator[Event]:
        """The events of one reply: PrefillProgress, TokenEvent, TextDelta, and Finished as the last.

        The text never holds half a character nor any part of a stop string; the ids in Finished do hold the
        tokens that a stop string was made of. The last `begun_n` ids of the prompt are the reply's beginning.
        `answer_now` is asked before each token: True ends the thought, as its budget does. plain: nothing is
        told apart. Raises as `Engine.generate` does, and GrammarError at once for a grammar that cannot be
        held.
        """
        reading = self.reply_events(prompt_ids, params, begun_n=begun_n, answer_now=answer_now, plain=plain)
        events = self.engine.generate(
            prompt_ids,
            params,
            stop_ids=self.tokenizer.stop_ids,
            cancelled=cancelled,
            stop_when=lambda: reading.stopped,
            top_n=top_n,
            rules=self.rules.of(params, prompt_ids, begun_n=begun_n, plain=plain),
            dictated=reading.dictated,
        )
        return (told for event in events for told in reading.of(event))

    def reply_events(
        self,
        prompt_ids: Sequence[int],
        params: SamplingParams,
        *,
        begun_n: int = 0,
        answer_now: Poll = never,
        plain: bool = False,
    ) -> ReplyEvents:
        """What makes of the drawn tokens of a reply the events that `generate` gives."""
        text = self.reply_text(prompt_ids, params.stop, begun_n=begun_n, plain=plain)
        loops = LoopWatch(0 if params.ignore_eos else params.loop_rounds)
        return ReplyEvents(text, loops, None if plain else self.thinking, params, answer_now)

    def read_ahead(self, ids: Sequence[int], cancelled: Poll) -> Iterator[PrefillProgress]:
        """Read the beginning of a prompt to come. See `Engine.read_ahead`, also for what it raises."""
        return self.engine.read_ahead(ids, stop_ids=self.tokenizer.stop_ids, cancelled=cancelled)

    def reply_text(
        self,
        prompt_ids: Sequence[int],
        stops: Sequence[str] = (),
        *,
        begun_n: int = 0,
        plain: bool = False,
    ) -> ReplyText:
        """What reads the reply to a prompt; see `generate`."""
        markers = None if plain else self.thinking
        return ReplyText(self.tokenizer, stops, thinking=markers, prompt_ids=prompt_ids, begun_n=begun_n)

    def score(
        self, prompt_ids: Sequence[int], answers: Sequence[str], cancelled: Poll | None = None
    ) -> list[ScoredAnswer]:
        """How likely each answer is to be the reply to a prompt, in their order. Where the model would think
        first, the answer stands where answers do, behind no thought. Raises ValueError for an answer of no
        token or two of the same tokens, and as `Engine.score` does."""
        ids = self.ids_before_answer(prompt_ids)
        return self.engine.score(
            ids, self.answer_ids(answers), ends=self.tokenizer.stop_ids, cancelled=cancelled
        )

    def ids_before_answer(self, prompt_ids: Sequence[int]) -> list[int]:
        """The prompt, and what closes the thought that it has opened or the model would open."""
        markers = self.thinking
        if markers is None:
            return list(prompt_ids)
        if markers.reader(prompt_ids).thinking:
            return [*prompt_ids, *markers.answers]
        n = len(markers.skips)
        return list(prompt_ids) if tuple(prompt_ids[-n:]) == markers.skips else [*prompt_ids, *markers.skips]

    def answer_ids(self, answers: Sequence[str]) -> list[tuple[int, ...]]:
        """The tokens of answers. Raises ValueError where one has none, or two have the same."""
        encoded = [tuple(self.tokenizer.encode(answer)) for answer in answers]
        if not all(encoded):
            raise ValueError(f"the model has no tokens for the answer {answers[encoded.index(())]!r}")
        if len(set(encoded)) < len(encoded):
            raise ValueError("two answers are the same to the model")
        return encoded

    def perplexity(self, ids: Sequence[int], cancelled: Poll | None = None) -> float:
        """Mean negative log-likelihood, in nat, of ids[1:] in one context. Empties the context."""
        return self.engine.perplexity(ids, cancelled)

    def reset(self) -> None:
        """Empty the context."""
        self.engine.reset()

    def memory(self) -> MemoryReport:
        """Where the bytes are, now."""
        return self.engine.memory()

    def close(self) -> None:
        """Stop the threads of the model, and of a draft model; the engine is unusable afterwards. May be
        called twice."""
        if self.engine.drafter is not None:
            self.engine.drafter.close()
        self.engine.close()
        self.model.close()

    def _droppable(self, messages: Messages, room: int) -> tuple[int, ...]:
        """The oldest turns that must go so that the rest is encoded in `room` tokens."""
        # A turn begins with a user's message; the last one, which is to be answered, stays.
        starts = [i for i, message in enumerate(messages) if message["role"] == "user"]
        ends = starts[1:]
        low, high = 1, len(ends) + 1
        while low < high:  # fewest turns that suffice
            middle = (low + high) // 2
            if middle <= len(ends) and len(self._without(messages, ends[middle - 1])[1]) > room:
                low = middle + 1
            else:
                high = middle
        if low > len(ends):
            return ()
        return self._without(messages, ends[low - 1])[0]

    def _without(self, messages: Messages, end: int) -> tuple[tuple[int, ...], list[int]]:
        """The indices before `end` that are no system prompt, and the ids of a chat without them."""
        gone = tuple(i for i in range(end) if messages[i]["role"] != "system")
        return gone, self.encode_chat([m for i, m in enumerate(messages) if i not in gone])

    def _with_bos(self, ids: list[int]) -> list[int]:
        bos = self.tokenizer.bos_id
        if not self.tokenizer.add_bos or bos is None or ids[:1] == [bos]:
            return ids
        return [bos, *ids]

    def _control_text(self, token_id: int | None) -> str:
        """The text of a control token, as templates write it; nothing where there is none."""
        return "" if token_id is None else self.tokenizer.token_text(token_id)
