"""What the models on this machine are: family, size, type, and what each backend says to them.

A file's header is read once; what it said is remembered while size and time stay the same, and while the
program's own answer does.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from chat_app.config.paths import get_paths
from chat_app.models.file_memory import FileMemory
from chat_app.models.installed import LocalModel
from chat_app.models.stores.machine import read_object
from llama_core.loaders.gguf.shard_names import SIZE_IN_NAME, find_in

if TYPE_CHECKING:
    from llama_core.estimate import Work

BYTES_OF = {"float32": 4, "bfloat16": 2, "float16": 2}


@dataclass(frozen=True, slots=True)
class Facts:
    """size such as "1.7B", type such as "Q4_K_M"; empty texts: not known.

    works: what the model asks with each backend, or why that cannot run it; empty where no backend can.
    refusal: why none can. problem: why nothing is known of the file.
    """

    family: str = ""
    size: str = ""
    type: str = ""
    works: Mapping[str, Work | str] = field(default_factory=dict, hash=False)
    refusal: str = ""
    problem: str = ""

    @property
    def runs(self) -> bool:
        """Whether any backend can run it."""
        return any(not isinstance(work, str) for work in self.works.values())


def facts_of(
    models: Iterable[LocalModel], on_progress: Callable[[int, int], None] | None = None
) -> dict[Path, Facts]:
    """The facts of each model, by its path; empty ones for models of which a file is missing. on_progress:
    (files done, in all), called for those whose header must be read."""
    memory = FileMemory(get_paths().model_facts)
    facts: dict[Path, Facts] = {}
    models = list(models)
    for index, model in enumerate(models):
        if not model.is_whole:
            facts[model.path] = Facts()  # its `source` says what it lacks
            continue
        is_folder = not model.files and model.path.is_dir()
        key = model.path / "config.json" if is_folder else model.path
        try:
            known = _facts_from(memory.get(key))
            if known is None:
                if on_progress is not None:
                    on_progress(index, len(models))
                known = _read_folder(model) if is_folder else _read_file(model)
                memory.put(key, {"program": _program(), **_to_json(known)})
        except OSError as error:
            known = Facts(problem=f"{model.path} cannot be read: {error.strerror}.")
        facts[model.path] = known
    with contextlib.suppress(OSError):  # the memory only saves time
        memory.save()
    return facts


def facts_of_file(path: Path, names: Iterable[str] = ()) -> Facts:
    """The facts of a GGUF file of which only the header need be there. Raises OSError."""
    from llama_core.errors import LlamaCoreError
    from llama_core.loaders.gguf.about import about_gguf

    try:
        about = about_gguf(path, names)
    except LlamaCoreError as error:
        return Facts(problem=str(error))
    return _answered(Facts(about.family, about.size, about.type), path)


def _answered(facts: Facts, path: Path) -> Facts:
    """`facts` with what the backends say to the model at `path`."""
    from llama_core.errors import LlamaCoreError, UnsupportedModelError
    from llama_core.estimate import works_of
    from llama_core.loaders import skim_model

    try:
        model = skim_model(path)
        return replace(facts, works=works_of(model.config, model.tensors))
    except UnsupportedModelError as error:
        return replace(facts, refusal=f"{error.where} {error.problem}")
    except LlamaCoreError as error:
        return replace(facts, problem=str(error))


def _read_file(model: LocalModel) -> Facts:
    return facts_of_file(model.path, (model.hint, model.name))


def _read_folder(model: LocalModel) -> Facts:
    from llama_core.loaders.gguf.about import size_label

    try:
        config = read_object(model.path / "config.json")
    except (OSError, ValueError) as error:
        return Facts(problem=f"config.json cannot be read: {error}")
    dtype = str(config.get("torch_dtype") or config.get("dtype") or "")[:32]
    method = config.get("quantization_config")
    kind = str(method.get("quant_method", "quantised"))[:32] if isinstance(method, dict) else dtype
    size = find_in(SIZE_IN_NAME, [model.name])
    if not size and kind in BYTES_OF:
        size = size_label(math.ceil(model.nbytes / BYTES_OF[kind]))
    return _answered(Facts(str(config.get("model_type") or "")[:64], size, kind), model.path)


@cache
def _program() -> int:
    """Changes with what decides what runs here: another version may run more."""
    import llama_core

    root = Path(llama_core.__file__).parent
    deciders = [root / "estimate.py", root / "backends" / "jit" / "plan.py", *root.glob("architectures/*.py")]
    return max(path.stat().st_mtime_ns for path in deciders)


def _to_json(facts: Facts) -> dict[str, Any]:
    works = {name: work if isinstance(work, str) else asdict(work) for name, work in facts.works.items()}
    names = ("family", "size", "type", "refusal", "problem")
    return {**{name: getattr(facts, name) for name in names}, "works": works}


def _facts_from(value: Any) -> Facts | None:
    """What `_to_json` made, by this program; None for anything else."""
    from llama_core.estimate import Work

    if not isinstance(value, dict) or value.pop("program", None) != _program():
        return None
    try:
        works = {
            name: work if isinstance(work, str) else Work(**work) for name, work in value["works"].items()
        }
        return Facts(**{**value, "works": works})
    except (TypeError, KeyError, AttributeError):
        return None
