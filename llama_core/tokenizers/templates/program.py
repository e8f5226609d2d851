"""The worker process that renders chat templates, under limits that the system keeps.

It reads requests from its standard input and writes answers to its standard output, a JSON object a line:

    {"source": "...", "variables": {...}, "max_chars": 1000}
        ->  {"text": "..."}, {"refused": "..."} by the template's own words, or {"error": "..."}

Each request has as much processor time as the argument says, in seconds; the system ends the process that
takes more. A process that ran out of memory ends itself behind its answer. It ends too when its input does:
with its parent. `worker.py` starts it, and another in its place.
"""

from __future__ import annotations

import json
import signal
import sys
import time
from functools import lru_cache
from typing import Any

from llama_core.tokenizers.templates.environment import (
    RefusedByTemplateError,
    chat_environment,
    explain,
)

MEMORY_BYTES = 512 * 1024 * 1024
# Compiling takes 20 ms for a long template; a process meets few.
MAX_COMPILED = 16


def main(cpu_s: float) -> None:
    """Answer requests until the input ends. cpu_s: processor time for each."""
    _limit_this_process()
    compiled = lru_cache(MAX_COMPILED)(chat_environment().from_string)
    for line in iter(sys.stdin.buffer.readline, b""):
        _allow(cpu_s)
        out_of_memory = False
        try:
            request = json.loads(line)
            answer = _render(compiled(request["source"]), request["variables"], request["max_chars"])
        except Exception as error:  # noqa: BLE001 - a template can raise anything; the parent wants a sentence
            kind = "refused" if isinstance(error, RefusedByTemplateError) else "error"
            answer = {kind: explain(error)}
            out_of_memory = isinstance(error, MemoryError)
        sys.stdout.buffer.write(json.dumps(answer).encode() + b"\n")
        sys.stdout.buffer.flush()
        if out_of_memory:
            return


def _render(template: Any, variables: dict[str, Any], max_chars: int) -> dict[str, str]:
    parts: list[str] = []
    left = max_chars
    for part in template.generate(variables):
        left -= len(part)
        if left < 0:
            return {
                "error": f"The model's chat template produces too much text, over {max_chars:,} characters."
            }
        parts.append(part)
    return {"text": "".join(parts)}


def _allow(seconds: float) -> None:
    """Processor time from now on. SIGPROF, which comes at its end, ends the process."""
    if sys.platform != "win32":  # there only the parent's clock limits it
        signal.setitimer(signal.ITIMER_PROF, seconds)


def _limit_this_process() -> None:
    if sys.platform == "win32":
        return
    import resource

    # Whoever started this may have had it ignored or blocked, which is inherited.
    signal.signal(signal.SIGPROF, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGPROF])
    limits = {resource.RLIMIT_AS: MEMORY_BYTES, resource.RLIMIT_CORE: 0, resource.RLIMIT_FSIZE: 0}
    for kind, limit in limits.items():
        _, hard = resource.getrlimit(kind)
        bound = limit if hard == resource.RLIM_INFINITY else min(limit, hard)
        try:
            resource.setrlimit(kind, (bound, bound))
        except (ValueError, OSError):
            continue  # macOS refuses RLIMIT_AS; the clock still limits it
    time.tzset()  # reads the time zone's file once, before a template asks for the date


if __name__ == "__main__":
    main(float(sys.argv[1]))
