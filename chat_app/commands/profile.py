"""`llama-chat profile`: where time and memory go."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from chat_app.commands.bench import native_blas
from chat_app.line.console import say, write
from chat_app.options import UsageError, add_model_options, add_output_option, settings_from
from chat_app.paths import get_paths

if TYPE_CHECKING:
    from chat_app.settings import Settings
    from llama_core.profiling.profile_text import Section

KINDS = ("inference", "bytecode", "memory", "counters")


def add_parser(subparsers: Any) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = subparsers.add_parser(
        "profile",
        help="where time and memory go",
        description="inference: phases, functions and operations of a reply. bytecode: what Python executes. "
        "memory: who holds how much. counters: instructions and misses per token, and the compiled kernels' "
        "instructions. all: the four in turn, with a report folder (JSON, Markdown, pictures).",
    )
    parser.add_argument("kind", choices=(*KINDS, "all"))
    parser.add_argument("--prompt-tokens", type=int, default=128, metavar="N")
    parser.add_argument("--tokens", type=int, default=64, metavar="N", help="tokens to generate")
    parser.add_argument(
        "--report", type=Path, metavar="DIR", help="write a report folder (`all` does so anyway)"
    )
    parser.add_argument(
        "--no-simulate",
        action="store_true",
        help="without hardware counters: do not simulate them, which takes a minute or two",
    )
    add_output_option(parser)
    add_model_options(parser)
    return parser


def run(args: argparse.Namespace) -> int:
    if args.prompt_tokens < 1 or args.tokens < 2:
        raise UsageError("--prompt-tokens takes a number from 1 up, --tokens from 2 up.")
    native_blas()
    from llama_core.profiling.machine import describe_machine, machine_lines
    from llama_core.profiling.profile_report import plain, terminal_text, write_report

    settings = settings_from(args)
    for notice in settings.notices:
        say(notice)
    machine = describe_machine(settings.threads)
    profiles: dict[str, Any] = {}
    sections: list[Section] = []
    for kind in KINDS if args.kind == "all" else (args.kind,):
        say(f"profiling: {kind}")
        found, parts = PROFILERS[kind](args, settings)
        profiles[kind] = found
        sections += parts
    if args.output == "json":
        write(json.dumps({"machine": machine, "profiles": plain(profiles)}), end="\n")
    else:
        write("\n".join(machine_lines(machine)) + "\n\n" + terminal_text(sections))
    folder = args.report or (Path(time.strftime("profile-%Y%m%d-%H%M%S")) if args.kind == "all" else None)
    if folder is not None:
        from llama_core.profiling.charts import charts_available

        files = write_report(folder.expanduser(), machine, profiles, sections)
        reason = charts_available()
        if reason is not None:
            say(f"No pictures: {reason}.")
        say(f"report: {files[1]}")
    return 0


def backends(settings: Settings) -> tuple[Any, ...]:
    """What to profile: the backend asked for, or every one that runs here."""
    if settings.backend != "auto":
        return (settings.backend,)
    from llama_core.jit import jit_available

    return ("jit", "numpy") if jit_available() is None else ("numpy",)


Found = tuple[Any, list[Any]]


def profile_inference(args: argparse.Namespace, settings: Settings) -> Found:
    from chat_app.line.engine_start import locate_model
    from llama_core.profiling import inference_profile
    from llama_core.profiling.profile_text import inference_section

    found = [
        inference_profile.profile_inference(
            locate_model(settings.model),
            backend,
            prompt_n=args.prompt_tokens,
            generated_n=args.tokens,
            threads=settings.threads,
            kernel_cache=get_paths().kernels,
            tokenizer_path=settings.tokenizer,
        )
        for backend in backends(settings)
    ]
    return found, [inference_section(profile) for profile in found]


def profile_bytecode(args: argparse.Namespace, settings: Settings) -> Found:
    from llama_core.profiling import bytecode
    from llama_core.profiling.profile_text import bytecode_section

    found = bytecode.profile_bytecode()
    return found, [bytecode_section(found)]


def profile_memory(args: argparse.Namespace, settings: Settings) -> Found:
    from chat_app.line.engine_start import locate_model
    from llama_core.profiling.memory_profile import profile_in_fresh_process
    from llama_core.profiling.profile_text import memory_section

    found = [
        profile_in_fresh_process(
            locate_model(settings.model),
            backend,
            threads=settings.threads,
            ctx_size=settings.ctx_size,
            kernel_cache=get_paths().kernels,
            tokenizer_path=settings.tokenizer,
        )
        for backend in backends(settings)
    ]
    return found, [memory_section(profile) for profile in found]


def profile_counters(args: argparse.Namespace, settings: Settings) -> Found:
    from chat_app.line.engine_start import locate_model
    from llama_core.profiling import counters
    from llama_core.profiling.kernel_mix import profile_kernels
    from llama_core.profiling.profile_text import counters_section

    path = locate_model(settings.model)
    backend = backends(settings)[0]
    found = counters.profile_counters(path, backend, get_paths().kernels, simulate=not args.no_simulate)
    variant, kernels = profile_kernels()
    result = {"events": found, "variant": variant, "kernels": kernels}
    return result, [counters_section(found, variant, kernels)]


PROFILERS: dict[str, Callable[[argparse.Namespace, Any], Any]] = {
    "inference": profile_inference,
    "bytecode": profile_bytecode,
    "memory": profile_memory,
    "counters": profile_counters,
}
