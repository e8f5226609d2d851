"""What the models on this machine are: family, size, type, and whether such a family runs here.

A file's header is read once; what it said is remembered while size and time stay the same.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from chat_app.config.paths import get_paths
from chat_app.models.file_memory import FileMemory
from chat_app.models.installed import LocalModel
from chat_app.models.stores.machine import read_object
from llama_core.loaders.gguf.shard_names import SIZE_IN_NAME, find_in

BYTES_OF = {"float32": 4, "bfloat16": 2, "float16": 2}


@dataclass(frozen=True, slots=True)
class Facts:
    """size such as "1.7B", type such as "Q4_K_M"; empty texts: not known. runs: whether models of this family
    run here. problem: why nothing is known of the file."""

    family: str = ""
    size: str = ""
    type: str = ""
    runs: bool = False
    problem: str = ""

    @property
    def verdict(self) -> str:
        """Why a model does not run here, in a few words; empty where it may."""
        if self.problem:
            return "cannot be read"
        return "this family does not run here" if self.family and not self.runs else ""


def facts_of(models: Iterable[LocalModel]) -> dict[Path, Facts]:
    """The facts of each model, by its path; empty ones for models of which a file is missing."""
    from llama_core import architectures  # brings NumPy: only for lists

    memory = FileMemory(get_paths().model_facts)
    facts: dict[Path, Facts] = {}
    for model in models:
        if not model.is_whole:
            facts[model.path] = Facts()  # its `source` says what it lacks
            continue
        is_folder = not model.files and model.path.is_dir()
        try:
            family, size, kind, problem = _told(memory, model, is_folder)
        except OSError as error:
            facts[model.path] = Facts(problem=f"{model.path} cannot be read: {error.strerror}.")
            continue
        found = architectures.find("huggingface" if is_folder else "gguf", family)
        facts[model.path] = Facts(family, size, kind, found is not None, problem)
    with contextlib.suppress(OSError):  # the memory only saves time
        memory.save()
    return facts


def _told(memory: FileMemory, model: LocalModel, is_folder: bool) -> tuple[str, str, str, str]:
    """Family, size, type and problem. Raises OSError where the file has gone."""
    key = model.path / "config.json" if is_folder else model.path
    match memory.get(key):
        case [str(family), str(size), str(kind), str(problem)]:
            return family, size, kind, problem
    told = _read_folder(model) if is_folder else _read_file(model)
    memory.put(key, list(told))
    return told


def _read_file(model: LocalModel) -> tuple[str, str, str, str]:
    from llama_core.errors import LlamaCoreError
    from llama_core.loaders.gguf.about import about_gguf

    try:
        about = about_gguf(model.path, (model.hint, model.name))
    except LlamaCoreError as error:
        return "", "", "", str(error)
    return about.family, about.size, about.type, ""


def _read_folder(model: LocalModel) -> tuple[str, str, str, str]:
    from llama_core.loaders.gguf.about import size_label

    try:
        config = read_object(model.path / "config.json")
    except (OSError, ValueError) as error:
        return "", "", "", f"config.json cannot be read: {error}"
    dtype = str(config.get("torch_dtype") or config.get("dtype") or "")[:32]
    method = config.get("quantization_config")
    kind = str(method.get("quant_method", "quantised"))[:32] if isinstance(method, dict) else dtype
    size = find_in(SIZE_IN_NAME, [model.name])
    if not size and kind in BYTES_OF:
        size = size_label(math.ceil(model.nbytes / BYTES_OF[kind]))
    return str(config.get("model_type") or "")[:64], size, kind, ""
