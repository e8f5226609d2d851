"""`llama-chat bench`: prefill and decode rates against the machine's ceiling, and against llama.cpp."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from chat_app.commands.options import add_output_option, add_setting, file_path, settings_from
from chat_app.config.paths import ensure_dir, get_paths
from chat_app.console.engine_start import locate_model
from chat_app.console.streams import ProgressLine, say, write
from chat_app.text.errors import UsageError
from llama_core.choices import KV_TYPES, MAX_THREADS

if TYPE_CHECKING:
    from llama_core.checkpoint import Checkpoint
    from llama_core.config import ModelConfig
    from llama_core.profiling.bench.subjects import Choice
    from llama_core.profiling.bench.tasks import Task

BACKENDS: tuple[str, ...] = ("jit", "numpy")
# Made in memory, for both backends; the others are files, which llama.cpp reads too.
IN_MEMORY = "stories15M"
# `synthetic.SHAPES` and `random_gguf.MIXES`, which NumPy would come with; a test holds them equal.
LARGE = ("1b", "3b", "8b", "a3b", "lfm2", "qwen3.5")
SHAPES = (IN_MEMORY, "135m", *LARGE)
TYPES = (
    *("Q4_K_M", "Q4_K_S", "Q5_K_M", "Q6_K", "Q8_0", "Q3_K_M", "Q2_K", "Q4_0", "Q4_1", "Q5_0", "Q5_1"),
    *("IQ4_XS", "IQ4_NL", "MXFP4", "F16", "BF16", "F32"),
)
ROWS = ("pp128", "pp512", "tg128")
# What a chat with a long history meets, and where engines differ most.
ROWS_BESIDE_PEER = (*ROWS, "pp4096", "tg128@d4096")


def add_parser(subparsers: Any) -> argparse.ArgumentParser:
    """What is measured: model, backends, rows, depth, and what it is compared with."""
    parser: argparse.ArgumentParser = subparsers.add_parser(
        "bench",
        help="measure prefill and decode against the machine's ceiling",
        description="Measure prompt rates (pp128, pp512) and the reply's rate (tg128), each backend in turn, "
        "beside the rate that reading the weights from memory allows.",
    )
    add_setting(parser, "model")
    parser.add_argument(
        "--backend", nargs="+", choices=BACKENDS, dest="backends", help="one or several, compared in turn"
    )
    add_setting(parser, "threads")
    parser.add_argument(
        "--kv",
        nargs="+",
        choices=KV_TYPES,
        default=["f32"],
        help="how jit keeps keys and values, in turn",
    )
    add_setting(parser, "tokenizer")
    parser.add_argument("--repeat", type=int, default=3, metavar="N", help="measured rounds (default 3)")
    parser.add_argument(
        "--depth", type=int, nargs="*", default=[], metavar="N", help="also decode after N tokens"
    )
    parser.add_argument(
        "--busy", type=int, default=0, metavar="N", help="also decode beside N programs that take a core each"
    )
    parser.add_argument(
        "--rows",
        nargs="+",
        metavar="ROW",
        help="prompts of N tokens as ppN, replies of N as tgN, behind M tokens as tgN@dM "
        f"(default {' '.join(ROWS)}; with --vs {' '.join(ROWS_BESIDE_PEER[len(ROWS) :])} too)",
    )
    parser.add_argument("--copy", action="store_true", help="also a reply that repeats its prompt")
    parser.add_argument(
        "--shape",
        choices=SHAPES,
        help="a random model of this shape, made here: Llama's 1b, 3b, 8b, SmolLM2's 135m, eight layers "
        f"of Qwen3's 30B-A3B (a3b), LFM2's 350M and Qwen3.5's 0.8B as files that are kept in the cache "
        f"folder, {IN_MEMORY} in memory",
    )
    parser.add_argument(
        "--type",
        choices=TYPES,
        dest="type_name",
        metavar="TYPE",
        help=f"its types, as llama.cpp mixes them ({', '.join(TYPES)}; default {TYPES[0]})",
    )
    parser.add_argument(
        "--vs",
        nargs="+",
        choices=("llama.cpp", "ik"),
        default=[],
        help="also rows of llama.cpp, where it is installed, or of ik_llama.cpp (see --ik)",
    )
    parser.add_argument(
        "--ik", type=file_path, metavar="FILE", help="the llama-bench of ik_llama.cpp, for --vs ik"
    )
    parser.add_argument("--no-start", action="store_true", help="leave out the start's time and memory")
    add_output_option(parser)
    return parser


def run(args: argparse.Namespace) -> int:
    """Measure, print the table or JSON. Raises UsageError where two options exclude each other."""
    if args.repeat < 1 or any(depth < 1 for depth in args.depth):
        raise UsageError("--repeat and --depth take numbers from 1 up.")
    if not 0 <= args.busy <= MAX_THREADS:
        raise UsageError(f"--busy takes a number from 0 to {MAX_THREADS}.")
    if args.kv != ["f32"] and args.backends == ["numpy"]:
        raise UsageError("--kv is for the compiled backend: NumPy keeps keys and values in float32.")
    if args.shape and (args.model or args.tokenizer):
        raise UsageError("--shape makes its own model: it takes no --model or --tokenizer.")
    if args.type_name and args.shape in (None, IN_MEMORY):
        raise UsageError(f"--type is for the files that --shape makes: {', '.join(SHAPES[1:])}.")
    if args.vs and args.shape == IN_MEMORY:
        raise UsageError(f"--vs needs a file, and --shape {IN_MEMORY} makes none; 135m, 1b, 3b and 8b do.")
    if ("ik" in args.vs) != (args.ik is not None):
        raise UsageError("--vs ik needs the program to run: --vs ik --ik PATH/llama-bench.")
    native_blas()
    from chat_app.lab.text import columns, fold
    from llama_core.cores import usable_cores
    from llama_core.profiling.bench.run import run_bench
    from llama_core.profiling.bench.subjects import Choice, Subjects
    from llama_core.profiling.bench.text import bench_json, bench_lines
    from llama_core.profiling.machine import describe_machine, machine_lines

    checkpoint = open_model(args)
    tasks = tasks_for(args, checkpoint)
    choice = Choice(
        backends=backends(args, checkpoint.config),
        threads=args.threads or min(usable_cores(), MAX_THREADS),
        ctx_size=max(task.context_n for task in tasks),
        kvs=tuple(args.kv),
        kernel_cache=get_paths().kernels,
        llama_cpp=wants_llama_cpp(args),
        ik=args.ik,
    )
    machine = describe_machine(choice.threads)
    in_memory = args.shape == IN_MEMORY
    starts = [] if args.no_start or in_memory else measure_starts(checkpoint, choice, args.repeat)
    line = ProgressLine("measuring")
    try:
        with Subjects(checkpoint, choice) as subjects:
            result = run_bench(subjects.all, tasks, args.repeat, line.count)
    finally:
        line.close()
    title = checkpoint.config.name or checkpoint.path.name
    if args.output == "json":
        write(json.dumps(bench_json(title, machine, result, starts)), end="\n")
    else:
        width = columns()
        lines = [title, *machine_lines(machine), *bench_lines(result, starts)]
        # Tables stand as they are.
        shown = [line if "  " in line.strip() else fold(line, width, 0) for line in lines]
        write("\n".join(shown), end="\n")
    return 0


def native_blas() -> None:
    """Take NumPy's own kernel, whatever the environment forces; said on stderr."""
    from llama_core.profiling.machine import use_native_blas

    try:
        removed = use_native_blas()
    except RuntimeError as error:
        say(f"{error}.")
        return
    if removed:
        say(f"{' and '.join(removed)} left out of this run: NumPy takes the machine's own kernel.")


def open_model(args: argparse.Namespace) -> Checkpoint:
    """The file to measure, or a random model of the shape asked for."""
    if args.shape == IN_MEMORY:
        from llama_core.profiling.synthetic import STORIES15M, NoTokenizer, random_checkpoint

        return random_checkpoint(STORIES15M, NoTokenizer())
    from llama_core.loaders import open_checkpoint

    if args.shape:
        return open_checkpoint(random_file(args.shape, args.type_name or TYPES[0]))
    settings = settings_from(args)
    for notice in settings.notices:
        say(notice)
    return open_checkpoint(locate_model(settings), settings.tokenizer)


def random_file(shape: str, type_name: str) -> Path:
    """The random model of a shape and a mix of types, made at its first use. Raises OSError."""
    from llama_core.profiling.random_gguf import random_gguf
    from llama_core.profiling.synthetic import SHAPES as CONFIGS

    path = ensure_dir(get_paths().bench_models) / f"random-{shape}-{type_name}.gguf"
    if not path.is_file():
        say(f"making {path}")
    line = ProgressLine("writing")
    try:
        return random_gguf(path, CONFIGS[shape], type_name, on_progress=line.count)
    finally:
        line.close()


def tasks_for(args: argparse.Namespace, checkpoint: Checkpoint) -> list[Task]:
    """The rows, depths and busy programs asked for, as far as the model's context allows."""
    from llama_core.profiling.bench.tasks import decode, named

    try:
        tasks = [named(name) for name in args.rows or (ROWS_BESIDE_PEER if args.vs else ROWS)]
    except ValueError as error:
        raise UsageError(f"--rows: {error}.") from None
    tasks += [decode(depth) for depth in args.depth]
    if args.busy:
        tasks.append(decode(busy=args.busy))
    if args.copy:
        from llama_core.profiling.bench.tasks import copying

        request = copying(checkpoint)
        if request is None:
            say("copy is left out: a model without a chat template follows no requests.")
        else:
            tasks.append(request)
    max_seq_len = checkpoint.config.max_seq_len
    for task in tasks:
        if task.context_n > max_seq_len:
            say(f"{task.name} is left out: this model's context holds {max_seq_len:,} tokens.")
    fitting = [task for task in tasks if task.context_n <= max_seq_len]
    if fitting:
        return fitting
    half = max_seq_len // 2
    if args.rows or half < 2:
        advice = f"; --rows pp{half} tg{half} would work" if half >= 2 else ""
        raise UsageError(f"no row fits into this model's context of {max_seq_len:,} tokens{advice}.")
    return [named(f"pp{half}"), named(f"tg{half}")]


def backends(args: argparse.Namespace, config: ModelConfig) -> tuple[str, ...]:
    """Those asked for, or all that run this model here."""
    if args.backends:
        return tuple(dict.fromkeys(args.backends))
    from llama_core.backends.jit import jit_available
    from llama_core.backends.jit.plan import shape_problem

    reason = jit_available() or shape_problem(config)
    if reason is not None:
        say(f"The compiled backend is left out: {reason}")
        return ("numpy",)
    if args.shape in LARGE:
        say("The NumPy backend is left out: float32 weights of this size; --backend jit numpy takes it in.")
        return ("jit",)
    return BACKENDS


def wants_llama_cpp(args: argparse.Namespace) -> bool:
    """Whether llama.cpp is measured too; where it was asked for and is missing, say so."""
    if "llama.cpp" not in args.vs:
        return False
    from llama_core.profiling.bench.llama_cpp import peer_available

    reason = peer_available()
    if reason is not None:
        say(f"llama.cpp is left out: {reason}")
    return reason is None


def measure_starts(checkpoint: Checkpoint, choice: Choice, repeat: int) -> list[dict[str, Any]]:
    """Load time, first token and memory of each subject, in processes of their own, in turn; a failure is a
    sentence, and such a subject is left out."""
    from llama_core.profiling.bench.start import measure_start, middle_start

    runs: dict[tuple[str, str], list[dict[str, Any]]] = {
        subject: [] for subject in (*choice.models, *([("llama.cpp", "f32")] if choice.llama_cpp else []))
    }
    for _ in range(repeat):
        for subject in list(runs):
            backend, kv = subject
            try:
                start = measure_start(backend, checkpoint.path, choice.threads, kv, choice.kernel_cache)
            except RuntimeError as error:
                del runs[subject]
                say(f"The start of {backend} could not be measured: {error}")
            else:
                runs[subject].append(start)
    return [middle_start(found) for found in runs.values()]
