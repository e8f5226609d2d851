"""The process that is counted: `python -m llama_core.profiling.profile.counters_worker JSON`.

It generates `n` tokens after a prompt of one and ends. With an empty path it uses random weights in
stories15M's shape, which a simulator can run.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from llama_core.profiling.machine import use_native_blas


def main(request: dict[str, Any]) -> None:
    """Run one request of `counters.profile_counters`."""
    from llama_core.engine.engine import Engine
    from llama_core.sampling.params import SamplingParams

    engine = Engine(_model(request), 256)
    params = SamplingParams(temperature=0.0, max_tokens=int(request["n"]) + 1, ignore_eos=True)
    for _ in engine.generate([7], params):
        pass


def _model(request: dict[str, Any]) -> Any:
    cache = Path(request["kernel_cache"]) if request["kernel_cache"] else None
    if not request["path"]:
        return _small_model(request["backend"], cache)
    from llama_core.engine.load import load_engine

    return load_engine(request["path"], backend=request["backend"], threads=1, kernel_cache=cache).model


def _small_model(backend: str, kernel_cache: Path | None) -> Any:
    from llama_core.backends.numpy.model import Llama
    from llama_core.profiling.synthetic import STORIES15M

    if backend == "numpy":
        from llama_core.backends.numpy.weights import random_weights

        return Llama(STORIES15M, random_weights(STORIES15M), 1)
    from llama_core.backends.jit import load_jit_model
    from llama_core.backends.jit.build.variants import AVX2, host_features
    from llama_core.profiling.synthetic import NoTokenizer, random_checkpoint

    features = host_features()
    # The most that valgrind knows.
    isa = AVX2.name if all(features.get(need) for need in AVX2.needs) else None
    checkpoint = random_checkpoint(STORIES15M, NoTokenizer())
    return load_jit_model(checkpoint, threads=1, kernel_cache=kernel_cache, isa=isa)


if __name__ == "__main__":
    use_native_blas()
    main(json.loads(sys.argv[1]))
