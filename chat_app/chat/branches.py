"""Other ways to a reply than sending: regenerate, continue, another token, and moving between branches.

Every one adds to the tree; none takes anything away. The engine reuses the part of its cache that the new
branch shares with the old one.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from chat_app.chat.conversation import Message, Status, thought_of, token_ids
from chat_app.chat.inspection import TokenLook, look
from chat_app.chat.open_chat import Attempt, OpenChat
from chat_app.chat.recall import drawn_with, written_by_another
from chat_app.chat.reply import reply_details
from chat_app.chat.retry import Retry
from chat_app.chat.token_scores import TokenScores, without_scores
from chat_app.engines.base import (
    Engine,
    NotCapableError,
    Prompt,
    PromptRequest,
    ReplyParts,
    Token,
    TokenAccess,
)
from llama_core.sampling.params import SamplingParams

# Put behind a thought that the model has ended itself, so that it looks at it once more.
DOUBT = "\n\nWait,"


@dataclass(frozen=True, slots=True)
class ReplyTokens:
    """A reply taken apart: the prompt it answered, and its tokens. looks: at each token, where an engine
    elsewhere told them with the reply. params: what it was drawn with, where that is known."""

    message_id: str
    prompt: Prompt
    tokens: tuple[Token, ...]
    looks: tuple[TokenLook, ...] = ()
    params: SamplingParams | None = None

    @property
    def ids(self) -> list[int]:
        """The tokens' ids, in order."""
        return [token.id for token in self.tokens]


class Branches:
    """Moves about in the tree of an open chat."""

    def __init__(self, chat: OpenChat, spawn: Callable[[Coroutine[Any, Any, Any]], object]) -> None:
        """spawn: runs a coroutine beside the caller."""
        self._chat = chat
        self.retry = Retry(chat, lambda *given: spawn(self._regenerate(*given)))

    async def regenerate(self, message_id: str) -> None:
        """Draw another reply beside the one named (or to the question named)."""
        chat = self._chat
        is_asked = chat.conversation.question_of(message_id) is not None
        attempt = chat.begin() if is_asked else None
        if attempt is not None:
            await self._regenerate(attempt, message_id)

    async def _regenerate(self, attempt: Attempt, message_id: str, guest: str = "") -> None:
        """guest: what is other about who makes it than the chat's own, for this reply alone."""
        chat = self._chat
        question = chat.conversation.question_of(message_id)
        prompt = await chat.prepare(attempt, question)
        if prompt is not None:
            params = self._other_than(question, prompt)
            sibling = chat.conversation.regenerate(message_id)
            chat.view.show_chat()
            sibling = replace(sibling, x={**sibling.x, "guest": guest}) if guest else sibling
            chat.start(attempt, sibling, prompt, params=params)

    def _other_than(self, question: str | None, prompt: Prompt) -> SamplingParams:
        """Parameters that can give another reply than those there are. Greedy or with a fixed seed, the same
        prompt gives the same reply: this one is then drawn, with a seed of its own, and the user is told."""
        chat, params = self._chat, self._chat.settings.params
        details = reply_details(chat.settings, params, chat.model.info, "", prompt, question)
        made_so = any(
            all(one.x.get(name) == details.get(name) for name in ("parameters", "model", "system"))
            and one.status == "complete"
            for one in chat.conversation.children(question)
            if one.role == "assistant"
        )
        if not made_so or (params.temperature > 0 and params.seed is None):
            return params
        why = "at temperature 0" if params.temperature == 0 else f"with seed {params.seed}"
        temperature = params.temperature or SamplingParams().temperature
        chat.view.note(
            f"The same prompt gives the same reply {why}. This one is drawn at temperature {temperature:g} "
            "with a seed of its own."
        )
        return replace(params, temperature=temperature, seed=None)

    async def edit(self, message_id: str, text: str) -> None:
        """Other words in a message's place; the old branch stays. A question is asked anew."""
        chat = self._chat
        if chat.conversation.get(message_id).role != "assistant":
            chat.submit(text, edits=message_id)
            return
        attempt = chat.begin()
        if attempt is None:
            chat.view.give_back(text)
            return
        edited = chat.conversation.edit(message_id, text)
        await chat.saver.append(edited)
        chat.view.show_chat()
        chat.finish_attempt(attempt)

    async def continue_reply(self, message_id: str) -> None:
        """Go on with a reply that was stopped or ran into a limit, from the very tokens it has."""
        chat = self._chat
        message = chat.conversation.get(message_id)
        if message.role != "assistant":
            return
        if not (message.content or thought_of(message)) or message.status == "failed":
            await self.regenerate(message_id)
            return
        info = chat.model.info
        if info is not None and not info.capabilities.continues:
            chat.view.note(f"{info.name} cannot go on with a reply; /regen asks for another.", "warning")
            return
        attempt = chat.begin()
        if attempt is None:
            return
        chat.conversation.select(message_id)
        prompt = await chat.prepare(attempt, message_id, continue_last=True)
        if prompt is not None:
            chat.view.show_chat()
            chat.start(attempt, replace(message, status="partial"), prompt)

    def unreadable(self, message_id: str) -> str:
        """Why the tokens of a reply cannot be looked into, as a sentence; empty where they can be."""
        chat = self._chat
        message = chat.conversation.get(message_id)
        if chat.looks.of(message_id):
            return ""
        if not token_ids(message):
            if len(TokenScores.of(message)):
                return "What else a server could have said is known until the chat is left."
            return "This message has no recorded tokens. Replies written here have."
        model = chat.model
        return "" if model.info is None else written_by_another(message.x, model.info, model.sha256)

    async def reply_tokens(self, message_id: str) -> ReplyTokens:
        """The tokens of a reply and the prompt it had: what was left out then is left out again.

        Raises ValueError where they cannot be looked into, and LookupError where the engine gives none.
        """
        chat = self._chat
        message = chat.conversation.get(message_id)
        if why := self.unreadable(message_id):
            raise ValueError(why)
        if looks := chat.looks.of(message_id):
            told = tuple(Token(one.chosen.id, one.chosen.text, one.chosen.raw) for one in looks)
            return ReplyTokens(message_id, Prompt((), None), told, looks)
        ids = token_ids(message)
        params = drawn_with(message.x)
        turns = tuple(chat.conversation.turns_before(message))
        request = PromptRequest(turns, params or chat.settings.params)

        def question(engine: Engine) -> ReplyTokens:
            tokens = tuple(_access(engine).describe(ids))
            return ReplyTokens(message_id, engine.prepare(request), tokens, params=params)

        found: ReplyTokens = await chat.ask(question)
        return found

    async def split(self, text: str) -> list[Token]:
        """How the model splits a text. Raises LookupError where no engine shows tokens."""

        def question(engine: Engine) -> list[Token]:
            tokens = _access(engine)
            return tokens.describe(tokens.encode(text))

        found: list[Token] = await self._chat.ask(question)
        return found

    async def look_at(self, reply: ReplyTokens, index: int) -> TokenLook:
        """What the model thought at one token. Raises what the engine raises."""
        if reply.looks:
            return reply.looks[index]
        found: TokenLook = await self._chat.ask(
            lambda engine: look(_access(engine), reply.prompt.ids or (), reply.ids, index, reply.params)
        )
        return found

    async def take_alternative(self, reply: ReplyTokens, index: int, token_id: int) -> None:
        """A sibling that begins as the reply did, takes another token at `index`, and goes on from there."""
        if reply.looks:
            await self._take_told(reply, index, token_id)
            return
        chat = self._chat
        attempt = chat.begin()
        if attempt is None:
            return
        await self._begin_with(attempt, reply, [*reply.ids[:index], token_id])

    async def think_on(self, message_id: str) -> None:
        """Reopen a thought, in a sibling: it goes on where it was ended. One that the model ended itself gets
        a word that makes it doubt (budget forcing, arXiv:2501.19393)."""
        chat = self._chat
        message = chat.conversation.get(message_id)
        if not thought_of(message):
            chat.view.note("This reply has no thought that could go on.", "warning")
            return
        attempt = chat.begin()
        if attempt is None:
            return
        try:
            reply = await self.reply_tokens(message_id)
            closed = message.x.get("thought_closed")
            ids = reply.ids[:closed] if isinstance(closed, int) else await self._doubting(reply)
        except Exception:  # whoever spawned this tells it; the engine is free first
            chat.finish_attempt(attempt)
            raise
        params = chat.settings.params
        if isinstance(params.thinking, int):  # the budget is spent
            params = replace(params, thinking="on")
        await self._begin_with(attempt, reply, ids, params)

    async def _doubting(self, reply: ReplyTokens) -> list[int]:
        """The reply's tokens up to the end of its thought, and a word that opens it again."""

        def question(engine: Engine) -> list[int]:
            tokens, ids = _access(engine), reply.ids
            whole = tokens.parts(reply.prompt, ids)
            # The thought is whole once no later token adds to it.
            low, high = 0, whole.thought_n
            while low < high:
                middle = (low + high) // 2
                short = len(tokens.parts(reply.prompt, ids[:middle]).thought) < len(whole.thought)
                low, high = (middle + 1, high) if short else (low, middle)
            return [*ids[:low], *tokens.encode(DOUBT)]

        found: list[int] = await self._chat.ask(question)
        return found

    async def _begin_with(
        self,
        attempt: Attempt,
        reply: ReplyTokens,
        ids: Sequence[int],
        params: SamplingParams | None = None,
    ) -> None:
        """A sibling of `reply` that begins with `ids`, and goes on unless they end it."""
        chat = self._chat

        def question(engine: Engine) -> tuple[ReplyParts, bool]:
            tokens = _access(engine)
            return tokens.parts(reply.prompt, ids), bool(ids) and tokens.ends_reply(ids[-1])

        try:
            parts, ends = await chat.ask(question)
        except Exception:  # whoever spawned this tells it; the engine is free first
            chat.finish_attempt(attempt)
            raise
        if attempt.abandoned:
            return
        status: Status = "complete" if ends else "partial"
        before = chat.conversation.get(reply.message_id)
        pairs = enumerate(zip(ids, reply.ids, strict=False))
        same_n = next((at for at, (new, old) in pairs if new != old), min(len(ids), len(reply.ids)))
        x = {"ids": list(ids), **begun_details(parts, before, same_n, len(ids))}
        sibling = chat.conversation.add("assistant", parts.content, parent=before.parent, status=status, x=x)
        chat.view.show_chat()
        if ends:
            await chat.saver.append(sibling)
            chat.finish_attempt(attempt)
        else:
            prompt = replace(reply.prompt, ids=(*(reply.prompt.ids or ()), *ids), begun_n=len(ids))
            chat.start(attempt, sibling, prompt, params=params)

    async def _take_told(self, reply: ReplyTokens, index: int, token_id: int) -> None:
        """The same with the text of tokens that have no ids here: the reply goes on from that text."""
        chat, info = self._chat, self._chat.model.info
        if info is not None and not info.capabilities.continues:
            chat.view.note(
                f"{info.name} cannot go on from another token; /regen asks for another.", "warning"
            )
            return
        attempt = chat.begin()
        if attempt is None:
            return
        taken = next(one for one in reply.looks[index].top if one.id == token_id)
        raw = b"".join(token.raw for token in reply.tokens[:index]) + taken.raw
        text = raw.decode("utf-8", "replace")
        before = chat.conversation.get(reply.message_id)
        x = TokenScores.of(before).begun(text, index, index + 1).details()
        sibling = chat.conversation.add("assistant", text, parent=before.parent, status="partial", x=x)
        look = replace(reply.looks[index], chosen=taken, rank=-taken.id)
        chat.looks.keep(sibling.id, (*reply.looks[:index], look))
        chat.view.show_chat()
        await self.go_on_from_text(attempt, sibling)

    async def go_on_from_text(self, attempt: Attempt, sibling: Message) -> None:
        """Let a new reply of which the text alone is known go on; it is kept as it is where it is not to be
        sent."""
        chat = self._chat
        prompt = await chat.prepare(attempt, sibling.id, continue_last=True)
        if prompt is not None:
            chat.start(attempt, sibling, prompt)
        elif sibling.id in chat.conversation:
            stopped = replace(sibling, status="stopped")
            await chat.saver.append(stopped)
            chat.view.update_message(stopped)

    async def cut_loop(self, message_id: str) -> tuple[str, int] | None:
        """A sibling that ends where the reply began to repeat itself, shown in its place. Returns (the reply,
        the token that began it); None, and a word to the user, where there is no loop."""
        chat = self._chat
        message = chat.conversation.get(message_id)
        loop = message.x.get("loop")
        begin = loop.get("begin") if isinstance(loop, Mapping) else None
        if not isinstance(begin, int):
            chat.view.note("This reply was not seen to repeat itself.", "warning")
            return None
        attempt = chat.begin()
        if attempt is None:
            return None
        try:
            reply = await self.reply_tokens(message_id)
            ids = reply.ids[:begin]
            parts: ReplyParts = await chat.ask(lambda engine: _access(engine).parts(reply.prompt, ids))
            if attempt.abandoned:
                return None
            gone = ("loop", "timings", "context", "stop_reason", "thought", "thought_n", "thought_s")
            x = {key: value for key, value in without_scores(message.x).items() if key not in gone}
            x |= {"ids": ids} | begun_details(parts, message, begin, begin)
            cut = chat.conversation.add(
                "assistant", parts.content, parent=message.parent, status="stopped", x=x
            )
            chat.view.show_chat()
            await chat.saver.append(cut)
        finally:
            chat.finish_attempt(attempt)
        return message_id, begin

    def branch(self, message_id: str) -> None:
        """Go back to a reply: what is sent next starts a new branch there. Of a question it takes the place:
        two in a row would have no answer between them."""
        chat = self._chat
        message = chat.conversation.get(message_id)
        if self.may_move():
            is_question = message.role == "user"
            chat.conversation.select(message.parent if is_question else message_id)
            chat.view.show_chat()
            if is_question:
                chat.view.note(
                    "Your message and the later ones are hidden; what you send now takes its place. "
                    "← on the new one shows them."
                )
            elif chat.conversation.children(message_id):
                chat.view.note(
                    "The later messages are hidden; what you send now starts a new branch. "
                    "→ on the message shows what followed."
                )

    def show(self, message_id: str) -> None:
        """Show the branch that runs through a message, unless it is shown already."""
        conversation = self._chat.conversation
        hidden = message_id in conversation and conversation.get(message_id) not in conversation.path()
        if hidden and self.may_move():
            conversation.select_branch(message_id)
            self._chat.view.show_chat()

    def switch_branch(self, message_id: str, step: int) -> str | None:
        """Show the sibling `step` places on; its id, or None where there is none.

        Forward from a tip that has replies leads down to the one last seen.
        """
        conversation = self._chat.conversation
        if step > 0 and message_id == conversation.tip and conversation.children(message_id):
            return self._show_followers(message_id)
        places = [one.id for one in conversation.siblings(message_id)]
        place = places.index(message_id) + step
        if not 0 <= place < len(places) or not self.may_move():
            return None
        conversation.select_branch(places[place])
        self._chat.view.show_chat()
        return places[place]

    def _show_followers(self, message_id: str) -> str | None:
        if not self.may_move():
            return None
        conversation = self._chat.conversation
        conversation.select_branch(message_id)
        self._chat.view.show_chat()
        return next(one.id for one in conversation.path() if one.parent == message_id)

    def may_move(self) -> bool:
        """Whether another branch can be shown or begun now; a word to the user where it cannot."""
        if self._chat.generating:
            self._chat.view.note("A reply is being written; stop it first.", "warning")
        return not self._chat.generating


def begun_details(parts: ReplyParts, before: Message, same_n: int, n: int) -> dict[str, Any]:
    """What the record says of a reply that begins with these parts, `n` tokens, in the place of another, of
    which the first `same_n` are: of the chat the model sees what it saw for that one."""
    thought = {"thought": parts.thought, "thought_n": parts.thought_n} if parts.thought else {}
    scores = TokenScores.of(before).begun(parts.content, same_n, n).details()
    return thought | scores | {name: before.x[name] for name in ("sees_from",) if name in before.x}


def _access(engine: Engine) -> TokenAccess:
    """Raises NotCapableError where there is none."""
    if engine.tokens is None:
        raise NotCapableError(f"{engine.info.name} shows no tokens.")
    return engine.tokens
