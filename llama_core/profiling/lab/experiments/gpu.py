"""The laboratory's row about a GPU, with whichever array library finds one."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llama_core.profiling.lab.experiment import Case, NotMeasured, arrays_match

F32 = NDArray[np.float32]
SIZE = 1024
NAME = f"product {SIZE} x {SIZE} on a GPU instead of the BLAS"


class NoDevice(Exception):  # noqa: N818 - no error, a machine without a GPU
    """A library that is there and finds nothing to compute on."""


def _cupy(library: Any, host: F32) -> Callable[[], Any]:
    if not library.cuda.runtime.getDeviceCount():
        raise NoDevice
    a = library.asarray(host)
    return lambda: library.asnumpy(a @ a)


def _torch(library: Any, host: F32) -> Callable[[], Any]:
    if not library.cuda.is_available():
        raise NoDevice
    a = library.from_numpy(host).to("cuda")
    return lambda: (a @ a).cpu().numpy()


LIBRARIES: dict[str, Callable[[Any, F32], Callable[[], Any]]] = {"cupy": _cupy, "torch": _torch}


def gpu_row() -> Case | NotMeasured:
    """A large product with the matrix already on the device; copying the result back counts."""
    host = np.random.default_rng(9).standard_normal((SIZE, SIZE), dtype=np.float32)
    reasons = []
    for name, on_device in LIBRARIES.items():
        if importlib.util.find_spec(name) is None:
            reasons.append(f"{name} is not installed")
            continue
        try:
            product = on_device(importlib.import_module(name), host)
        except NoDevice:
            reasons.append(f"{name} finds no CUDA device")
        except Exception as error:  # noqa: BLE001 - drivers fail in ways of their own; the other rows stay
            reasons.append(f"{name}: {type(error).__name__}: {error}")
        else:
            before = partial(np.matmul, host, host)
            return Case(NAME, before, product, check=arrays_match(1e-3), note=f"by {name}")
    return NotMeasured(NAME, f"no GPU array library with a device: {', '.join(reasons)}")
