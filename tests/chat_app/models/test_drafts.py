"""Which small model guesses for which large one."""

from __future__ import annotations

from pathlib import Path

import pytest

from chat_app.models import drafts
from chat_app.models.catalogue import ModelNotFound
from chat_app.models.installed import LocalModel


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> None:
    names = ("smollm2-135m", "ollama:qwen3:0.6b", "Qwen3-8B-Q4_K_M", "SmolLM2-1.7B-Instruct-Q4_K_M")
    models = [LocalModel(name, Path(f"/models/{name}.gguf"), 1, "here") for name in names]
    monkeypatch.setattr(drafts, "local_models", lambda: models)


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize(
    ("large", "small"),
    [
        ("Qwen3-8B-Q4_K_M.gguf", "ollama:qwen3:0.6b.gguf"),
        ("qwen3-30b-a3b.gguf", "ollama:qwen3:0.6b.gguf"),
        ("SmolLM2-1.7B-Instruct-Q4_K_M.gguf", "smollm2-135m.gguf"),
        ("Llama-3.2-3B.gguf", None),
        ("Meta-Llama-3.1-8B-Instruct-Q4_K_M.gguf", None),  # its small one is not here
        ("SmolLM2-135M-Instruct.Q4_1.gguf", None),
        ("Qwen3-0.6B-Q8_0.gguf", None),
    ],
)
def test_a_known_pair_is_found_where_both_are_here(large: str, small: str | None) -> None:
    found = drafts.find_draft(drafts.AUTO, Path("/elsewhere") / large)
    assert (found.name if found else None) == small


@pytest.mark.usefixtures("here")
def test_none_is_none_and_a_name_is_that_model(tmp_path: Path) -> None:
    large = Path("Qwen3-8B-Q4_K_M.gguf")
    assert drafts.find_draft(drafts.NONE, large) is None
    file = tmp_path / "small.gguf"
    file.touch()
    assert drafts.find_draft(str(file), large) == file
    with pytest.raises(ModelNotFound, match="no-such-model"):
        drafts.find_draft("no-such-model", large)
