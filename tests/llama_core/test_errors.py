"""Errors of a child process arrive as they were raised."""

from __future__ import annotations

import pickle

import pytest

from llama_core import errors


@pytest.mark.parametrize(
    "error",
    [
        errors.ModelFormatError("a.gguf", "magic", "found PK"),
        errors.UnsupportedModelError("a.gguf", "architecture", "is mamba"),
        errors.ContextFullError(80, 64),
        errors.NotEnoughMemoryError("The cache", 1 << 30, 1 << 20, "take a smaller one"),
        errors.TemplateError("too long"),
    ],
)
def test_errors_survive_pickling(error: errors.LlamaCoreError) -> None:
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is type(error)
    assert str(again) == str(error)
    assert again.__dict__ == error.__dict__
