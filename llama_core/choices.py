"""What can be chosen of the engine. Without NumPy, so that the command line can offer it at once."""

from __future__ import annotations

from typing import Literal, get_args

Backend = Literal["auto", "jit", "numpy"]
KvType = Literal["f32", "f16", "q8"]
# Whether a model is to think before it answers, or the most tokens of a thought; None leaves it to the model.
Thinking = Literal["on", "off"] | int | None
WeightForm = Literal["file", "8bit"]
BACKENDS: tuple[Backend, ...] = get_args(Backend)
KV_TYPES: tuple[KvType, ...] = get_args(KvType)
# How the compiled backend keeps keys and values unless told: half of f32's memory, and the perplexity of
# 2,000 tokens within 0.05 % (experiment 12). NumPy keeps f32.
DEFAULT_KV: KvType = "f16"
WEIGHT_FORMS: tuple[WeightForm, ...] = get_args(WeightForm)
MAX_THREADS = 256  # the compiled step has a cache line for each
