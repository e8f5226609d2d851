"""What `/compare` takes, as typed, and what it makes of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from chat_app.chat.comparing.sides import AS_IT_IS, Wish, complete_sides, read_sides, sides_of
from chat_app.config.paths import get_paths
from chat_app.config.settings import Settings
from llama_core.sampling.params import SamplingParams


@pytest.mark.parametrize(
    ("text", "wishes"),
    [
        ("model qwen", [Wish("model", "qwen")]),
        ("qwen", [Wish("model", "qwen")]),
        ("model a VS model b", [Wish("model", "a"), Wish("model", "b")]),
        ("a vs b", [Wish("model", "a"), Wish("model", "b")]),
        ("preset brief vs preset long", [Wish("preset", "brief"), Wish("preset", "long")]),
        ("temperature 0.2 top_p 0.5", [Wish("set", pairs=(("temperature", "0.2"), ("top_p", "0.5")))]),
        (
            "Temperature 0 vs think on",
            [Wish("set", pairs=(("temperature", "0"),)), Wish("set", pairs=(("think", "on"),))],
        ),
        ("system You know cats vs dogs", [Wish("system", "You know cats vs dogs")]),
        ("system Be brief. vs system Be long.", [Wish("system", "Be brief."), Wish("system", "Be long.")]),
    ],
)
def test_what_is_typed(text: str, wishes: list[Wish]) -> None:
    assert list(read_sides(text)) == wishes


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("temperature", "temperature wants a value"),
        ("temperature 1 top_q 2", "no parameter 'top_q'. Did you mean top_"),
        ("temperatur 1", "'temperatur' is nothing to compare by. Did you mean temperature?"),
        ("preset", "preset wants a name"),
        ("system", "system wants a text"),
        ("a vs b vs c", "two sides can be compared"),
    ],
)
def test_what_cannot_be_meant(text: str, why: str) -> None:
    with pytest.raises(ValueError, match=why.replace("?", r"\?")):
        read_sides(text)


def test_one_side_stands_against_the_chat_as_it_is() -> None:
    settings = Settings(model="own", system="Be kind.")
    base, other = sides_of(read_sides("temperature 1.5"), settings, None)
    assert (base.label, base.settings, base.guest) == (AS_IT_IS, settings, "")
    assert (other.label, other.settings.params.temperature) == ("temperature 1.5", 1.5)
    assert other.settings.system == "Be kind."
    assert other.guest == other.label
    one, two = sides_of(read_sides("model a vs system Be brief."), settings, None)
    assert (one.model, one.settings.system) == ("a", "Be kind.")
    assert (two.model, two.settings.system) == ("", "Be brief.")


def test_the_same_twice_is_no_comparison() -> None:
    settings = Settings(model="own", params=SamplingParams(temperature=0.5))
    for text, why in (
        ("temperature 0.5", "temperature 0.5 is what the chat has."),
        ("model own", "model own is what the chat has."),
        ("system a vs system a", "system a and system a."),
        ("temperature 0.9 vs temperature 0.90", "temperature 0.9 and temperature 0.90."),
    ):
        with pytest.raises(ValueError, match=f"Both sides are the same: {why}"):
            sides_of(read_sides(text), settings, None)


def test_what_needs_another_load_cannot_be_compared() -> None:
    with pytest.raises(ValueError, match="num_ctx needs the model loaded anew"):
        sides_of(read_sides("num_ctx 512"), Settings(), None)
    with pytest.raises(ValueError, match="Parameter temperature"):
        sides_of(read_sides("temperature hot"), Settings(), None)


def test_a_server_is_named_without_its_address() -> None:
    _, side = sides_of(read_sides("model openai:http://me:secret@host:1/v1#big"), Settings(), None)
    assert side.label == "model big"
    assert "secret" in side.model, "what it is found by"
    assert "secret" not in side.guest


def test_a_preset_counts_with_its_model(llama_chat_home: Path) -> None:
    folder = get_paths().presets
    folder.mkdir(parents=True)
    (folder / "brief.toml").write_text('model = "other"\nsystem = "Be brief."\ntemperature = 0.1\n')
    _, side = sides_of(read_sides("preset brief"), Settings(model="own"), None)
    assert (side.model, side.settings.system, side.settings.params.temperature) == ("other", "Be brief.", 0.1)
    with pytest.raises(ValueError, match="no preset 'long'"):
        sides_of(read_sides("preset long"), Settings(), None)
    assert complete_sides([], "preset b") == [("preset brief", "")]


def test_completion_offers_sides_on_either_hand() -> None:
    engines = [("big", "remote, host")]
    words = [word for word, _ in complete_sides(engines, "")]
    assert {"model ", "preset ", "system ", "temperature "} <= set(words)
    assert complete_sides(engines, "te")[0][0] == "temperature "
    assert complete_sides(engines, "model b") == [("model big", "remote, host")]
    assert complete_sides(engines, "model big vs te")[0][0] == "model big vs temperature "
    assert ("model big vs model ", "answered by another model") in complete_sides(engines, "model big vs ")
    assert complete_sides(engines, "model big vs model b") == [("model big vs model big", "remote, host")]
