"""What a stored chat was held with: its model, parameters and system prompt come back with it."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from chat_app.chat.conversation import Conversation, Message
from chat_app.config.endpoints import find_endpoint, model_label
from chat_app.config.settings import BY_NAME, PARAMETERS, THIS_CHAT, Settings
from chat_app.engines.base import EngineInfo
from chat_app.store.chats import ChatStore
from chat_app.text.sanitize import clean_line
from llama_core.constraints.grammar import GRAMMAR_KINDS, Grammar
from llama_core.sampling.params import SamplingParams

EVERYTHING = ("model", "parameters", "system")
NUMBERS = (
    *("temperature", "top_k", "top_p", "min_p", "typical_p"),
    *("repeat_penalty", "repeat_last_n", "presence_penalty", "frequency_penalty"),
    *("dry_multiplier", "dry_base", "dry_allowed_length", "dry_penalty_last_n"),
    "loop_rounds",
)


def sampling_json(params: SamplingParams) -> dict[str, Any]:
    """The parameters of a reply under ollama's names, for the transcript."""
    return {
        **{name: getattr(params, name) for name in NUMBERS},
        "dry_sequence_breakers": list(params.dry_sequence_breakers),
        "logit_bias": [list(pair) for pair in params.logit_bias],
        "num_predict": params.max_tokens,
        **({} if params.thinking is None else {"think": params.thinking}),
        "stop": list(params.stop),
        "ignore_eos": params.ignore_eos,
        "grammar": None if params.grammar is None else asdict(params.grammar),
    }


def written_by_another(x: Mapping[str, Any], info: EngineInfo, sha256: str) -> str:
    """That a reply was written by another model than the one that is loaded, and what would help; empty where
    it was not, or that is not known. sha256: of the loaded model's file, empty where it is not known."""
    name, written = x.get("model"), x.get("model_sha256")
    if not isinstance(name, str):
        return ""
    same = written == sha256 if written and sha256 else name == info.name
    if same:
        return ""
    writer, here = clean_line(name), clean_line(info.name)
    writer = f"Another file named {writer}" if writer == here else writer
    return (
        f"{writer} wrote this reply, and {here} is loaded: only its writer can look into its tokens "
        "(/model loads it)."
    )


def sampling_of(x: Mapping[str, Any]) -> SamplingParams:
    """The parameters that a reply was drawn with, the seed aside. Raises ValueError where none are known."""
    stored = x.get("parameters")
    if not isinstance(stored, Mapping):
        raise ValueError("its parameters were not saved")
    known: dict[str, Any] = {
        name: stored[name] for name in NUMBERS if isinstance(stored.get(name), int | float)
    }
    limit, stop, think = stored.get("num_predict"), stored.get("stop"), stored.get("think")
    breakers, grammar = stored.get("dry_sequence_breakers"), stored.get("grammar")
    if isinstance(breakers, list | tuple):
        known["dry_sequence_breakers"] = tuple(map(str, breakers))
    try:
        known["logit_bias"] = tuple((int(id), float(value)) for id, value in stored.get("logit_bias", ()))
    except TypeError:
        raise ValueError("its logit bias is damaged") from None
    return SamplingParams(
        **known,
        max_tokens=limit if isinstance(limit, int) and limit >= 0 else None,
        stop=tuple(map(str, stop)) if isinstance(stop, list | tuple) else (),
        thinking=think if think in ("on", "off") or (type(think) is int and think >= 0) else None,
        ignore_eos=stored.get("ignore_eos") is True,
        grammar=_grammar(grammar) if isinstance(grammar, Mapping) else None,
    )


def _grammar(stored: Mapping[str, Any]) -> Grammar:
    """What a reply was held to. Raises ValueError where that is not known."""
    kind, text = stored.get("kind"), stored.get("text")
    if kind not in GRAMMAR_KINDS or not isinstance(text, str):
        raise ValueError("what it was held to is damaged")
    return Grammar(kind, text)


def drawn_with(x: Mapping[str, Any]) -> SamplingParams | None:
    """The same; None where none are known."""
    try:
        return sampling_of(x)
    except ValueError:
        return None


def recall(conversation: Conversation, settings: Settings, chosen: Collection[str] = ()) -> Settings:
    """`settings` with what the chat's last reply was made with, but for what was `chosen` by name ("model",
    "parameters", "system"). A guest's reply, made with other than the chat's own, does not count. A model
    that is no longer there is told as a notice."""
    path = reversed(conversation.path())
    reply = next((one for one in path if "model" in one.x and "guest" not in one.x), None)
    if reply is None:
        return settings
    if "parameters" not in chosen:
        settings = _with_parameters(settings, reply)
    system = reply.x.get("system")
    if "system" not in chosen and isinstance(system, str):
        settings = BY_NAME["system"].put(settings, system, THIS_CHAT)
    return settings if "model" in chosen else _with_model(settings, reply)


def resumed(
    store: ChatStore,
    settings: Settings,
    *,
    resume: str | None,
    continue_latest: bool,
    chosen: Collection[str],
    kind: str | None = "chat",
) -> tuple[str | None, Settings]:
    """(the id of the chat to begin with, the settings for it): the chat named by a part of its id, or the
    latest of its kind if there is one; None for a new chat. `kind` None: it may be a one-shot run. Raises
    StoreError where the named one does not exist."""
    if resume:
        chat_id = store.find(resume)
    elif continue_latest and (latest := store.latest(kind)) is not None:
        chat_id = latest.id
    else:
        return None, settings
    return chat_id, recall(store.read(chat_id), settings, chosen)


def _with_parameters(settings: Settings, reply: Message) -> Settings:
    try:
        known = sampling_of(reply.x)
        rounds = known.loop_rounds if "loop_rounds" in reply.x["parameters"] else settings.params.loop_rounds
        params = replace(known, seed=settings.params.seed, loop_rounds=rounds)
    except ValueError:  # damaged, or never written
        return settings
    # The chat goes on as it was, whatever is advised for its model by now.
    chosen = {
        row.name: THIS_CHAT for row in PARAMETERS.values() if row.group == "sampling" and row.name != "seed"
    }
    return replace(settings, params=params, chosen={**settings.chosen, **chosen}, advised={})


def _with_model(settings: Settings, reply: Message) -> Settings:
    name, file = reply.x.get("model"), reply.x.get("model_file")
    if not isinstance(file, str):  # of version 0.1, or of an engine elsewhere
        return _told_of_server(settings, reply, name)
    if Path(file).exists():
        return replace(settings, model=file)
    notice = f"This chat was held with {name}, which is no longer at {file}. It goes on with another model."
    return replace(settings, notices=(*settings.notices, notice))


def _told_of_server(settings: Settings, reply: Message, name: object) -> Settings:
    """A chat that a server answered goes on with what is chosen now: nothing is sent there unasked."""
    was_remote = str(reply.x.get("backend")).startswith("remote")
    if not was_remote or find_endpoint(settings.model, settings.engines) is not None:
        return settings
    notice = (
        f"This chat was held with {name} on a server. It goes on with {model_label(settings.model)} here; "
        "/model goes back to the server."
    )
    return replace(settings, notices=(*settings.notices, notice))
