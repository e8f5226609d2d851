"""Will it run here? What a model needs of this machine, and how fast it will be, before it is loaded."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from chat_app.models.drafts import AUTO, find_draft
from chat_app.models.facts import Facts, facts_of_file
from chat_app.models.hub_models import HubModel
from chat_app.models.machine_rates import machine_rates
from chat_app.models.speeds import Speed, Speeds, measured_speeds
from chat_app.text.formatting import memory
from chat_app.text.sanitize import clean_line
from llama_core.choices import Backend

if TYPE_CHECKING:
    from llama_core.estimate import Work
    from llama_core.roofline.rates import MachineRates

# By the words for people; the first one that can run a model does.
BACKENDS = {"jit": "compiled", "numpy": "NumPy only"}
# A reply that is read as it comes: faster than most people read, and begun before they look away.
GOOD_DECODE_PER_S, GOOD_FIRST_TOKEN_S = 8.0, 20.0

NAME_LENGTH = 60

Range = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Outlook:
    """backend: "jit", "numpy", or "" where none can run it. why: why not, or why not the compiled one.

    memory_bytes: weights, keys and values; free_bytes: what this machine can give now. decode_per_s: tokens
    per second; first_token_s: after a prompt of 500 tokens; both as least and greatest, which are the same
    where they were measured. None where they are not known. draft: the small model that is loaded with it to
    guess ahead, if there is one and room for both; draft_bytes: what that takes beside memory_bytes.
    """

    backend: Backend | str = ""
    why: str = ""
    memory_bytes: int = 0
    free_bytes: int = 0
    decode_per_s: Range | None = None
    first_token_s: Range | None = None
    draft: str = ""
    draft_bytes: int = 0

    @property
    def why_not(self) -> str:
        """Why no backend can run it; empty where one can, or where nothing is known."""
        return "" if self.backend else self.why

    @property
    def fits(self) -> bool:
        """Whether there is memory for it."""
        return self.memory_bytes <= self.free_bytes

    @property
    def runs_well(self) -> bool:
        """Whether it answers at a pace that one can read along with."""
        if self.backend != "jit" or not self.fits or not self.decode_per_s or not self.first_token_s:
            return False
        return self.decode_per_s[0] >= GOOD_DECODE_PER_S and self.first_token_s[1] <= GOOD_FIRST_TOKEN_S

    @property
    def verdict(self) -> str:
        """Whether it runs, in a few words."""
        if not self.backend:
            return "does not run" if self.why else ""
        return BACKENDS[self.backend] if self.fits else "too large"

    @property
    def memory(self) -> str:
        """ "274 MiB" or "1.2 GiB"; empty where it is not known."""
        return memory(self.memory_bytes) if self.memory_bytes else ""

    @property
    def speed(self) -> str:
        """ "40-60 tok/s", or one number where it was measured."""
        return f"{_shown(self.decode_per_s)} tok/s" if self.decode_per_s else ""

    @property
    def first_token(self) -> str:
        """ "1.2-1.9 s", or one number where it was measured."""
        return f"{_shown(self.first_token_s)} s" if self.first_token_s else ""

    @property
    def sentence(self) -> str:
        """All of it, for people."""
        if not self.backend:
            return f"It does not run here: {self.why}." if self.why else "Its header was not read."
        said = [f"It needs {self.memory} of memory; {memory(self.free_bytes)} are free."]
        if self.draft:
            said.append(f"{self.draft}, which guesses ahead for it, takes {memory(self.draft_bytes)} more.")
        if self.speed:
            said.append(
                f"Here it writes {self.speed}; after 500 tokens of prompt it begins in {self.first_token}."
            )
        if self.why:
            said.append(f"Only the NumPy backend runs it: {self.why}.")
        return " ".join(said)


def _shown(span: Range) -> str:
    """Two digits are more than is known of what was not measured."""
    low, high = (f"{end:.{0 if end >= 9.95 else 1 if end >= 0.95 else 2}f}" for end in span)
    return low if low == high else f"{low}-{high}"


class Outlooks:
    """Outlooks of many models: the machine is asked once, and only where an answer needs it. May measure for
    a second, so not on a screen's thread."""

    @cached_property
    def _rates(self) -> MachineRates:
        return machine_rates()

    @cached_property
    def _speeds(self) -> Speeds:
        return measured_speeds()

    @cached_property
    def _free_bytes(self) -> int:
        from llama_core.memory import available_bytes

        return available_bytes()

    @cached_property
    def _compiles(self) -> str:
        """Why the compiled backend cannot run on this machine; empty where it can."""
        from llama_core.backends.jit import jit_available

        return jit_available() or ""

    def of(self, path: Path, facts: Facts) -> Outlook:
        """Of a model that lies here; replies that it has given count more than the estimate."""
        found = self._of(facts, self._speeds.of(path) if facts.runs else None)
        draft = find_draft(AUTO, path) if found.backend == "jit" else None
        try:
            work = facts_of_file(draft).works.get("jit") if draft is not None else None
        except OSError:  # a folder, or gone
            return found
        if draft is None or work is None or isinstance(work, str):
            return found
        return replace(found, draft=clean_line(draft.stem, NAME_LENGTH), draft_bytes=work.memory_bytes)

    def of_remote(self, facts: Facts) -> Outlook:
        """Of a model of which the header was read elsewhere."""
        return self._of(facts, None)

    def of_catalogue(self, model: HubModel) -> Outlook:
        """Of a model of which nothing is known but the catalogue's row."""
        from llama_core.backends.jit.plan import shape_problem
        from llama_core.estimate import EXPERTS_EXAMPLE, rough_work

        why = self._compiles or (model.active < 1 and shape_problem(EXPERTS_EXAMPLE)) or ""
        backend = "numpy" if why else "jit"
        return self._with(rough_work(model.nbytes, model.type, backend, model.active), backend, why, None)

    def _of(self, facts: Facts, speed: Speed | None) -> Outlook:
        compiled, plain = facts.works.get("jit"), facts.works.get("numpy")
        why = facts.refusal or facts.problem
        if compiled is not None and not isinstance(compiled, str) and not self._compiles:
            return self._with(compiled, "jit", "", speed)
        if isinstance(plain, str) or plain is None:
            return Outlook(why=why)
        return self._with(plain, "numpy", compiled if isinstance(compiled, str) else self._compiles, speed)

    def _with(self, work: Work, backend: str, why: str, speed: Speed | None) -> Outlook:
        from llama_core.estimate import PROMPT_TOKENS, SPREAD, expected

        middle = expected(work, backend, self._rates)
        decode: Range = (middle.decode_per_s * (1 - SPREAD), middle.decode_per_s * (1 + SPREAD))
        first: Range = (middle.first_token_s * (1 - SPREAD), middle.first_token_s * (1 + SPREAD))
        if speed is not None and speed.backend == backend:
            if speed.decode_per_s is not None:
                decode = (speed.decode_per_s, speed.decode_per_s)
            if speed.prompt_per_s is not None:
                first = (PROMPT_TOKENS / speed.prompt_per_s, PROMPT_TOKENS / speed.prompt_per_s)
        return Outlook(backend, why, work.memory_bytes, self._free_bytes, decode, first)


def best_to_fetch(outlooks: Outlooks, models: tuple[HubModel, ...]) -> tuple[HubModel, Outlook] | None:
    """The model of the catalogue that this machine runs well and that answers best: of those, the one with
    the most weights that a token uses. None where none does."""
    known = [(model, outlooks.of_catalogue(model)) for model in models]
    good = [(model, outlook) for model, outlook in known if outlook.runs_well]
    return max(good, key=lambda pair: pair[0].nbytes * pair[0].active ** 0.5, default=None)
