"""All that a user can set, as one table: flags, variables, config.toml, help and dialog are made from it."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, get_args

from chat_app.config.endpoints import Endpoint
from chat_app.config.grammars import BIAS, GRAMMAR, REGEX, SCHEMA
from chat_app.config.values import FILE, NUMBER, PAIR, TEXT, TEXTS, THINK, TRUTH, Kind, choice, whole
from chat_app.text.errors import nearest
from llama_core.choices import (
    BACKENDS,
    DEFAULT_KV,
    KV_TYPES,
    MAX_THREADS,
    WEIGHT_FORMS,
    Backend,
    KvType,
    WeightForm,
)
from llama_core.sampling.params import RANGES, SamplingParams

DEFAULT_MODEL_NAME = "smollm2-135m"
MAX_CONTEXT = 1 << 31
# A chat stops a reply that stands there so often; a service says what it is asked for.
LOOP_ROUNDS = 4
VARIABLE_PREFIX = "LLAMA_CHAT_"
# Where a value was chosen, beside files, variables and flags.
SESSION, THIS_CHAT = "set in this session", "of this chat"

# How much of the live numbers is shown, less to more, and none of them.
Panel = Literal["line", "card", "lab", "hidden"]
PANELS: tuple[Panel, ...] = get_args(Panel)

Group = Literal["model", "sampling", "app"]


@dataclass(frozen=True, slots=True)
class Settings:
    """Every choice that outlives one reply: the values of the table, one frozen record.

    threads, ctx_size and kv None: the engine chooses. system None: the model's own default. engines: servers
    by the names that the file gives them. keymap maps a binding's id to its keys. notices are sentences about
    what was wrong in the file or the environment; the app shows them and goes on with the defaults.
    chosen and advised say where the user or the model's makers set a value, by the setting's name; they do
    not count when settings are compared.
    """

    model: str = DEFAULT_MODEL_NAME
    backend: Backend = "auto"
    threads: int | None = None
    ctx_size: int | None = None
    kv: KvType | None = None
    weights: WeightForm = "file"
    tokenizer: Path | None = None
    think_markers: tuple[str, str] | None = None
    draft: str = "auto"
    system: str | None = None
    theme: str | None = None
    panel: Panel | None = None
    bell: bool = False
    save: bool = True
    kv_files_mib: int = 2048
    read_ahead: bool = True
    model_folders: tuple[str, ...] = ()
    engines: Mapping[str, Endpoint] = field(default_factory=dict)
    params: SamplingParams = field(default_factory=lambda: SamplingParams(loop_rounds=LOOP_ROUNDS))
    keymap: Mapping[str, str] = field(default_factory=dict)
    notices: tuple[str, ...] = ()
    chosen: Mapping[str, str] = field(default_factory=dict, compare=False)
    advised: Mapping[str, str] = field(default_factory=dict, compare=False)

    def source_of(self, name: str) -> str:
        """Where the value of the setting `name` is from, in words; empty for the default."""
        return self.chosen.get(name) or self.advised.get(name, "")


@dataclass(frozen=True, slots=True)
class Setting:
    """One row of the table.

    group: "model" is read when a model is loaded, "sampling" when a reply is drawn, "app" by the app itself.
    field: of SamplingParams for "sampling", else of Settings. flags: of the command line; one that begins
    with --no- takes no value and means false. other_names: also understood in the file and the environment.
    live: whether a running chat takes it (`/set`, `-o`, the dialog); such names are ollama's.
    """

    name: str
    group: Group
    field: str
    kind: Kind
    help: str
    flags: tuple[str, ...] = ()
    metavar: str = ""
    other_names: tuple[str, ...] = ()
    live: bool = False
    for_measuring: bool = False

    @property
    def variable(self) -> str:
        """The environment variable that sets it."""
        return VARIABLE_PREFIX + self.name.upper()

    @property
    def expected(self) -> str:
        """What its value may be, in words."""
        return (
            RANGES[self.field][0] if self.group == "sampling" and self.field in RANGES else self.kind.expected
        )

    @property
    def default(self) -> Any:
        """What holds where nothing sets it."""
        return self.of(Settings())

    def of(self, settings: Settings) -> Any:
        """Its value in `settings`."""
        return getattr(settings.params if self.group == "sampling" else settings, self.field)

    def put(self, settings: Settings, value: Any, source: str = SESSION) -> Settings:
        """`settings` with this value, which the user chose there. Raises ValueError with a phrase where it is
        out of range."""
        settings = replace(settings, chosen={**settings.chosen, self.name: source})
        return self.with_value(settings, value)

    def advise(self, settings: Settings, value: Any, source: str) -> Settings:
        """The same for what the model's makers advise. Raises ValueError."""
        settings = replace(settings, advised={**settings.advised, self.name: source})
        return self.with_value(settings, value)

    def with_value(self, settings: Settings, value: Any) -> Settings:
        """`settings` with this value, wherever it is from. Raises ValueError."""
        if self.group != "sampling":
            return replace(settings, **{self.field: value})
        return replace(settings, params=replace(settings.params, **{self.field: value}))

    def read(self, settings: Settings, text: str, source: str = SESSION) -> Settings:
        """`settings` with what `text` means. A plain text is added to those there are; JSON replaces them.

        Raises ValueError with a phrase.
        """
        value = self.kind.read(text)
        if self.kind is TEXTS and not text.startswith("["):
            value = tuple(dict.fromkeys((*self.of(settings), *value)))
        return self.put(settings, value, source)


def _sampling(name: str, kind: Kind, help: str, *, field: str = "", **more: Any) -> Setting:
    return Setting(name, "sampling", field or name, kind, help, live=True, **more)


SETTINGS: tuple[Setting, ...] = (
    Setting(
        "model",
        "model",
        "model",
        TEXT,
        "a known model, a model file or folder, an engine of the config, or openai:URL#MODEL",
        flags=("-m", "--model"),
        metavar="NAME|FILE|URL",
    ),
    Setting(
        "backend",
        "model",
        "backend",
        choice(*BACKENDS),
        "auto: compiled where it can run, else NumPy",
        flags=("--backend",),
    ),
    Setting(
        "threads",
        "model",
        "threads",
        whole(1, MAX_THREADS, none=("auto",)),
        "threads to compute with",
        flags=("--threads",),
    ),
    Setting(
        "num_ctx",
        "model",
        "ctx_size",
        whole(2, MAX_CONTEXT),
        "size of the context in tokens",
        flags=("--ctx-size",),
        other_names=("ctx_size",),
        live=True,
    ),
    Setting(
        "kv",
        "model",
        "kv",
        choice(*KV_TYPES),
        f"how the compiled backend keeps keys and values (default {DEFAULT_KV})",
        flags=("--kv",),
    ),
    Setting(
        "weights",
        "model",
        "weights",
        choice(*WEIGHT_FORMS),
        "float weights in the compiled backend: as the file has them, or as 8 bits (default file)",
        flags=("--weights",),
    ),
    Setting(
        "tokenizer",
        "model",
        "tokenizer",
        FILE,
        "a tokenizer file that is not beside the model",
        flags=("--tokenizer",),
    ),
    Setting(
        "think_markers",
        "model",
        "think_markers",
        PAIR,
        "what begins and ends a thought, where the model's own markers are not found",
    ),
    Setting(
        "draft",
        "model",
        "draft",
        TEXT,
        "a small model of the same vocabulary that guesses ahead; no reply changes; auto: a known one "
        "that is here; none",
        flags=("--draft",),
        metavar="NAME|FILE",
    ),
    # ollama's words for "no limit" are -1 and -2.
    _sampling(
        "num_predict",
        whole(none=("none", "-1", "-2")),
        "longest reply in tokens; -1: to the context's end",
        field="max_tokens",
    ),
    _sampling("temperature", NUMBER, "0 is greedy; higher is more varied"),
    _sampling("top_k", whole(), "draw from the k likeliest tokens; 0: off"),
    _sampling("top_p", NUMBER, "draw from the likeliest tokens that sum to p; 1: off"),
    _sampling("min_p", NUMBER, "drop tokens below this share of the likeliest; 0: off"),
    _sampling("typical_p", NUMBER, "draw from the most typical tokens that sum to p; 1: off"),
    _sampling("repeat_penalty", NUMBER, "above 1 discourages repetition; 1: off"),
    _sampling("repeat_last_n", whole(), "tokens the penalty looks back; -1: all"),
    _sampling("presence_penalty", NUMBER, "above 0 discourages what the reply has said already; 0: off"),
    _sampling("frequency_penalty", NUMBER, "the same, by how often it was said; 0: off"),
    _sampling("dry_multiplier", NUMBER, "above 0 discourages going on with a repeat (DRY); 0: off"),
    _sampling("dry_base", NUMBER, "how much more, for each token of the repeat"),
    _sampling("dry_allowed_length", whole(), "longest repeat that costs nothing"),
    _sampling("dry_penalty_last_n", whole(), "tokens in which repeats are looked for; -1: all"),
    _sampling("dry_sequence_breakers", TEXTS, "texts that end a repeat; several as JSON"),
    _sampling("logit_bias", BIAS, "numbers added to logits, by token id"),
    Setting(
        "schema",
        "sampling",
        "grammar",
        SCHEMA,
        "the reply is JSON of this schema; json: any object",
        flags=("--schema",),
    ),
    Setting(
        "regex",
        "sampling",
        "grammar",
        REGEX,
        "the reply matches this regular expression",
        flags=("--regex",),
    ),
    Setting(
        "grammar",
        "sampling",
        "grammar",
        GRAMMAR,
        "the reply is of this grammar, in Lark's or llama.cpp's notation",
        flags=("--grammar",),
    ),
    _sampling(
        "seed",
        whole(none=("random", "none", "-1")),
        "the same seed gives the same reply; -1: a new one each time",
        flags=("--seed",),
    ),
    _sampling("stop", TEXTS, "a text that ends the reply; may be given again; []: none"),
    _sampling(
        "think",
        THINK,
        "whether the model thinks before it answers; a number: after so many tokens it must answer",
        field="thinking",
        flags=("--think",),
    ),
    _sampling(
        "loop_rounds", whole(), "stop a reply that repeats the same span so often, and says so; 0: never"
    ),
    _sampling("ignore_eos", TRUTH, "go on past the end token (for measuring)", for_measuring=True),
    Setting("system", "app", "system", TEXT, "the system prompt", flags=("-s", "--system")),
    Setting("theme", "app", "theme", TEXT, "the colours; /theme lists them"),
    Setting(
        "panel",
        "app",
        "panel",
        choice(*PANELS),
        "the live numbers: a line, a card, a lab for engineers, or hidden; Ctrl+O steps through them",
    ),
    Setting("bell", "app", "bell", TRUTH, "ring the terminal's bell when a reply is done"),
    Setting("model_folders", "app", "model_folders", TEXTS, "further folders of models; several as JSON"),
    Setting(
        "kv_files_mib",
        "app",
        "kv_files_mib",
        whole(0, MAX_CONTEXT),
        "MiB on disk for keys and values, so that chats are not read again; 0: none",
    ),
    Setting(
        "read_ahead",
        "app",
        "read_ahead",
        TRUTH,
        "read no files and chats while the question is still typed",
        flags=("--no-read-ahead",),
    ),
    Setting("save", "app", "save", TRUTH, "keep no transcript", flags=("--no-save",)),
)
BY_NAME: Mapping[str, Setting] = {
    name: setting for setting in SETTINGS for name in (setting.name, *setting.other_names)
}
PARAMETERS: Mapping[str, Setting] = {setting.name: setting for setting in SETTINGS if setting.live}


def set_parameter(settings: Settings, name: str, value: str, source: str = SESSION) -> Settings:
    """`settings` with the parameter `name` (ollama's names) read from the text `value`, chosen at `source`.

    A plain `stop` is added to those there are; one in JSON replaces them. Raises ValueError with a sentence
    that names the parameter.
    """
    parameter = PARAMETERS.get(name.strip().lower())
    if parameter is None:
        hint = nearest(name, PARAMETERS)
        raise ValueError(f"There is no parameter {name!r}.{hint} Parameters: {', '.join(PARAMETERS)}.")
    try:
        return parameter.read(settings, value, source)
    except ValueError as error:
        raise ValueError(f"Parameter {parameter.name}: {error}.") from None


def set_value(settings: Settings, name: str, value: Any, source: str) -> Settings:
    """`settings` with the setting `name` as a TOML file has it, chosen at `source`: a text, a number, a truth
    or a list of texts. Raises ValueError with a sentence."""
    if isinstance(value, bool):
        text = "true" if value else "false"
    elif isinstance(value, str | int | float):
        try:
            text = str(value)
        except ValueError:
            raise ValueError(f"{name}: the number has too many digits.") from None
    elif isinstance(value, list) and name in BY_NAME and BY_NAME[name].kind is TEXTS:
        text = json.dumps(value)
    else:
        raise ValueError(f"{name} cannot be a {type(value).__name__}.")
    if name not in BY_NAME or BY_NAME[name].live:  # under ollama's name, and so are its faults
        return set_parameter(settings, BY_NAME[name].name if name in BY_NAME else name, text, source)
    try:
        return BY_NAME[name].read(settings, text, source)
    except ValueError as error:
        raise ValueError(f"{name}: {error}.") from None


# What a model's makers advise: the field of SamplingParams -> its value, and where they say so.
Advice = Mapping[str, tuple[Any, str]]


def with_advice(settings: Settings, advice: Advice) -> Settings:
    """`settings` as the makers of the model advise, in all that the user has not chosen. The advice for the
    model before is forgotten."""
    rows = [row for row in SETTINGS if row.group == "sampling" and row.name not in settings.chosen]
    for row in rows:
        if row.name in settings.advised:
            settings = row.with_value(settings, row.default)
    settings = replace(settings, advised={})
    for row in rows:
        if row.field in advice:
            with contextlib.suppress(ValueError):  # out of range: not taken
                settings = row.advise(settings, *advice[row.field])
    return settings


def parameter_values(settings: Settings) -> dict[str, Any]:
    """The parameters under ollama's names, for `/show parameters` and transcripts."""
    values = {name: parameter.of(settings) for name, parameter in PARAMETERS.items()}
    return {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}
