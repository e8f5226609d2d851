"""The engine: a Llama in NumPy and Numba, with no terminal and no network.

    from llama_core import SamplingParams, events, load_engine

    engine = load_engine("model.gguf")
    for event in engine.chat([{"role": "user", "content": "Hello"}], SamplingParams()):
        if isinstance(event, events.TextDelta):
            print(event.text, end="")

The names are imported when first used, so that `import llama_core` costs nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from llama_core import errors as errors
    from llama_core import events
    from llama_core.engine.engine import Engine as Engine
    from llama_core.engine.load import load_engine as load_engine
    from llama_core.engine.text import TextEngine as TextEngine
    from llama_core.loaders import open_checkpoint as open_checkpoint
    from llama_core.sampling.params import SamplingParams as SamplingParams

_HOMES = {
    "Engine": ("llama_core.engine.engine", "Engine"),
    "SamplingParams": ("llama_core.sampling.params", "SamplingParams"),
    "TextEngine": ("llama_core.engine.text", "TextEngine"),
    "errors": ("llama_core.errors", None),
    "events": ("llama_core.events", None),
    "load_engine": ("llama_core.engine.load", "load_engine"),
    "open_checkpoint": ("llama_core.loaders", "open_checkpoint"),
}

__all__ = ["Engine", "SamplingParams", "TextEngine", "errors", "events", "load_engine", "open_checkpoint"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module_name, attribute = _HOMES[name]
    module = importlib.import_module(module_name)
    return module if attribute is None else getattr(module, attribute)


def __dir__() -> list[str]:
    return sorted(__all__)
