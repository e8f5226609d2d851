"""Models that other programs keep on this machine, used where they lie.

    machine       where programs keep their files, and a walk that ends
    ollama        manifests that name blobs
    hub_cache     what Hugging Face's own libraries have fetched
    folders       LM Studio, llama.cpp, GPT4All, Jan, and the user's own folders

Each store is one function that lists its models. Nothing is ever written into one, and what is damaged in it
is told of the model, not raised.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from chat_app.models.installed import HUB_PREFIX, LocalModel
from chat_app.models.stores import folders, hub_cache, ollama
from chat_app.models.stores.machine import Machine


@dataclass(frozen=True, slots=True)
class Store:
    """prefix: what its models' names start with; title: what people call it."""

    prefix: str
    title: str
    models: Callable[[Machine], Iterator[LocalModel]]


STORES = (
    Store("ollama:", "ollama", ollama.models),
    Store("lmstudio:", "LM Studio", folders.lm_studio),
    Store(HUB_PREFIX, "the Hugging Face cache", hub_cache.models),
    Store("llama.cpp:", "llama.cpp's cache", folders.llama_cpp),
    Store("gpt4all:", "GPT4All", folders.gpt4all),
    Store("jan:", "Jan", folders.jan),
)


def store_of(name: str) -> Store | None:
    """The store whose models have such names, or None."""
    return next((store for store in STORES if name.startswith(store.prefix)), None)


def in_stores(machine: Machine) -> Iterator[LocalModel]:
    """Every model in every store."""
    for store in STORES:
        yield from store.models(machine)
