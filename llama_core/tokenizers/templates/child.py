"""Rendering a template in a child process that the system limits and this process ends in time.

For templates whose cost cannot be counted (`template_meter.py`). Run as a program, this module is the
child: it reads a request from its standard input and writes the answer to its standard output, both JSON.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Mapping
from typing import Any

from llama_core.errors import TemplateError

CPU_S = 2
MEMORY_BYTES = 512 * 1024 * 1024
MAX_OUTPUT = 32_000_000
_BOOTSTRAP = """
import sys
sys.path[:] = sys.argv[1:]
from llama_core.tokenizers.templates import child
child.main()
"""
_KEPT = ("LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "SYSTEMROOT", "PATH")


def render_in_child(source: str, variables: Mapping[str, Any], timeout_s: float) -> str:
    """The rendered text. Raises TemplateError when the template fails, or is not done within `timeout_s`
    seconds (the child's start, about 0.1 s, included), 512 MiB and 32 million characters of output."""
    request = json.dumps({"source": source, "variables": dict(variables)}).encode()
    # -I and -S: nothing of the user's environment runs in the child; its import path is ours.
    command = [sys.executable, "-I", "-S", "-c", _BOOTSTRAP, *filter(None, sys.path)]
    try:
        child = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            # Given explicitly: under a full-screen app the standard error need not be a real file.
            stderr=subprocess.DEVNULL,
            env={name: os.environ[name] for name in _KEPT if name in os.environ},
        )
    except OSError as error:
        raise TemplateError(f"The model's chat template needs a helper process: {error}") from error
    timer = threading.Timer(timeout_s, child.kill)
    timer.daemon = True
    timer.start()
    try:
        answer = _exchange(child, request)
    finally:
        timer.cancel()
        child.kill()
        child.wait()
    return _text_of(answer)


def _exchange(child: subprocess.Popen[bytes], request: bytes) -> bytes:
    if child.stdin is None or child.stdout is None:
        raise TemplateError("The helper process for chat templates has no pipes.")
    with child.stdin, child.stdout:
        try:
            child.stdin.write(request)
            child.stdin.close()
        except OSError:
            pass  # killed or died early: what it wrote, if anything, tells why
        return child.stdout.read(MAX_OUTPUT * 12 + 1)  # JSON writes a character in at most 12 bytes


def _text_of(answer: bytes) -> str:
    try:
        found = json.loads(answer)
        if isinstance(found, dict) and isinstance(found.get("text"), str):
            return str(found["text"])
        problem = str(found["error"])
    except (ValueError, KeyError, TypeError) as error:
        raise TemplateError("The model's chat template takes too long or needs too much memory.") from error
    raise TemplateError(problem)


def main() -> None:
    """The child: limit yourself, render, answer."""
    _limit_this_process()
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    from llama_core.tokenizers.templates.environment import chat_environment, explain

    try:
        request = json.loads(sys.stdin.buffer.read())
        template = chat_environment(ImmutableSandboxedEnvironment).from_string(request["source"])
        text = template.render(request["variables"])
        answer = {"text": text} if len(text) <= MAX_OUTPUT else {"error": _TOO_LONG}
    except Exception as error:  # noqa: BLE001 - a template can raise anything; the parent wants a sentence
        answer = {"error": explain(error)}
    sys.stdout.write(json.dumps(answer))
    sys.stdout.flush()


_TOO_LONG = "The model's chat template produces too much text."


def _limit_this_process() -> None:
    if sys.platform == "win32":
        return  # only the parent's clock limits it there
    import resource

    limits = {
        resource.RLIMIT_CPU: CPU_S,
        resource.RLIMIT_AS: MEMORY_BYTES,
        resource.RLIMIT_CORE: 0,
        resource.RLIMIT_FSIZE: 0,
    }
    for kind, limit in limits.items():
        _, hard = resource.getrlimit(kind)
        bound = limit if hard == resource.RLIM_INFINITY else min(limit, hard)
        try:
            resource.setrlimit(kind, (bound, bound))
        except (ValueError, OSError):
            continue  # macOS refuses RLIMIT_AS; the clock still limits it
