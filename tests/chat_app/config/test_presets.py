"""Presets: what is saved comes back, what is wrong is said, and flags go before them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from chat_app.chat.presets import delete_preset, preset_table, save_preset, take_preset
from chat_app.config.paths import get_paths
from chat_app.config.presets import (
    preset_names,
    preset_of,
    preset_toml,
    read_preset,
    set_by_presets,
    with_preset,
    without_presets,
)
from chat_app.config.settings import BY_NAME, PARAMETERS, Settings, set_parameter
from chat_app.config.sources import load_settings
from tests.support.fake_engine import FakeEngine

SYSTEM = 'Be "terse".\nTwo lines, a \\ and \x7f, 😀.'
TEXTS = {
    "temperature": "0.25",
    "top_k": "7",
    "num_ctx": "512",
    "num_predict": "-1",
    "seed": "-1",
    "think": "auto",
    "stop": '["a\\n", "b"]',
    "logit_bias": '{"42": -5}',
    "system": SYSTEM,
}


def write(name: str, text: str) -> Path:
    path = get_paths().presets / f"{name}.toml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def chosen(texts: dict[str, str]) -> Settings:
    settings = Settings(model="somewhere")
    for name, text in texts.items():
        settings = BY_NAME[name].read(settings, text)
    return settings


@pytest.mark.parametrize(
    ("held", "text"),
    [
        ("schema", '{"type": "array"}'),
        ("regex", "[a-c]+"),
        ("grammar", 'start: "a"\n'),
        ("grammar", 'root ::= "x"'),
        ("temperature", "0.9"),
    ],
)
def test_what_is_saved_comes_back(held: str, text: str) -> None:
    settings = chosen({**TEXTS, held: text})
    write("mine", preset_toml(preset_of(settings)))
    again = with_preset(Settings(), "mine", read_preset("mine"))
    if held == "grammar":
        assert again.params.grammar is not None
        assert again.params.grammar.text.strip() == text.strip()
        again = BY_NAME["grammar"].with_value(again, settings.params.grammar)
    assert again == settings
    assert again.source_of("temperature") == "preset mine"


def test_what_was_not_chosen_is_not_saved() -> None:
    advised = BY_NAME["top_p"].advise(chosen({"temperature": "0"}), 0.8, "the model's makers")
    assert preset_of(advised) == {"model": "somewhere", "temperature": 0.0}


def test_flags_beat_a_preset_which_beats_the_file() -> None:
    paths = get_paths()
    paths.config.mkdir(parents=True, exist_ok=True)
    paths.config_file.write_text("temperature = 0.1\ntop_k = 3\nmin_p = 0.2\n")
    write("mine", 'model = "other"\ntemperature = 0.5\ntop_k = 5\n')
    settings = load_settings({"seed": 3}, [("top_k", "9")], "mine")
    assert (settings.params.temperature, settings.params.top_k, settings.params.min_p) == (0.5, 9, 0.2)
    assert settings.model == "other"
    assert set_by_presets(settings) == {"model", "parameters"}
    base = load_settings()
    back = without_presets(settings, base)
    assert back.params.temperature == 0.1
    assert back.params.top_k == 9
    assert back.source_of("temperature") == base.source_of("temperature")


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("temperature = -1", "Parameter temperature"),
        ("temprature = 1", "Did you mean temperature?"),
        ("backend = 'jit'", "it cannot set 'backend'"),
        ("system = {a = 1}", "system cannot be a dict"),
        ("a b", "could not be used"),
        ("# " + "x" * (1 << 16), "larger than 64 KiB"),
    ],
)
def test_what_is_wrong_is_said(text: str, sentence: str) -> None:
    write("bad", text)
    with pytest.raises(ValueError, match=r".") as caught:
        load_settings(preset="bad")
    assert sentence in str(caught.value)


@pytest.mark.parametrize("name", ["../config", "", "a/b", ".hidden", "a b", "x" * 41])
def test_names_that_are_none(name: str) -> None:
    with pytest.raises(ValueError, match="is no name for a preset"):
        read_preset(name)


def test_the_nearest_or_all_are_named() -> None:
    with pytest.raises(ValueError, match="/preset save NAME makes one"):
        read_preset("coder")
    write("coder", "")
    with pytest.raises(ValueError, match="Did you mean coder"):
        read_preset("codr")
    with pytest.raises(ValueError, match="There are: coder"):
        delete_preset("zzz")
    delete_preset("coder")
    assert preset_names() == []


async def test_one_preset_takes_the_place_of_another(stage: Any, engine: FakeEngine) -> None:
    session = stage.session
    before = session.settings
    session.change_settings(set_parameter(before, "min_p", "0.3"))
    write("cold", 'temperature = 0.0\nsystem = "Be terse."\n')
    write("long", "num_predict = 900\n")
    write("both", "temperature = 0.0\ntop_p = 7\n")
    assert take_preset(session, "cold") is None
    assert (session.settings.params.temperature, session.settings.system) == (0.0, "Be terse.")
    take_preset(session, "long")
    params = session.settings.params
    assert (params.temperature, params.max_tokens, params.min_p) == (Settings().params.temperature, 900, 0.3)
    assert session.settings.system is None
    with pytest.raises(ValueError, match="top_p"):
        take_preset(session, "both")
    assert session.settings.params == params


async def test_saving_twice_and_the_table(stage: Any) -> None:
    session = stage.session
    session.settings = chosen({"temperature": "0.5"})
    assert save_preset(session, "mine") == "Preset mine is saved: model, temperature."
    assert save_preset(session, "mine") == "Preset mine is replaced: model, temperature."
    write("bad", "=")
    session.set_system("Be brief.")
    session.settings = set_parameter(session.settings, "top_k", str(PARAMETERS["top_k"].default))
    saved = save_preset(session, "mine")
    assert saved == "Preset mine is replaced: model, system, temperature; all else as it is by default."
    assert read_preset("mine")["top_k"] == PARAMETERS["top_k"].default
    bad, mine = preset_table().splitlines()
    assert mine == (
        "mine  model somewhere · system Be brief. · temperature 0.5 · all else as it is by default"
    )
    assert "could not be used" in bad
    assert take_preset(session, "mine") is None
    session.settings = Settings(model="another")
    assert take_preset(session, "mine") == "somewhere"
    assert session.settings.params.temperature == 0.5


def test_an_unknown_one_on_the_command_line_is_wrong_usage(main: Any) -> None:
    ran = main("-p", "hi", "--preset", "nothing")
    assert ran.code == 2
    assert "There is no preset 'nothing'." in ran.err
