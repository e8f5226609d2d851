"""Memory that is not there is refused before it is asked for (faults, row 16)."""

from __future__ import annotations

from typing import Any

import pytest

from llama_core.backends.jit import cache as cache_module
from llama_core.backends.jit.cache import JitCache
from llama_core.backends.jit.layout import KV_KINDS
from llama_core.config import ModelConfig
from llama_core.errors import NotEnoughMemoryError
from tests.llama_core.backends.jit.conftest import SHAPE


def test_a_cache_larger_than_memory_is_refused_with_the_sizes(monkeypatch: pytest.MonkeyPatch) -> None:
    shape: dict[str, Any] = dict(SHAPE)
    config = ModelConfig(**shape)

    def allocate(*_: object, **__: object) -> None:
        raise AssertionError("allocated before it was refused")

    with monkeypatch.context() as patch:
        patch.setattr("llama_core.memory.available_bytes", lambda: 100_000)
        patch.setattr(cache_module, "small_page_memory", allocate)
        with pytest.raises(NotEnoughMemoryError, match=r"KV cache of 512 tokens.*\d"):
            JitCache(config, 512, KV_KINDS["f32"])
    assert JitCache(config, 512, KV_KINDS["f32"]).nbytes >= 2 * 512 * 2 * 2 * 16 * 4
