"""A chat comes back with the model, the parameters and the system prompt that it was held with."""

from __future__ import annotations

import json
from dataclasses import fields, replace
from pathlib import Path

from chat_app.chat.conversation import Conversation
from chat_app.chat.recall import recall, sampling_json, sampling_of
from chat_app.config.settings import Settings
from llama_core.constraints.grammar import Grammar
from llama_core.sampling.params import SamplingParams
from tests.support.stage import Stage

# No field has its default.
PARAMS = SamplingParams(
    temperature=0.25,
    top_k=7,
    top_p=0.5,
    min_p=0.1,
    typical_p=0.9,
    repeat_penalty=1.1,
    repeat_last_n=20,
    presence_penalty=0.5,
    frequency_penalty=-0.5,
    dry_multiplier=0.8,
    dry_base=2.0,
    dry_allowed_length=3,
    dry_penalty_last_n=512,
    dry_sequence_breakers=("\n",),
    logit_bias=((7, -1.5),),
    grammar=Grammar("regex", "[a-z]+"),
    max_tokens=90,
    stop=("END",),
    thinking=512,
    loop_rounds=7,
    ignore_eos=True,
)


def held_with(file: Path) -> Conversation:
    chat = Conversation("c")
    chat.add("user", "hello")
    details = {"model": file.stem, "model_file": str(file), "system": "Be brief."}
    chat.add("assistant", "hi", x={**details, "parameters": sampling_json(PARAMS)})
    return chat


def test_parameters_go_to_json_and_back() -> None:
    default = SamplingParams()
    for field in fields(PARAMS):
        differs = getattr(PARAMS, field.name) != getattr(default, field.name)
        assert differs == (field.name != "seed")
    assert sampling_of(json.loads(json.dumps({"parameters": sampling_json(PARAMS)}))) == PARAMS
    assert sampling_of({"parameters": sampling_json(PARAMS)}) == PARAMS


def test_all_comes_back_but_what_was_chosen(tmp_path: Path) -> None:
    file = tmp_path / "other.gguf"
    file.write_bytes(b"GGUF")
    mine = Settings(model="mine", params=SamplingParams(seed=3), system="mine")
    found = recall(held_with(file), mine)
    assert (found.model, found.system) == (str(file), "Be brief.")
    assert found.source_of("system") == "of this chat"
    assert found.params == replace(PARAMS, seed=3)
    assert recall(held_with(file), mine, ("model", "parameters", "system")) == mine
    assert recall(held_with(file), mine, ("model",)).model == "mine"


def test_a_model_that_is_gone_is_told(tmp_path: Path) -> None:
    found = recall(held_with(tmp_path / "gone.gguf"), Settings(model="mine"))
    assert found.model == "mine"
    assert "no longer at" in found.notices[-1]


def test_a_chat_without_replies_or_with_damaged_ones_changes_nothing() -> None:
    chat = Conversation("c")
    assert recall(chat, Settings()) == Settings()
    chat.add("assistant", "hi", x={"model": "m", "parameters": {"temperature": "hot"}, "model_file": 5})
    assert recall(chat, Settings()).params == Settings().params


async def test_opening_a_chat_loads_its_model(stage: Stage, tmp_path: Path) -> None:
    file = tmp_path / "first.gguf"
    file.write_bytes(b"GGUF")
    stage.session.load_model(file)
    await stage.until(lambda: stage.session.model.info and stage.session.model.info.path == file)
    stage.session.settings = replace(stage.session.settings, model=str(file), params=PARAMS)
    await stage.say("hello")
    old = stage.session.chat.id
    await stage.session.new_chat()
    stage.session.load_model(Path("second.gguf"))
    stage.session.settings = replace(stage.session.settings, model="second.gguf", params=SamplingParams())
    await stage.until(lambda: stage.session.model.info)
    await stage.session.open_chat(old)
    assert stage.session.model.loading == file
    assert stage.session.settings.params == PARAMS
    await stage.until(lambda: stage.session.model.info and stage.session.model.info.path == file)
    assert any("first.gguf" in note for note in stage.view.notes)
