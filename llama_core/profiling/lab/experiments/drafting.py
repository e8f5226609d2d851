"""Experiment 16: a small model that guesses what a large one will say, where it is right and where not."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

from llama_core.backends.jit.model import JitLlama
from llama_core.checkpoint import Checkpoint, Tensor
from llama_core.config import ModelConfig
from llama_core.engine.drafting.base import Drafter
from llama_core.engine.drafting.draft_model import DraftModel
from llama_core.engine.engine import Engine
from llama_core.events import Finished
from llama_core.profiling.lab.experiment import Case, Claim, Experiment, LabContext, NotMeasured, Timed, same
from llama_core.profiling.lab.experiments.models import NO_MODEL, compiled_model, default_checkpoint
from llama_core.profiling.synthetic import NoTokenizer, random_checkpoint
from llama_core.sampling.params import SamplingParams

TIMES = 4  # layers of the large model for one of the small
REPLY = 64
PROMPT = "The old mill stands at the end of a narrow lane, half a mile from the village."
WHAT = f"a reply of {REPLY} tokens"


def deepened(checkpoint: Checkpoint, times: int) -> Checkpoint:
    """The same function with `times` as many layers: the others add nothing to the residual stream.

    A block of zero bytes is zeros in every type of the file."""
    tensors = dict(checkpoint.tensors)
    n_layers = checkpoint.config.n_layers
    for layer in range(n_layers, times * n_layers):
        start = f"layers.{layer % n_layers}."
        for name, tensor in checkpoint.tensors.items():
            if not name.startswith(start):
                continue
            part = name.removeprefix(start)
            if part in ("o_proj", "down_proj"):
                rows, row_bytes = tensor.raw.shape
                zeros = np.zeros((rows, row_bytes), dtype=np.uint8)
                tensor = Tensor(name, tensor.shape, tensor.fmt, zeros)
            tensors[f"layers.{layer}.{part}"] = tensor
    config = replace(checkpoint.config, n_layers=times * n_layers)
    return replace(checkpoint, config=config, tensors=tensors, path=Path(f"{times} times as deep.synthetic"))


class Replying:
    """A greedy reply of REPLY tokens, with guesses or without, timed by the engine's own clock. The drafter
    keeps what it has measured from reply to reply, as in a chat."""

    def __init__(self, model: JitLlama, prompt: list[int], drafter: Drafter | None) -> None:
        self._engine = Engine(model, len(prompt) + REPLY + 1)
        self._engine.drafter = drafter
        self._prompt = prompt

    def __call__(self) -> Timed:
        """One reply; its ids."""
        self._engine.reset()
        params = SamplingParams(temperature=0.0, max_tokens=REPLY, ignore_eos=True)
        for event in self._engine.generate(self._prompt, params):
            if isinstance(event, Finished):
                return Timed(list(event.ids), event.timings.predicted_s)
        raise RuntimeError("the engine's stream ended without its last record")


def cases(context: LabContext) -> Iterator[Case | NotMeasured]:
    """The rows, in order; models are made as they are asked for."""
    small = default_checkpoint(context)
    if small is None:
        yield NotMeasured(WHAT, NO_MODEL)
        return
    guesser = compiled_model(context, small)
    large = compiled_model(context, deepened(small, TIMES))
    wrong = compiled_model(
        context, random_checkpoint(_shape_of_nonsense(small.config), NoTokenizer(), seed=16)
    )
    for model in (guesser, large, wrong):
        if isinstance(model, str):
            yield NotMeasured(WHAT, model)
            return
    assert not isinstance(guesser, str)
    assert not isinstance(large, str)
    assert not isinstance(wrong, str)
    prompt = list(small.tokenizer.encode(PROMPT))
    room = len(prompt) + REPLY + 1
    plain = Replying(large, prompt, None)
    for name, model, claim, why in (
        (
            "guesses that are always right",
            guesser,
            Claim(1.1),
            "several tokens share one reading of the large model's weights, at a quarter of its cost each",
        ),
        (
            "guesses that are never right",
            wrong,
            Claim(0.9),
            "the trial finds that they do not pay, and lets them rest",
        ),
    ):
        yield Case(
            name=f"{WHAT}: {name}, instead of none",
            before=plain,
            after=Replying(large, prompt, DraftModel(model, room, small.config.vocab_size)),
            claim=claim,
            check=same,
            work=REPLY,
            unit="tok",
            headline=True,
            budget_s=8 * context.budget_s,  # a reply takes half a second
            why=why,
        )


def _shape_of_nonsense(config: ModelConfig) -> ModelConfig:
    """A tiny model over the same tokens."""
    return ModelConfig(
        dim=64,
        hidden_dim=96,
        n_layers=1,
        n_heads=4,
        n_kv_heads=2,
        head_dim=16,
        vocab_size=config.vocab_size,
        max_seq_len=config.max_seq_len,
        name="nonsense",
    )


EXPERIMENT = Experiment(
    number=16,
    name="drafting",
    title="A small model guesses for a large one",
    hypothesis="A model four times as deep as the one that guesses replies at least a tenth faster where "
    "every guess is right, with the same tokens, and loses at most a tenth where none is, because it "
    "measures whether guessing pays",
    refuted_if="tokens differ, right guesses gain less than a tenth, or wrong ones cost more than a tenth",
    cases=cases,
    processes=2,
    whole=True,
)
