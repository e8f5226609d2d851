"""What can be chosen of the engine. Without NumPy, so that the command line can offer it at once."""

from __future__ import annotations

from typing import Literal, get_args

Backend = Literal["auto", "jit", "numpy"]
KvType = Literal["f32", "f16", "bf16", "q8"]
# Whether a model is to think before it answers, or the most tokens of a thought; None leaves it to the model.
Thinking = Literal["on", "off"] | int | None
WeightForm = Literal["file", "8bit"]
BACKENDS: tuple[Backend, ...] = get_args(Backend)
KV_TYPES: tuple[KvType, ...] = get_args(KvType)
# How the compiled backend keeps keys and values unless told: half of f32's memory, multiplied twice as fast
# where processors have an instruction for it, and a perplexity that grows by less than 0.1 % (experiment 12).
# NumPy keeps f32.
DEFAULT_KV: KvType = "bf16"
WEIGHT_FORMS: tuple[WeightForm, ...] = get_args(WeightForm)
MAX_THREADS = 256  # the compiled step has a cache line for each
