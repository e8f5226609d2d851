"""What can be chosen of the engine. Without NumPy, so that the command line can offer it at once."""

from __future__ import annotations

from typing import Literal, get_args

Backend = Literal["auto", "jit", "numpy"]
KvType = Literal["f32", "f16", "q8"]
WeightForm = Literal["file", "8bit"]
BACKENDS: tuple[Backend, ...] = get_args(Backend)
KV_TYPES: tuple[KvType, ...] = get_args(KvType)
WEIGHT_FORMS: tuple[WeightForm, ...] = get_args(WeightForm)
MAX_THREADS = 256  # the compiled step has a cache line for each
