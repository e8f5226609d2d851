"""The best model that this machine runs well, for someone who talks to the small one that comes first."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from chat_app.models.catalogue import CATALOGUE, DEFAULT_MODEL, find_local
from chat_app.models.hub_models import HUB_MODELS
from chat_app.models.outlook import Outlooks, best_to_fetch


@dataclass(frozen=True, slots=True)
class Offer:
    """name: for `/model`. text: what it is, what it costs and how fast it is here, in a line."""

    name: str
    text: str


def is_first_model(path: Path | None) -> bool:
    """Whether the model at `path` is the one that everybody gets first."""
    return path is not None and path.name == CATALOGUE[DEFAULT_MODEL].file_name


def best_offer() -> Offer | None:
    """The best model of the catalogue that runs well here; None where none does. May measure the machine for
    a second or two, so not on a screen's thread."""
    best = best_to_fetch(Outlooks(), HUB_MODELS)
    if best is None:
        return None
    model, outlook = best
    cost = "on this machine" if find_local(model.name) else model.terms
    return Offer(model.name, f"{model.name}: {model.good_for} · {cost} · {outlook.speed} here")
