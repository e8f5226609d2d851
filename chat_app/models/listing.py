"""All models that can be chosen: those here, and those that can be fetched, each with its outlook."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from chat_app.models import catalogue
from chat_app.models.facts import Facts, facts_of
from chat_app.models.hub_models import HubModel
from chat_app.models.installed import LocalModel
from chat_app.models.outlook import Outlook, Outlooks


@dataclass(frozen=True, slots=True)
class Listed:
    """A model by name. path: None where it is not here. about: where it is from, or what it is good for.
    more: what else is known of it, for programs."""

    name: str
    nbytes: int
    about: str
    facts: Facts
    outlook: Outlook
    path: Path | None = None
    more: tuple[tuple[str, Any], ...] = ()

    @property
    def kind(self) -> str:
        """Family, size and type, as far as they are known."""
        return " ".join(filter(None, (self.facts.family, self.facts.size, self.facts.type)))

    @property
    def verdict(self) -> str:
        """Whether it runs, in a few words."""
        return "cannot be read" if self.facts.problem else self.outlook.verdict

    def to_json(self) -> dict[str, Any]:
        """As `models list --output json` has it."""
        outlook = self.outlook
        return {
            "name": self.name,
            "path": None if self.path is None else str(self.path),
            "bytes": self.nbytes,
            "source": self.about if self.path is not None else "can be fetched",
            "family": self.facts.family,
            "size": self.facts.size,
            "type": self.facts.type,
            "runs": bool(outlook.backend),
            "backend": outlook.backend or None,
            "why_not": outlook.why or None,
            "problem": self.facts.problem,
            "memory_bytes": outlook.memory_bytes or None,
            "fits": outlook.fits if outlook.backend else None,
            "decode_tokens_per_s": outlook.decode_per_s,
            "first_token_s": outlook.first_token_s,
            **dict(self.more),
        }


def all_models(on_progress: Callable[[int, int], None] | None = None) -> list[Listed]:
    """Those here first, as `local_models` orders them. May read headers and measure the machine for a second.
    on_progress: see `facts_of`."""
    here = catalogue.local_models()
    facts = facts_of(here, on_progress)
    outlooks = Outlooks()
    rows = [_of_local(model, facts[model.path], outlooks) for model in here]
    found = {model.name for model in here}
    rows += [_of_entry(entry) for entry in catalogue.CATALOGUE.values() if entry.name not in found]
    return rows + [_of_hub(model, outlooks) for model in catalogue.to_fetch(here)]


def _of_local(model: LocalModel, facts: Facts, outlooks: Outlooks) -> Listed:
    return Listed(
        model.name,
        model.nbytes,
        model.source,
        facts,
        outlooks.of(model.path, facts) if model.is_whole else Outlook(),
        model.path,
        (("complete", model.is_whole),),
    )


def _of_entry(entry: catalogue.CatalogueEntry) -> Listed:
    about = f"not here: llama-chat models pull {entry.name}"
    more = (("licence", entry.licence), ("fetch_bytes", entry.wheel_bytes))
    return Listed(entry.name, entry.model_bytes, about, Facts(), Outlook(), more=more)


def _of_hub(model: HubModel, outlooks: Outlooks) -> Listed:
    about = f"can be fetched: {model.good_for} ({model.licence})"
    more = (("hub_name", model.hub_name), ("licence", model.licence), ("good_for", model.good_for))
    facts = Facts(type=model.type)
    return Listed(model.name, model.nbytes, about, facts, outlooks.of_catalogue(model), more=more)
