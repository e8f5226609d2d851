"""The catalogue of the hub's models: sound names, and a short name means its file wherever it lies."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from chat_app import cli
from chat_app.models.catalogue import (
    ModelNotFound,
    catalogue_entry,
    find_local,
    local_models,
    remove_model,
    resolve_model,
    to_fetch,
)
from chat_app.models.download.hub import split_name
from chat_app.models.download.hub_child import PREFERRED
from chat_app.models.hub_models import HUB_MODELS, HubModel, full_name, hub_model
from chat_app.models.stores import store_of


@pytest.mark.parametrize("model", HUB_MODELS, ids=[model.name for model in HUB_MODELS])
def test_an_entry(model: HubModel) -> None:
    assert re.fullmatch(r"[a-z0-9.-]+", model.name)
    assert split_name(model.hub_name) == (model.repository, "", model.type)
    assert model.type in PREFERRED
    assert 0.1 < model.gigabytes < 20
    assert model.licence
    assert model.good_for
    assert catalogue_entry(model.name) is None
    assert store_of(model.other_name) is None, "the name would be looked for in a store"


def test_names_are_of_one_model() -> None:
    names = [name for model in HUB_MODELS for name in (model.name, model.other_name)]
    assert len(names) == len(set(names))
    assert len({model.hub_name for model in HUB_MODELS}) == len(HUB_MODELS) >= 20


def test_a_short_name_means_the_file(llama_chat_home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = hub_model("QWEN3:4b")
    assert model is not None
    assert full_name("something") == "something"
    with pytest.raises(ModelNotFound, match=r"about 2\.5 GB, Apache-2\.0.*models pull qwen3-4b") as error:
        resolve_model("qwen3-4b")
    assert error.value.can_pull
    assert model in to_fetch(local_models())
    folder = llama_chat_home / "cache" / "models" / "hf" / model.repository
    folder.mkdir(parents=True)
    other, path = folder / "Qwen3-4B-Q8_0.gguf", folder / "Qwen3-4B-Q4_K_M.gguf"
    other.write_bytes(b"x")
    assert find_local("qwen3-4b") is None, "another type is another model"
    path.write_bytes(b"x")
    assert resolve_model("qwen3-4b") == resolve_model("qwen3:4b") == path
    assert model not in to_fetch(local_models())
    assert remove_model("qwen3-4b") == [path]
    assert cli.main(["models", "list", "--output", "json"]) == 0
    rows = {row["name"]: row for row in json.loads(capsys.readouterr().out)}
    assert rows["qwen3-4b"]["hub_name"] == "hf:Qwen/Qwen3-4B-GGUF:Q4_K_M"
    with pytest.raises(ModelNotFound, match="Did you mean qwen3-4b"):
        resolve_model("qwen3-4bb")
