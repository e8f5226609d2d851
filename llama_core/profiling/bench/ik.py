"""ik_llama.cpp as a subject of the benchmark, through its own program `llama-bench`, one run a measurement.

    llama-bench -m FILE -t N -r 1 -o json ... -p 512 -n 0           pp512
                                              -p 0 -n 128           tg128
                                              -p 0 -n 0 -gp 4096,128    tg128@d4096

Each run answers with a list of one record; `avg_ts` is in tokens per second. Source: the program's usage.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

from llama_core.errors import LlamaCoreError
from llama_core.profiling.bench.run import Arithmetic
from llama_core.profiling.bench.tasks import Task
from llama_core.roofline.roofline import TokenCost

LABEL = "ik_llama.cpp"
# Flash attention, and weights laid out anew when they are loaded: its best setting for a processor.
BEST = ("-fa", "1", "-rtr", "1", "-mmp", "0", "-r", "1", "-o", "json")


class IkError(LlamaCoreError):
    """The program could not be run, or its answer holds no rate."""


class IkSubject:
    """Runs the program once for each measurement; it warms up by itself before it measures.

    Its decode rates leave out sampling, which favours it a little.
    """

    def __init__(self, program: Path, path: Path, threads: int, cost: TokenCost | None) -> None:
        """program: its `llama-bench`; path: the GGUF file. Raises IkError where there is no such program."""
        if shutil.which(program) is None:
            raise IkError(f"{program} is no program; build ik_llama.cpp and name its llama-bench")
        self.label = LABEL
        self.threads = threads
        self.cost = cost
        self.arithmetic: Arithmetic = "unknown"
        self._command = (os.fspath(program), "-m", os.fspath(path), "-t", str(threads), *BEST)

    def can(self, task: Task) -> bool:
        """Only prompts of random ids: it takes none of ours."""
        return not task.prompt_ids

    def measure(self, task: Task) -> float:
        """One run, in tokens per second. Raises IkError with the program's last words where it fails."""
        try:
            done = subprocess.run(
                (*self._command, *_of_task(task)),
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                errors="replace",
                check=False,
            )
        except OSError as error:
            raise IkError(f"{self._command[0]} cannot be run: {error.strerror}") from error
        if done.returncode != 0:
            words = (done.stderr.strip() or done.stdout.strip()).splitlines()
            last = ascii(words[-1][:200]) if words else f"exit code {done.returncode}"
            raise IkError(f"{self._command[0]} failed at {task.name}: {last}")
        return rate_in(done.stdout, task)


def _of_task(task: Task) -> tuple[str, ...]:
    """The arguments that make the program run this row and no other."""
    if not task.decodes:
        return ("-p", str(task.prompt_n), "-n", "0")
    if task.prompt_n > 1:
        return ("-p", "0", "-n", "0", "-gp", f"{task.prompt_n},{task.generated_n}")
    return ("-p", "0", "-n", str(task.generated_n))


def rate_in(answer: str, task: Task) -> float:
    """Tokens per second of the one record in what the program printed. Raises IkError where it is another's.

    Lines before the list are passed over: some builds print what they found of the machine.
    """
    start = answer.find("[\n")
    try:
        (record,) = json.loads(answer[start:])
        shape = int(record["n_prompt"]), int(record["n_gen"])
        rate = float(record["avg_ts"])
    except (ValueError, KeyError, TypeError) as error:
        raise IkError(f"llama-bench's answer to {task.name} is no list of one record with a rate") from error
    depth = task.prompt_n if not task.decodes or task.prompt_n > 1 else 0
    wanted = depth, task.generated_n if task.decodes else 0
    if shape != wanted or not rate > 0:
        raise IkError(
            f"llama-bench's answer to {task.name} is of {shape[0]} and {shape[1]} tokens at {rate} a second"
        )
    return rate
