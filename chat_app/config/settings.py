"""What the user chose: one frozen record. A flag beats a `LLAMA_CHAT_*` variable, which beats config.toml."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from llama_core.sampling_params import SamplingParams

Backend = Literal["auto", "jit", "numpy"]
KvType = Literal["f32", "f16", "q8"]
BACKENDS = ("auto", "jit", "numpy")
KV_TYPES = ("f32", "f16", "q8")
DEFAULT_MODEL_NAME = "smollm2-135m"
MAX_THREADS = 256  # as many as the compiled backend has room for
MAX_CONTEXT = 1 << 31


@dataclass(frozen=True, slots=True)
class Settings:
    """Every choice that outlives one reply.

    threads and ctx_size None: the engine chooses. system None: the model's own default. keymap maps a
    binding's id to its keys. notices are sentences about what was wrong in the file or the environment;
    the app shows them and goes on with the defaults.
    """

    model: str = DEFAULT_MODEL_NAME
    backend: Backend = "auto"
    threads: int | None = None
    ctx_size: int | None = None
    kv: KvType = "f32"
    tokenizer: Path | None = None
    system: str | None = None
    theme: str | None = None
    save: bool = True
    params: SamplingParams = field(default_factory=SamplingParams)
    keymap: Mapping[str, str] = field(default_factory=dict)
    notices: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Parameter:
    """A generation parameter under ollama's name. `field` is SamplingParams' own name for it."""

    name: str
    field: str
    read: Callable[[str], Any]
    help: str


def _integer(text: str) -> int:
    try:
        return int(text.strip())
    except ValueError:
        raise ValueError(f"{text!r} is no whole number") from None


def _number(text: str) -> float:
    try:
        value = float(text.strip())
    except ValueError:
        raise ValueError(f"{text!r} is no number") from None
    if not math.isfinite(value):
        raise ValueError(f"{text!r} is not finite")
    return value


def _truth(text: str) -> bool:
    known = {"true": True, "yes": True, "on": True, "1": True}
    known |= {"false": False, "no": False, "off": False, "0": False}
    try:
        return known[text.strip().lower()]
    except KeyError:
        raise ValueError(f"{text!r} is neither true nor false") from None


def _seed(text: str) -> int | None:
    if text.strip().lower() in ("random", "none", "-1"):
        return None
    return _integer(text)


def _reply_limit(text: str) -> int | None:
    if text.strip().lower() in ("none", "-1", "-2"):  # ollama's words for "no limit"
        return None
    return _integer(text)


def _context_size(text: str) -> int:
    value = _integer(text)
    if not 2 <= value <= MAX_CONTEXT:
        raise ValueError(f"{value} is not between 2 and {MAX_CONTEXT}")
    return value


def _stop(text: str) -> tuple[str, ...]:
    """One stop string; text in quotes or brackets is JSON, so that `["\\n", "END"]` or `[]` can be given."""
    if not text.startswith(("[", '"')):
        return (text,)
    try:
        value = json.loads(text)
    except json.JSONDecodeError:
        return (text,)
    values = value if isinstance(value, list) else [value]
    if not all(isinstance(item, str) for item in values):
        raise ValueError("stop takes strings only")
    return tuple(values)


_PARAMETERS = (
    Parameter("num_ctx", "ctx_size", _context_size, "size of the context in tokens"),
    Parameter("num_predict", "max_tokens", _reply_limit, "longest reply in tokens; -1: to the context's end"),
    Parameter("temperature", "temperature", _number, "0 is greedy; higher is more varied"),
    Parameter("top_k", "top_k", _integer, "draw from the k likeliest tokens; 0: off"),
    Parameter("top_p", "top_p", _number, "draw from the likeliest tokens that sum to p; 1: off"),
    Parameter("min_p", "min_p", _number, "drop tokens below this share of the likeliest; 0: off"),
    Parameter("repeat_penalty", "repeat_penalty", _number, "above 1 discourages repetition; 1: off"),
    Parameter("repeat_last_n", "repeat_last_n", _integer, "tokens the penalty looks back; -1: all"),
    Parameter("seed", "seed", _seed, "the same seed gives the same reply; -1: a new one each time"),
    Parameter("stop", "stop", _stop, "a text that ends the reply; may be given again; []: none"),
    Parameter("ignore_eos", "ignore_eos", _truth, "go on past the end token (for measuring)"),
)
PARAMETERS: dict[str, Parameter] = {p.name: p for p in _PARAMETERS}


def nearest(name: str, known: list[str]) -> str:
    """ " Did you mean ...?" with the closest of `known`, or an empty string."""
    import difflib

    found = difflib.get_close_matches(name, known, n=1)
    return f" Did you mean {found[0]}?" if found else ""


def set_parameter(settings: Settings, name: str, value: str) -> Settings:
    """`settings` with the parameter `name` (ollama's names) read from the text `value`.

    A plain `stop` is added to those there are; one in JSON replaces them. Raises ValueError with a sentence
    that names the parameter.
    """
    parameter = PARAMETERS.get(name.strip().lower())
    if parameter is None:
        known = list(PARAMETERS)
        raise ValueError(
            f"There is no parameter {name!r}.{nearest(name, known)} Parameters: {', '.join(known)}."
        )
    try:
        parsed = parameter.read(value)
        if parameter.field == "ctx_size":
            return replace(settings, ctx_size=parsed)
        if parameter.field == "stop" and not value.startswith("["):
            parsed = tuple(dict.fromkeys((*settings.params.stop, *parsed)))
        return replace(settings, params=replace(settings.params, **{parameter.field: parsed}))
    except ValueError as error:
        raise ValueError(f"Parameter {parameter.name}: {error}.") from None


def parameter_values(settings: Settings) -> dict[str, Any]:
    """The parameters under ollama's names, for `/show parameters` and transcripts."""
    values: dict[str, Any] = {}
    for parameter in _PARAMETERS:
        owner: object = settings if parameter.field == "ctx_size" else settings.params
        value = getattr(owner, parameter.field)
        values[parameter.name] = list(value) if isinstance(value, tuple) else value
    return values


def choice(value: str, known: tuple[str, ...]) -> Any:
    """`value` if it is one of `known`; raises ValueError naming them."""
    if value not in known:
        raise ValueError(f"{value!r} is none of {', '.join(known)}")
    return value


def thread_count(text: str) -> int | None:
    """A number of threads; "auto" leaves it to the engine."""
    if text.strip().lower() == "auto":
        return None
    value = _integer(text)
    if not 1 <= value <= MAX_THREADS:
        raise ValueError(f"{value} is not between 1 and {MAX_THREADS}")
    return value


# How a setting outside the parameters is read from text (a variable, or a value of the file).
READERS: dict[str, Callable[[str], Any]] = {
    "model": str,
    "backend": lambda text: choice(text, BACKENDS),
    "threads": thread_count,
    "ctx_size": _context_size,
    "kv": lambda text: choice(text, KV_TYPES),
    "tokenizer": lambda text: Path(text).expanduser(),
    "system": str,
    "theme": str,
    "save": _truth,
}


def load_settings(flags: Mapping[str, Any] | None = None) -> Settings:
    """Defaults, then config.toml, then `LLAMA_CHAT_*`, then `flags`.

    The defaults of the sampling parameters are the model's own where the catalogue recommends some. flags:
    typed values by field name (None: not given), and "parameters": pairs of name and text. What is wrong in
    the file or the environment becomes a notice; a bad flag raises ValueError.
    """
    from chat_app.models.catalogue import recommended_parameters

    settings = _chosen(Settings(), flags or {})
    recommended = recommended_parameters(settings.model)
    if not recommended:
        return settings
    fields: dict[str, Any] = dict(recommended)
    return _chosen(Settings(params=SamplingParams(**fields)), flags or {})


def _chosen(defaults: Settings, flags: Mapping[str, Any]) -> Settings:
    """`defaults` with what the file, the environment and the flags say, in this order."""
    from chat_app.config.sources import apply_config, apply_environment

    settings = apply_environment(apply_config(defaults))
    given = {name: value for name, value in flags.items() if value is not None}
    parameters = given.pop("parameters", None) or ()
    seed = given.pop("seed", None)
    settings = replace(settings, **given)
    for name, text in parameters:
        settings = set_parameter(settings, name, text)
    return settings if seed is None else set_parameter(settings, "seed", str(seed))
