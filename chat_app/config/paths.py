"""Every place on disk that the app uses; nothing is created before something is written (`ensure_dir`)."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from chat_app.text.errors import SentenceError
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
    def bench_models(self) -> Path:
        """Random models that `bench --shape` made; they can be made again."""
        return self.cache / "bench"


def get_paths() -> Paths:
    """The user's folders by the platform's convention, or all under `LLAMA_CHAT_HOME` where it is set."""
    root = _chosen(HOME_VARIABLE)
    if root is not None:
        return Paths(root / "config", root / "data", root / "state", root / "cache")
    import platformdirs

    return Paths(
        Path(platformdirs.user_config_dir(APP, appauthor=False)),
        Path(platformdirs.user_data_dir(APP, appauthor=False)),
        Path(platformdirs.user_state_dir(APP, appauthor=False)),
        Path(platformdirs.user_cache_dir(APP, appauthor=False)),
    )


def _chosen(variable: str) -> Path | None:
    """The folder that a variable names. Raises SentenceError where its home is not known."""
    text = os.environ.get(variable)
    try:
        return Path(text).expanduser().absolute() if text else None
    except RuntimeError:
        raise SentenceError(f"{variable} is {text!r}: there is no such home.") from None


def ensure_dir(path: Path) -> Path:
    """Create `path` (and its parents) readable by this user alone; returns it. What is there stays so."""
    make_private_folder(path)
    return path
