"""Every place on disk that the app uses; nothing is created before something is written (`ensure_dir`)."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from chat_app.text.errors import SentenceError
from chat_app.text.paths import read_path
from llama_core.trusted_files import make_private_folder

APP = "llama-chat"
HOME_VARIABLE = "LLAMA_CHAT_HOME"
KERNELS_VARIABLE = "LLAMA_CHAT_KERNELS"


@dataclass(frozen=True, slots=True)
class Paths:
    """The four roots and what stands in them. On some systems two roots are one folder, so names differ."""

    config: Path
    data: Path
    state: Path
    cache: Path

    @property
    def config_file(self) -> Path:
        """The settings that the user writes by hand."""
        return self.config / "config.toml"

    @property
    def presets(self) -> Path:
        """One file for each preset, written by `/preset save` or by hand."""
        return self.config / "presets"

    @property
    def database(self) -> Path:
        """Chats, prompts, drafts."""
        return self.data / "chats.db"

    @property
    def lab_results(self) -> Path:
        """The laboratory's records, added to with every run."""
        return self.data / "lab-results.jsonl"

    @property
    def log_file(self) -> Path:
        """What went wrong and where; without prompts and replies."""
        return self.state / "llama-chat.log"

    @property
    def models(self) -> Path:
        """Downloaded models: they can be fetched again, so they are cache."""
        return self.cache / "models"

    @property
    def model_facts(self) -> Path:
        """What the headers of the models on this machine said."""
        return self.cache / "model-facts.json"

    @property
    def machine_rates(self) -> Path:
        """How fast this machine reads and computes; it can be measured again."""
        return self.cache / "machine-rates.json"

    @property
    def model_speeds(self) -> Path:
        """How fast the replies of each model were here."""
        return self.cache / "model-speeds.json"

    @property
    def old_chats(self) -> Path:
        """Version 0.1 kept a folder for each chat here."""
        return self.data / "chats"

    @property
    def old_prompts(self) -> Path:
        """Where 0.1 kept the prompts that were typed."""
        return self.state / "prompts.jsonl"

    @property
    def old_drafts(self) -> Path:
        """Where 0.1 kept the drafts."""
        return self.state / "drafts"

    @property
    def kernels(self) -> Path:
        """Compiled kernels of the jit backend, or where LLAMA_CHAT_KERNELS says."""
        return _chosen(KERNELS_VARIABLE) or self.cache / "kernels"

    @property
    def kv_files(self) -> Path:
        """Keys and values of chats, which are computed again where they are missing."""
        return self.cache / "kv"

    @property
    def bench_models(self) -> Path:
        """Random models that `bench --shape` made; they can be made again."""
        return self.cache / "bench"


def get_paths() -> Paths:
    """The user's folders by the platform's convention, or all under `LLAMA_CHAT_HOME` where it is set.

    Raises SentenceError where no home is known.
    """
    root = _chosen(HOME_VARIABLE)
    if root is not None:
        return Paths(root / "config", root / "data", root / "state", root / "cache")
    import platformdirs

    here = platformdirs.PlatformDirs(APP, appauthor=False)
    roots = ("user_config_dir", "user_data_dir", "user_state_dir", "user_cache_dir")
    try:
        found = Paths(*(Path(getattr(here, name)) for name in roots))
        homeless = not found.data.is_absolute()  # a `~` as it is, which must not become a folder of that name
    except RuntimeError:  # as newer versions of platformdirs say it
        homeless = True
    if homeless:
        raise SentenceError(
            f"The home of this user is not known. Set {HOME_VARIABLE} to a folder for all files."
        )
    return found


def _chosen(variable: str) -> Path | None:
    """The folder that a variable names. Raises SentenceError where its home is not known."""
    text = os.environ.get(variable)
    try:
        return read_path(text).absolute() if text else None
    except ValueError as error:
        raise SentenceError(f"{variable}: {error}.") from None


def ensure_dir(path: Path) -> Path:
    """Create `path` (and its parents) readable by this user alone; returns it. What is there stays so."""
    make_private_folder(path)
    return path
