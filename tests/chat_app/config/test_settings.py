from __future__ import annotations

import dataclasses
import json
import os
from pathlib import Path

import pytest

from chat_app.cli import build_parser
from chat_app.commands.options import settings_from
from chat_app.config.paths import ensure_dir
from chat_app.config.settings import (
    BY_NAME,
    PARAMETERS,
    SESSION,
    SETTINGS,
    Setting,
    Settings,
    parameter_values,
    set_parameter,
    with_advice,
)
from chat_app.config.sources import load_settings
from chat_app.engines.local import advice_of
from llama_core.sampling.params import SamplingParams


def write_config(home: Path, text: str | bytes) -> Path:
    folder = home / "config"
    folder.mkdir(exist_ok=True)
    path = folder / "config.toml"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def test_defaults_without_a_file() -> None:
    assert load_settings({"model": "other.gguf"}) == Settings(model="other.gguf")
    assert Settings().params.repeat_penalty == 1.0


def test_the_default_model_is_greedy_unless_the_user_says_otherwise(llama_chat_home: Path) -> None:
    advice = advice_of(Path("/x/SmolLM2-135M-Instruct.Q4_1.gguf"), {})

    def loaded(*parameters: tuple[str, str]) -> Settings:
        return with_advice(load_settings(parameters=parameters), advice)

    assert loaded().params == dataclasses.replace(Settings().params, temperature=0.0)
    assert loaded().source_of("temperature") == "the catalogue"
    assert loaded(("temperature", "0.3")).params.temperature == 0.3
    assert loaded(("temperature", "0.3")).source_of("temperature") == "-o"
    write_config(llama_chat_home, "[parameters]\ntemperature = 0.9\n")
    assert loaded().params.temperature == 0.9
    assert loaded().source_of("temperature") == "config.toml, line 2"


ADVICE = {"temperature": (0.6, "the model's file"), "top_k": (20, "the model's file")}


def test_advice_is_for_one_model() -> None:
    advised = with_advice(Settings(), ADVICE)
    assert (advised.params.temperature, advised.params.top_k) == (0.6, 20)
    assert advised.source_of("top_k") == "the model's file"
    assert advised.source_of("top_p") == ""
    another = with_advice(advised, {"min_p": (0.05, "the catalogue")})
    assert another.params == dataclasses.replace(Settings().params, min_p=0.05)
    assert another.source_of("top_k") == ""


def test_what_the_user_chose_stays_whatever_is_advised(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLAMA_CHAT_TOP_K", "7")
    loaded = with_advice(load_settings({"seed": 5}, [("temperature", "0.1")]), ADVICE)
    assert (loaded.params.temperature, loaded.params.top_k, loaded.params.seed) == (0.1, 7, 5)
    sources = [loaded.source_of(name) for name in ("temperature", "top_k", "seed")]
    assert sources == ["-o", "LLAMA_CHAT_TOP_K", "--seed"]
    chosen = set_parameter(with_advice(Settings(), ADVICE), "top_k", "9")
    assert chosen.source_of("top_k") == SESSION
    assert with_advice(chosen, {"top_k": (1, "x")}).params.top_k == 9
    assert with_advice(chosen, {}).params.top_k == 9, "also where it was advised before"


def test_advice_out_of_range_is_not_taken() -> None:
    bad = {"temperature": (-1.0, "x"), "top_p": (0.5, "x")}
    assert with_advice(Settings(), bad).params == dataclasses.replace(Settings().params, top_p=0.5)
    assert with_advice(Settings(), bad).source_of("temperature") == ""


def test_the_record_is_frozen() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        Settings().model = "x"  # type: ignore[misc]


def test_file_then_environment_then_flag(llama_chat_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_config(
        llama_chat_home,
        'model = "a.gguf"\nthreads = 3\n[parameters]\ntemperature = 0.1\ntop_k = 7\nstop = ["x", "y"]\n',
    )
    settings = load_settings()
    assert (settings.model, settings.threads, settings.params.temperature) == ("a.gguf", 3, 0.1)
    assert settings.params.stop == ("x", "y")
    monkeypatch.setenv("LLAMA_CHAT_MODEL", "b.gguf")
    monkeypatch.setenv("LLAMA_CHAT_TEMPERATURE", "0.2")
    assert load_settings().model == "b.gguf"
    assert load_settings().params.temperature == 0.2
    settings = load_settings({"model": "c.gguf", "seed": 5}, [("temperature", "0")])
    assert (settings.model, settings.threads) == ("c.gguf", 3)
    assert (settings.params.temperature, settings.params.top_k, settings.params.seed) == (0.0, 7, 5)
    assert settings.notices == ()


def test_a_bad_line_is_a_notice_with_file_and_line(llama_chat_home: Path) -> None:
    path = write_config(
        llama_chat_home,
        'modle = "x"\nbackend = "cuda"\nthreads = 0\nctx_size = [1]\n'
        '[parameters]\ntemperature = "hot"\ntop_k = 5\n\n[keymap]\n"chat.reset" = "f5"\n"chat.stop" = 3\n',
    )
    settings = load_settings()
    joined = "\n".join(settings.notices)
    assert f"{path}, line 1: there is no setting 'modle'. Did you mean model?" in joined
    assert f"{path}, line 2: backend: 'cuda' is none of auto, jit, numpy." in joined
    assert f"{path}, line 3: threads: 0 is not between 1 and 256." in joined
    assert f"{path}, line 4: ctx_size cannot be a list." in joined
    assert f"{path}, line 6: Parameter temperature: 'hot' is no number." in joined
    assert f"{path}, line 11: the keys of 'chat.stop' must be text" in joined
    assert settings.keymap == {"chat.reset": "f5"}
    assert settings.params.top_k == 5
    assert dataclasses.replace(settings, notices=(), keymap={}, params=Settings().params) == Settings()


def test_a_key_that_is_none_names_the_nearest(llama_chat_home: Path) -> None:
    path = write_config(llama_chat_home, '[keymap]\n"chat.rest" = "f5"\n"chat.stop" = "f6"\n')
    (notice,) = load_settings().notices
    assert notice == f"{path}, line 2: there is no key 'chat.rest' to change. Did you mean chat.reset?"


def test_new_folders_are_this_users_alone(tmp_path: Path) -> None:
    old = os.umask(0o022)
    try:
        ensure_dir(tmp_path / "home" / "cache" / "models")
    finally:
        os.umask(old)
    for name in ("home", "home/cache", "home/cache/models"):
        assert (tmp_path / name).stat().st_mode & 0o777 == 0o700, name
    (tmp_path / "file").touch()
    with pytest.raises(FileExistsError):
        ensure_dir(tmp_path / "file")


@pytest.mark.parametrize(
    "text", [b"\xff\xfe", b"a = ", b"[" * 5000, b"x" * (1 << 21)], ids=["no-text", "cut", "deep", "large"]
)
def test_an_unreadable_file_is_a_notice(llama_chat_home: Path, text: bytes) -> None:
    path = write_config(llama_chat_home, text)
    settings = load_settings({"model": "other.gguf"})
    assert len(settings.notices) == 1
    assert str(path) in settings.notices[0]
    assert dataclasses.replace(settings, notices=()) == Settings(model="other.gguf")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs POSIX files")
def test_a_folder_in_the_files_place_is_a_notice(llama_chat_home: Path) -> None:
    (llama_chat_home / "config" / "config.toml").mkdir(parents=True)
    assert "could not be read" in load_settings().notices[0]


def test_an_unknown_variable_names_the_nearest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLAMA_CHAT_TEMPRATURE", "1")
    monkeypatch.setenv("LLAMA_CHAT_THREADS", "many")
    notices = load_settings().notices
    assert any("LLAMA_CHAT_TEMPRATURE" in n and "Did you mean LLAMA_CHAT_TEMPERATURE?" in n for n in notices)
    assert any("LLAMA_CHAT_THREADS" in n and "'many' is no whole number" in n for n in notices)


def test_a_bad_flag_raises() -> None:
    with pytest.raises(ValueError, match=r"Parameter top_p: top_p is 2\.0, expected 0 "):
        load_settings(parameters=[("top_p", "2")])


@pytest.mark.parametrize(
    ("name", "text", "field", "value"),
    [
        ("num_predict", "64", "max_tokens", 64),
        ("num_predict", "-1", "max_tokens", None),
        ("temperature", " 0 ", "temperature", 0.0),
        ("TEMPERATURE", "1e-1", "temperature", 0.1),
        ("top_k", "0", "top_k", 0),
        ("min_p", "0.05", "min_p", 0.05),
        ("repeat_penalty", "1.1", "repeat_penalty", 1.1),
        ("repeat_last_n", "-1", "repeat_last_n", -1),
        ("seed", "18446744073709551615", "seed", 2**64 - 1),
        ("seed", "random", "seed", None),
        ("ignore_eos", "true", "ignore_eos", True),
        ("stop", "END", "stop", ("END",)),
        ("stop", '["a", "\\n"]', "stop", ("a", "\n")),
        ("stop", "[not json", "stop", ("[not json",)),
        ("stop", "[]", "stop", ()),
    ],
)
def test_set_parameter(name: str, text: str, field: str, value: object) -> None:
    assert getattr(set_parameter(Settings(), name, text).params, field) == value


def test_num_ctx_is_a_setting_of_its_own() -> None:
    assert set_parameter(Settings(), "num_ctx", "2048").ctx_size == 2048


def test_stops_add_up_and_json_replaces() -> None:
    settings = set_parameter(set_parameter(Settings(), "stop", "a"), "stop", "b")
    assert settings.params.stop == ("a", "b")
    assert set_parameter(settings, "stop", '["c"]').params.stop == ("c",)


@pytest.mark.parametrize(
    ("name", "text", "sentence"),
    [
        ("temprature", "1", "There is no parameter 'temprature'. Did you mean temperature?"),
        ("top_k", "4.5", "Parameter top_k: '4.5' is no whole number."),
        ("top_k", "-1", "Parameter top_k: top_k is -1, expected 0 .off. or more."),
        ("temperature", "nan", "is not finite"),
        ("repeat_penalty", "1e-300", "repeat_penalty is 1e-300, expected 0.01 to 100; 1 is off"),
        ("seed", str(1 << 64), "expected -2.63 to 2.64 - 1"),
        ("num_ctx", "1", "is not between 2 and"),
        ("ignore_eos", "maybe", "neither true nor false"),
        ("stop", "[1]", "strings only"),
        ("stop", "", "not empty"),
    ],
)
def test_set_parameter_refuses_with_a_sentence(name: str, text: str, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        set_parameter(Settings(), name, text)


def test_parameter_values_cover_every_parameter() -> None:
    values = parameter_values(set_parameter(Settings(), "stop", "x"))
    assert list(values) == list(PARAMETERS)
    assert values["stop"] == ["x"]
    assert values["num_ctx"] is None


def test_the_table_has_a_row_for_every_field() -> None:
    fields = {field.name for field in dataclasses.fields(Settings)} - {
        "params",
        "keymap",
        "engines",
        "notices",
        "chosen",
        "advised",
    }
    assert {row.field for row in SETTINGS if row.group != "sampling"} == fields
    sampling = {field.name for field in dataclasses.fields(SamplingParams)}
    assert {row.field for row in SETTINGS if row.group == "sampling"} == sampling
    assert len(BY_NAME) == sum(1 + len(row.other_names) for row in SETTINGS)  # no name stands for two


def some_text(row: Setting) -> str:
    """A text that means another value than the default."""
    special = {
        "num_ctx": "512",
        "threads": "3",
        "ignore_eos": "true",
        "bell": "true",
        "schema": '{"type": "integer"}',
        "grammar": 'root ::= "a"',
        "logit_bias": '{"7": -1}',
        "think_markers": "<a> </a>",
    }
    halves = dict.fromkeys(["top_p", "min_p", "typical_p", "presence_penalty", "frequency_penalty"], "0.5")
    return {**special, **halves}.get(row.name, row.kind.choices[-1] if row.kind.choices else "7")


@pytest.mark.parametrize("row", SETTINGS, ids=[row.name for row in SETTINGS])
def test_every_row_is_read_alike_from_file_and_environment(
    row: Setting, llama_chat_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = some_text(row)
    expected = row.read(Settings(), text)
    assert row.of(expected) != row.default
    assert row.expected
    assert row.help
    for name in (row.name, *row.other_names):
        write_config(llama_chat_home, f"{name} = {json.dumps(text)}\n")
        assert load_settings() == expected
        write_config(llama_chat_home, "")
        monkeypatch.setenv("LLAMA_CHAT_" + name.upper(), text)
        assert load_settings() == expected
        monkeypatch.delenv("LLAMA_CHAT_" + name.upper())


@pytest.mark.parametrize("row", [row for row in SETTINGS if row.flags], ids=lambda row: row.name)
def test_every_flag_reads_as_its_row_and_beats_the_file(row: Setting, llama_chat_home: Path) -> None:
    text = some_text(row)
    is_switch = row.flags[-1].startswith("--no-")
    for flag in row.flags:
        args = build_parser().parse_args([flag] if is_switch else [flag, text])
        assert row.of(settings_from(args)) == (False if is_switch else row.kind.read(text))
    assert row.flags[-1] in build_parser().format_help()


def test_a_flag_can_take_back_what_the_file_says(llama_chat_home: Path) -> None:
    write_config(llama_chat_home, "threads = 3\nseed = 4\n")
    settings = settings_from(build_parser().parse_args(["--threads", "auto", "--seed", "random"]))
    assert (settings.threads, settings.params.seed) == (None, None)
    settings = settings_from(build_parser().parse_args([]))
    assert (settings.threads, settings.params.seed) == (3, 4)
