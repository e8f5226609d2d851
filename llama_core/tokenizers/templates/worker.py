"""The process that renders chat templates, from its parent's side: started once, kept, replaced when it ends.

Jinja's sandbox bounds neither time nor memory, and nothing inside a Python process can. So templates run in
a process of their own that the system limits (`program.py`).
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping
from typing import IO, Any

from llama_core.errors import ConversationRefusedError, TemplateError
from llama_core.own_code import module_command, module_environment

# Processor time, so that a busy machine fails no template: published ones take a millisecond of it.
CPU_S = 1.5
# For a machine so busy that the worker gets no processor, and for Windows, which has no other limit.
WALL_S = 2.3 if sys.platform == "win32" else 20.0
# JSON writes a character in at most 12 bytes.
BYTES_PER_CHAR = 12
MAX_ERROR_BYTES = 100_000


class TemplateWorker:
    """A process that renders templates, one at a time. Safe to share by threads: they wait for each other.

    cpu_s: processor time for one rendering; wall_s: how long it may take, the process's start included.
    """

    def __init__(self, cpu_s: float = CPU_S, wall_s: float = WALL_S) -> None:
        self._cpu_s = cpu_s
        self._wall_s = wall_s
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int | None:
        """The process's id while there is one."""
        return None if self._process is None else self._process.pid

    def start(self) -> None:
        """Start the process without waiting for it, so that the first rendering need not. A start that
        fails says so when something is rendered."""
        with self._lock:
            try:
                self._running()
            except OSError:
                return

    def render(self, source: str, variables: Mapping[str, Any], max_chars: int) -> str:
        """The text of a template. variables: str, list, dict, bool and None only.

        Raises ConversationRefusedError where the template refuses; TemplateError where it fails, gives more
        than `max_chars` characters, or exceeds the limits of `program.py`. A process that somebody else ended
        is replaced, once, and asked again.
        """
        request = {"source": source, "variables": dict(variables), "max_chars": max_chars}
        line = json.dumps(request).encode() + b"\n"
        max_bytes = max_chars * BYTES_PER_CHAR + MAX_ERROR_BYTES
        with self._lock:
            answer = self._ask(line, max_bytes) or self._ask(line, max_bytes)
        if answer is None:
            raise TemplateError("The helper process for chat templates ended twice before it answered.")
        found = json.loads(answer)
        if "refused" in found:
            raise ConversationRefusedError(found["refused"])
        if "error" in found:
            raise TemplateError(found["error"])
        return str(found["text"])

    def close(self) -> None:
        """End the process. The next rendering starts another."""
        with self._lock:
            self._end()

    def _running(self) -> subprocess.Popen[bytes]:
        """The process, started where there is none. Raises OSError."""
        if self._process is not None and self._process.poll() is not None:
            self._end()
        if self._process is None:
            self._process = subprocess.Popen(
                module_command("llama_core.tokenizers.templates.program", str(self._cpu_s)),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                # Given explicitly: under a full-screen app the standard error need not be a real file.
                stderr=subprocess.DEVNULL,
                env=module_environment(),
                # Ctrl+C and Ctrl+Z in the terminal are this process's affair. It ends with its input.
                start_new_session=True,
            )
        return self._process

    def _ask(self, line: bytes, max_bytes: int) -> bytes | None:
        """The answer, or None where the process was ended by neither its limits nor this clock."""
        try:
            process = self._running()
        except OSError as error:
            raise TemplateError(f"The model's chat template needs a helper process: {error}") from error
        late = threading.Event()

        def give_up() -> None:
            late.set()
            process.kill()

        timer = threading.Timer(self._wall_s, give_up)
        timer.daemon = True
        timer.start()
        answer = b""
        try:
            answer = _exchange(process, line, max_bytes)
        finally:
            timer.cancel()
            if not answer:  # it ended, or this thread was interrupted: an answer to come would be a stray one
                self._end()
        if answer:
            return answer
        if late.is_set():
            raise TemplateError(
                f"The model's chat template was not rendered within {self._wall_s:g} s: it takes too long, "
                "or the machine is too busy."
            )
        if _hit_its_limit(process.returncode):
            raise TemplateError(f"The model's chat template takes too long: over {self._cpu_s:g} s of work.")
        return None

    def _end(self) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        process.kill()
        process.wait()
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                _close(pipe)


def _exchange(process: subprocess.Popen[bytes], line: bytes, max_bytes: int) -> bytes:
    """The whole line of the answer; empty where the process ended before it was written."""
    if process.stdin is None or process.stdout is None:
        return b""
    try:
        process.stdin.write(line)
        process.stdin.flush()
        answer = process.stdout.readline(max_bytes)
    except OSError:  # it ended while reading
        return b""
    return answer if answer.endswith(b"\n") else b""


def _hit_its_limit(returncode: int) -> bool:
    return sys.platform != "win32" and returncode == -signal.SIGPROF


def _close(pipe: IO[bytes]) -> None:
    try:
        pipe.close()
    except OSError:  # what was not written has no reader any more
        return


# One process is enough for all templates.
SHARED = TemplateWorker()
