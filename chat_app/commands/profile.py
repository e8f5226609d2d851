"""`llama-chat profile`: where time and memory go."""

from __future__ import annotations

import argparse
import contextlib
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from chat_app.commands.bench import native_blas
from chat_app.commands.options import add_model_options, add_output_option, file_path, settings_from
from chat_app.config.paths import get_paths
from chat_app.console.engine_start import locate_model
from chat_app.console.interrupt import EndSignal, name_of, signal_of, signals_raise
from chat_app.console.streams import say, write
from chat_app.text.errors import UsageError, describe_error

if TYPE_CHECKING:
    from chat_app.config.settings import Settings
    from llama_core.profiling.profile.sections import Section

KINDS = ("inference", "bytecode", "memory", "counters")


def add_parser(subparsers: Any) -> argparse.ArgumentParser:
    """The kind of profile, the sizes of the run, and where the report goes."""
    parser: argparse.ArgumentParser = subparsers.add_parser(
        "profile",
        help="where time and memory go",
        description="inference: phases, functions and operations of a reply. bytecode: what Python executes. "
        "memory: who holds how much. counters: instructions and misses per token. "
        "all: the four in turn, with a report folder (JSON, Markdown, pictures).",
    )
    parser.add_argument("kind", choices=(*KINDS, "all"))
    parser.add_argument("--prompt-tokens", type=int, default=128, metavar="N")
    parser.add_argument("--tokens", type=int, default=64, metavar="N", help="tokens to generate")
    parser.add_argument("--prompt", metavar="TEXT", help="a prompt of one's own, for inference")
    parser.add_argument(
        "--baseline",
        action="store_true",
        help="inference of a first version in NumPy instead, with its list.index and float64",
    )
    parser.add_argument("--layers", action="store_true", help="inference: tables of each layer, too")
    parser.add_argument(
        "--report", type=file_path, metavar="DIR", help="write a report folder (`all` does so anyway)"
    )
    parser.add_argument(
        "--no-simulate",
        action="store_true",
        help="without hardware counters: do not simulate them, which takes a minute or two",
    )
    add_output_option(parser)
    add_model_options(parser)
    return parser


@dataclass
class Collected:
    """What is measured so far: data for report.json by kind, and the sections for people."""

    profiles: dict[str, Any] = field(default_factory=dict)
    sections: list[Section] = field(default_factory=list)


def run(args: argparse.Namespace) -> int:
    """Measure one kind or all and print the report; when interrupted, what is measured so far. Raises
    UsageError.
    """
    if args.prompt_tokens < 1 or args.tokens < 2:
        raise UsageError("--prompt-tokens takes a number from 1 up, --tokens from 2 up.")
    if args.kind not in ("inference", "all") and (args.prompt or args.baseline or args.layers):
        raise UsageError("--prompt, --baseline and --layers are for inference.")
    native_blas()
    from llama_core.profiling.machine import describe_machine

    settings = settings_from(args)
    for notice in settings.notices:
        say(notice)
    folder = report_folder(args)
    machine = describe_machine(settings.threads)
    kinds = KINDS if args.kind == "all" else (args.kind,)
    collected = Collected()
    try:
        with signals_raise(EndSignal):
            for kind in kinds:
                say(f"profiling: {kind}")
                PROFILERS[kind](args, settings, collected)
    except BaseException as error:  # Ctrl+C too: minutes of measuring are not thrown away
        if collected.sections:
            show(args, machine, collected, folder, [broken_off(error, kind, collected)])
        elif folder is not None:
            with contextlib.suppress(OSError):
                folder.rmdir()  # empty, unless it is an earlier report's
        if isinstance(error, EndSignal):
            return 128 + signal_of(error)
        raise
    show(args, machine, collected, folder, [])
    return 0


def report_folder(args: argparse.Namespace) -> Path | None:
    """The folder for the report, made and tried; None where none is wanted. Raises UsageError."""
    from llama_core.profiling.profile.report import ReportFolderError, prepare_folder

    if args.report is None and args.kind != "all":
        return None
    folder: Path = args.report or Path(time.strftime("profile-%Y%m%d-%H%M%S"))
    try:
        prepare_folder(folder)
    except ReportFolderError as error:
        raise UsageError(f"{error}.") from None
    return folder


def broken_off(error: BaseException, kind: str, collected: Collected) -> str:
    """What there is, and what there is not."""
    if isinstance(error, KeyboardInterrupt):
        how = f"Stopped by {name_of(error)}"
    else:
        how = f"Broken off ({describe_error(error)})"
    titles = ", ".join(section.title.partition(" (")[0] for section in collected.sections)
    return f"{how} while profiling {kind}; measured before that and kept: {titles}."


def show(
    args: argparse.Namespace,
    machine: dict[str, Any],
    collected: Collected,
    folder: Path | None,
    notes: list[str],
) -> None:
    """Print what was measured, and write the report."""
    from llama_core.profiling.machine import machine_lines
    from llama_core.profiling.profile.report import charts_available, plain, terminal_text, write_report

    if args.output == "json":
        profiles = plain(collected.profiles)
        write(json.dumps({"machine": machine, "notes": notes, "profiles": profiles}), end="\n")
    else:
        write("\n".join(machine_lines(machine)) + "\n\n" + terminal_text(collected.sections))
    for note in notes:
        say(note)
    if folder is not None:
        files = write_report(folder, machine, collected.profiles, collected.sections, notes)
        reason = charts_available()
        if reason is not None:
            say(f"No pictures: {reason}.")
        if {"inference", "memory"} & set(collected.profiles):
            draw_graphs(args, folder, collected)
        say(f"report: {files[1]}")


def draw_graphs(args: argparse.Namespace, folder: Path, collected: Collected) -> None:
    """Graphs of a reply's time and memory in the report's folder, by py-spy and memray where they can; said
    on stderr."""
    from llama_core.own_code import module_command, module_environment
    from llama_core.profiling.profile.report import allocation_graph, flame_graph

    settings = settings_from(args)
    request = {
        "path": str(locate_model(settings)),
        "backend": settings.backend,
        "kernel_cache": str(get_paths().kernels),
        "n": args.tokens,
    }
    worker = ("llama_core.profiling.profile.counters_worker", json.dumps(request))
    if "inference" in collected.profiles:
        target = folder / "flame.svg"
        reason = flame_graph(target, module_command(*worker), module_environment())
        say(f"No flame graph: {reason}." if reason else f"flame graph: {target}")
    if "memory" in collected.profiles:
        target = folder / "allocations.html"
        reason = allocation_graph(target, worker, module_environment())
        say(f"No graph of allocations: {reason}." if reason else f"graph of allocations: {target}")


def backends(settings: Settings) -> tuple[Any, ...]:
    """What to profile: the backend asked for, or every one that runs here."""
    if settings.backend != "auto":
        return (settings.backend,)
    from llama_core.backends.jit import jit_available

    reason = jit_available()
    if reason is not None:
        say(f"The compiled backend is left out: {reason}.")
    return ("jit", "numpy") if reason is None else ("numpy",)


def for_each_backend(
    args: argparse.Namespace, settings: Settings, profile: Callable[..., Any], *more: Any
) -> Iterator[Any]:
    """What `profile`, a `load_and_profile`, finds of each backend, in processes one after the other. A model
    that the compiled one cannot take is profiled with NumPy alone, unless that backend was asked for."""
    from llama_core.errors import UnsupportedModelError
    from llama_core.profiling.fresh_process import in_fresh_process

    path = locate_model(settings)
    for backend in backends(settings):
        kv = settings.kv
        if backend == "numpy" and settings.backend == "auto" and kv not in (None, "f32"):
            say(f"The numpy backend keeps its cache in f32; --kv {kv} is for the compiled one alone.")
            kv = "f32"
        options = {
            "backend": backend,
            "threads": settings.threads,
            "ctx_size": settings.ctx_size,
            "kv": kv,
            "kernel_cache": get_paths().kernels,
            "tokenizer_path": settings.tokenizer,
        }
        try:
            yield in_fresh_process(profile, path, options, args.prompt_tokens, args.tokens, *more)
        except UnsupportedModelError as error:
            if backend != "jit" or settings.backend != "auto":
                raise
            say(f"The compiled backend is left out: {error}")


def profile_inference(args: argparse.Namespace, settings: Settings, collected: Collected) -> None:
    """Time by operation and layer, of each backend in a process of its own."""
    from llama_core.profiling.profile import inference as inference_profile
    from llama_core.profiling.profile.sections import inference_section

    if args.baseline:
        profile_baseline(args, settings, collected)
        return
    for found in for_each_backend(args, settings, inference_profile.load_and_profile, args.prompt):
        collected.profiles.setdefault("inference", []).append(found)
        collected.sections.append(inference_section(found, layers=args.layers))


def profile_baseline(args: argparse.Namespace, settings: Settings, collected: Collected) -> None:
    """The same of the first version of the engine, which `--baseline` asks for."""
    from llama_core.profiling.fresh_process import in_fresh_process
    from llama_core.profiling.profile.first_version import profile_first_version
    from llama_core.profiling.profile.sections import first_version_section

    found = in_fresh_process(
        profile_first_version,
        locate_model(settings),
        settings.tokenizer,
        args.prompt_tokens,
        args.tokens,
        args.prompt,
    )
    collected.profiles.setdefault("inference", []).append(found)
    collected.sections.append(first_version_section(found))


def profile_bytecode(args: argparse.Namespace, settings: Settings, collected: Collected) -> None:
    """Instructions of Python's interpreter by function, of the engine and of its first version."""
    from llama_core.profiling.profile import bytecode
    from llama_core.profiling.profile.sections import bytecode_section

    found = bytecode.profile_bytecode()
    collected.profiles["bytecode"] = found
    collected.sections.append(bytecode_section(found))


def profile_memory(args: argparse.Namespace, settings: Settings, collected: Collected) -> None:
    """Where the bytes are and who allocates them, of each backend in a process of its own."""
    from llama_core.profiling.profile import memory as memory_profile
    from llama_core.profiling.profile.sections import memory_section

    for found in for_each_backend(args, settings, memory_profile.load_and_profile):
        collected.profiles.setdefault("memory", []).append(found)
        collected.sections.append(memory_section(found))


def profile_counters(args: argparse.Namespace, settings: Settings, collected: Collected) -> None:
    """The processor's counters, and the instructions that the compiled kernels are made of."""
    from llama_core.profiling.profile import counters
    from llama_core.profiling.profile.sections import counters_section

    path = locate_model(settings)
    events: list[Any] = []
    before = len(collected.sections)
    collected.profiles["counters"] = events
    for backend in backends(settings):
        simulated = "" if args.no_simulate else " (where it has to be simulated, a minute or two)"
        say(f"counting: {backend}{simulated}")
        found = counters.profile_counters(path, backend, get_paths().kernels, simulate=not args.no_simulate)
        events.append(found)
        # Anew for each backend: should the next one be interrupted, these counts stand.
        collected.sections[before:] = [counters_section(events)]


PROFILERS: dict[str, Callable[[argparse.Namespace, Any, Collected], None]] = {
    "inference": profile_inference,
    "bytecode": profile_bytecode,
    "memory": profile_memory,
    "counters": profile_counters,
}
