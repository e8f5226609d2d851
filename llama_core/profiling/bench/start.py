"""What a start costs, in a process of its own: `python -m llama_core.profiling.bench.start JSON`.

The argument names the model and the subject; one line of JSON comes back on stdout. Times in seconds,
memory as the process's resident size. A fresh process is the only honest way to say "cold".
"""

from __future__ import annotations

import json
import mmap
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from llama_core.memory import available_bytes, private_memory
from llama_core.own_code import module_command, module_environment
from llama_core.profiling.machine import peak_bytes, use_native_blas

PROMPT_N = 31  # a short chat prompt
HELD = 2  # times the file's bytes: more than any subject holds beside the file's own pages


def measure_start(
    backend: str, path: Path, threads: int, kv: str, kernel_cache: Path | None
) -> dict[str, Any]:
    """Run the measurement in a child process. Raises RuntimeError with its last words when it fails, OSError
    where the file cannot be read.

    backend: "numpy", "jit" or "llama.cpp". Returns load_s, compile_s (of a first use, apart), ttft_cold_s,
    ttft_warm_s (prompts of PROMPT_N tokens), resident_bytes after loading, peak_bytes at the end, and for our
    backends the engine's own account after the second prompt, weights_bytes, kv_bytes, kv_used_bytes and
    scratch_bytes.
    """
    request = {
        "backend": backend,
        "path": str(path),
        "threads": threads,
        "kv": kv,
        "kernel_cache": str(kernel_cache) if kernel_cache else None,
    }
    level_ground(path)
    done = subprocess.run(
        module_command("llama_core.profiling.bench.start", json.dumps(request)),
        env=module_environment(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        words = done.stderr.strip().splitlines()
        raise RuntimeError(words[-1] if words else f"exit code {done.returncode}")
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def level_ground(path: Path) -> None:
    """Bring the machine into one state before each start: the file in the page cache, and free memory that
    was written to before.

    A virtual machine's host gives memory when it is first touched, and takes back what lies idle: the first
    process to use it pays. Loading 1B took 0.5 or 2.2 s by that alone, and the order of the starts decided.
    """
    nbytes, scratch = 0, bytearray(1 << 20)
    for file in sorted(path.glob("*.safetensors")) if path.is_dir() else [path]:
        with file.open("rb", buffering=0) as opened:
            while opened.readinto(scratch):
                pass
        nbytes += file.stat().st_size
    memory = private_memory(min(HELD * nbytes, available_bytes() // 2) + mmap.PAGESIZE)
    if hasattr(mmap, "MADV_HUGEPAGE"):
        memory.madvise(mmap.MADV_HUGEPAGE)
    np.frombuffer(memory, dtype=np.uint8)[:: mmap.PAGESIZE] = 1
    # Given back with the last view of it, here.


def middle_start(runs: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Several starts of one subject as one: the median of each figure, but the longest compilation, which
    only a first use has. `runs` keeps them all."""
    middle = dict(runs[0])
    for name, value in runs[0].items():
        if not isinstance(value, str):
            middle[name] = type(value)(statistics.median(run[name] for run in runs))
    middle["compile_s"] = max(run["compile_s"] for run in runs)
    return {**middle, "runs": list(runs)}


def main(request: dict[str, Any]) -> dict[str, Any]:
    """In the child: open the model, answer twice, report."""
    from llama_core.events import LoadProgress
    from llama_core.memory import resident_bytes
    from llama_core.profiling.bench.run import EngineSubject, Subject
    from llama_core.profiling.bench.tasks import prefill

    path, threads = Path(request["path"]), int(request["threads"])
    compiling: list[float] = []  # the beginning and the end of the stage "kernels", where there was one

    def on_progress(progress: LoadProgress) -> None:
        if progress.stage == "kernels":
            compiling.append(time.perf_counter())

    started = time.perf_counter()
    subject: Subject
    ours: EngineSubject | None = None
    account: dict[str, int] = {}
    if request["backend"] == "llama.cpp":
        from llama_core.profiling.bench.llama_cpp import LlamaCppSubject

        subject = LlamaCppSubject(path, threads, 4096, None)
    else:
        from llama_core.engine.load import load_engine

        cache = Path(request["kernel_cache"]) if request["kernel_cache"] else None
        engine = load_engine(
            path,
            backend=request["backend"],
            threads=threads,
            kv=request["kv"],
            kernel_cache=cache,
            on_progress=on_progress,
        )
        subject = ours = EngineSubject(request["backend"], engine.model, engine.ctx_size, None)
    compile_s = compiling[-1] - compiling[0] if compiling else 0.0
    load_s = time.perf_counter() - started - compile_s
    resident = resident_bytes()
    cold_s, warm_s = (PROMPT_N / subject.measure(prefill(PROMPT_N)) for _ in range(2))
    if ours is not None:
        memory = ours.memory()
        names = ("weights_bytes", "kv_bytes", "kv_used_bytes", "scratch_bytes")
        account = {name: getattr(memory, name) for name in names}
    return {
        "backend": request["backend"] + ("" if request["kv"] == "f32" else f" kv {request['kv']}"),
        "load_s": load_s,
        "compile_s": compile_s,
        "ttft_cold_s": cold_s,
        "ttft_warm_s": warm_s,
        "resident_bytes": resident,
        "peak_bytes": peak_bytes(),
        **account,
    }


if __name__ == "__main__":
    use_native_blas()
    result = main(json.loads(sys.argv[1]))
    sys.stdout.write(json.dumps(result) + "\n")
    sys.stdout.flush()
    os._exit(0)  # nothing is left to save, and some libraries take long to unload
