from __future__ import annotations

import argparse
import importlib
import json
import math
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from chat_app import cli
from llama_core.engine.load import load_engine
from tests.support import model_files
from tests.support.chats import stored_messages


@pytest.mark.parametrize("command", [None, *cli.COMMANDS])
def test_help_imports_nothing_heavy(command: str | None) -> None:
    argv = [*([command] if command else []), "--help"]
    script = (
        "import sys\nfrom chat_app import cli\n"
        f"try:\n    cli.main({argv!r})\nexcept SystemExit:\n    pass\n"
        "heavy = {'numpy', 'textual', 'numba', 'jinja2', 'regex', 'psutil', 'rich'}\n"
        "heavy.add('llama_core.backends.numpy.model')\n"
        "sys.exit(str(sorted(heavy & set(sys.modules))) if heavy & set(sys.modules) else 0)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    if command is not None:
        return
    for name in (*cli.COMMANDS, "--print", "--model", "--seed", "--resume", "--plain", "--kv", "--logits"):
        assert name in done.stdout


def test_version(main: Callable[..., Any]) -> None:
    for flag in ("-V", "--version"):
        ran = main(flag)
        assert (ran.code, ran.out.split()[0]) == (0, "llama-chat")


@pytest.mark.parametrize(
    ("argv", "index"),
    [
        (["models", "list"], 0),
        (["-m", "models", "bench"], 2),
        (["--seed", "1", "-o", "top_k", "2", "bench", "--repeat", "1"], 5),
        (["--model=x", "paths"], 1),
        (["-p", "models"], None),
        (["-p", "--raw", "paths"], 2),
        (["tell me about models"], None),
        (["why", "models"], None),
        (["--", "models"], None),
        (["-"], None),
        ([], None),
    ],
)
def test_find_command(argv: list[str], index: int | None) -> None:
    assert cli.find_command(argv, cli.build_parser()) == index


def test_every_command_has_a_module_with_help(main: Callable[..., Any]) -> None:
    for name in cli.COMMANDS:
        ran = main(name, "--help")
        assert ran.code == 0, name
        assert ran.out.startswith(f"usage: llama-chat {name}")


def leaves(parser: argparse.ArgumentParser) -> Iterator[argparse.ArgumentParser]:
    """The parsers of the commands that can be run."""
    below = [action for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
    if not below:
        yield parser
    for action in below:
        for made in action.choices.values():
            yield from leaves(made)


# JSON is all that serve and batch answer in; completion prints a shell's program, which is no result.
@pytest.mark.parametrize("name", sorted(set(cli.COMMANDS) - {"serve", "batch", "completion"}))
def test_every_command_that_prints_a_result_has_it_as_json(name: str) -> None:
    module = importlib.import_module(cli.COMMANDS[name][0])
    found = list(leaves(module.add_parser(cli.CommandParser().add_subparsers())))
    assert found
    for parser in found:
        [output] = [action for action in parser._actions if "--output" in action.option_strings]
        assert "json" in (output.choices or ()), parser.prog
        assert not parser.allow_abbrev  # "--output json" is no "--output-file json"


def test_paths(main: Callable[..., Any], llama_chat_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LLAMA_CHAT_KERNELS")
    shown = json.loads(main("paths", "--output", "json").out)
    assert shown["config_file"] == str(llama_chat_home / "config" / "config.toml")
    assert all(str(llama_chat_home) in line for line in main("paths").out.splitlines())
    assert not (llama_chat_home / "config").exists()


def test_tokenize(main: Callable[..., Any], tiny_model: Path) -> None:
    model = ["-m", str(tiny_model)]
    plain = main("tokenize", "the <|im_end|>", *model)
    raw = main("tokenize", "--raw", "the <|im_end|>", *model)
    assert plain.code == raw.code == 0
    assert 2 not in map(int, plain.out.split())
    assert [int(raw.out.split()[0]), int(raw.out.split()[-1])] == [260, 2]
    result = json.loads(main("tokenize", "the the", "--output", "json", *model).out)
    assert list(result) == ["ids", "pieces"]
    assert len(result["ids"]) == len(result["pieces"]) == 2
    piped = main("tokenize", "-", *model, stdin="the\n")
    assert len(piped.out.split()) == 2  # the newline counts
    assert main("tokenize", "", *model).out == "\n"


def test_perplexity(main: Callable[..., Any], tiny_model: Path, tmp_path: Path) -> None:
    file = tmp_path / "text.txt"
    file.write_text("the cat and the dog " * 20)
    options = ["-m", str(tiny_model), "--backend", "numpy", "--threads", "1"]
    ran = main("perplexity", str(file), *options)
    result = json.loads(main("perplexity", str(file), "--output", "json", *options).out)
    assert float(ran.out) == pytest.approx(result["mean_nll"], abs=1e-6)
    assert result["perplexity"] == pytest.approx(math.exp(result["mean_nll"]))
    assert result["predicted"] == result["tokens"] - 1
    short = json.loads(main("perplexity", str(file), "--ctx-size", "16", "--output", "json", *options).out)
    assert short["ctx_size"] == 16
    assert short["predicted"] < result["predicted"]
    assert short["mean_nll"] != result["mean_nll"]
    piped = main("perplexity", "-", *options, stdin=file.read_text())
    assert piped.out == ran.out


def test_perplexity_begins_where_the_model_begins(main: Callable[..., Any], tmp_path: Path) -> None:
    """With the begin token, before each piece, where the file asks for it: then every token is predicted."""
    model = model_files.TinyModel(max_seq_len=64)
    file = tmp_path / "text.txt"
    file.write_text("the cat and the dog " * 3)
    found = {}
    for add in (True, False):
        path = model_files.write_gguf(
            tmp_path / f"{add}.gguf", model, extra={"tokenizer.ggml.add_bos_token": add}
        )
        options = ["-m", str(path), "--backend", "numpy", "--output", "json"]
        for ctx in ("64", "16"):
            found[add, ctx] = json.loads(main("perplexity", str(file), "--ctx-size", ctx, *options).out)
        if add:  # one token is enough
            assert json.loads(main("perplexity", "-", *options, stdin="a").out)["predicted"] == 1
    n = found[True, "64"]["tokens"]
    assert found[True, "64"]["predicted"] == found[True, "16"]["predicted"] == n
    assert found[False, "64"]["predicted"] == n - 1
    # By definition: the engine's own figure for the ids with the begin token.
    engine = load_engine(tmp_path / "True.gguf", backend="numpy", ctx_size=64)
    ids = engine.tokenizer.encode(file.read_text())
    assert found[True, "64"]["mean_nll"] == pytest.approx(engine.perplexity([1, *ids]))
    engine.close()


def test_perplexity_of_too_little_is_a_usage_error(main: Callable[..., Any], tiny_model: Path) -> None:
    ran = main("perplexity", "-", "-m", str(tiny_model), "--backend", "numpy", stdin="a")
    assert ran.code == 2
    assert "at least 2" in ran.err
    assert main("perplexity", "/no/such/file", "-m", str(tiny_model)).code == 1


def test_a_bad_config_is_told_and_not_fatal(
    main: Callable[..., Any], tiny_model: Path, llama_chat_home: Path
) -> None:
    (llama_chat_home / "config").mkdir()
    (llama_chat_home / "config" / "config.toml").write_text("modle = 1\n")
    ran = main("tokenize", "the", "-m", str(tiny_model))
    assert ran.code == 0
    assert "line 1: there is no setting 'modle'. Did you mean model?" in ran.err


def test_control_codes_reach_no_terminal(main: Callable[..., Any]) -> None:
    ran = main("-p", "hi", "-m", "\x1b]0;title\x07")
    assert ran.code == 1
    assert "\x1b" not in ran.err


@pytest.mark.skipif(os.name != "posix", reason="needs a pseudo-terminal")
def test_a_reply_on_a_terminal_is_clean(tiny_model: Path, llama_chat_home: Path) -> None:
    import pty

    from tests.support.terminal import read_to_end

    # A random model says every byte, ESC among them.
    options = ["-m", str(tiny_model), "--backend", "numpy", "-o", "temperature", "3", "-o", "top_k", "0"]
    options += ["-o", "top_p", "1", "-o", "num_predict", "300", "-o", "ignore_eos", "true", "--seed", "3"]
    environment = {**os.environ, "TERM": "xterm"}
    main_end, other_end = pty.openpty()
    child = subprocess.Popen(
        [sys.executable, "-m", "chat_app", "-p", "hi", *options],
        stdin=subprocess.DEVNULL,
        stdout=other_end,
        stderr=subprocess.DEVNULL,
        env=environment,
    )
    os.close(other_end)
    shown = read_to_end(main_end)
    assert child.wait(300) == 0
    text = shown.decode().replace("\r\n", "\n")
    assert len(text) > 100
    assert not [c for c in text if (ord(c) < 32 and c not in "\n\t") or 127 <= ord(c) < 160]
    assert any("\x1b" in message["content"] for message in stored_messages(llama_chat_home))  # it did say it


def test_a_shell_pipeline_is_quiet_when_its_reader_leaves(tiny_model: Path) -> None:
    script = f"{sys.executable} -m chat_app tokenize - -m {tiny_model} --output json | head -c 1"
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", script],
        input="the cat " * 200_000,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "{", "")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_a_full_disk_behind_stdout_is_a_sentence() -> None:
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "chat_app", "paths"],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert (done.returncode, done.stderr) == (1, "llama-chat: No space left on device\n")


def test_a_reply_is_held_to_one_thing(main: Callable[..., Any]) -> None:
    ran = main("-p", "x", "--regex", "a", "--schema", "json")
    assert (ran.code, ran.out) == (2, "")
    assert "--schema and --regex exclude each other" in ran.err


def test_wrong_usage_of_a_command_shows_its_own_options(main: Callable[..., Any]) -> None:
    ran = main("tokenize", "x", "--no-such-flag")
    assert ran.code == 2
    assert ran.err.startswith("usage: llama-chat tokenize")


@pytest.mark.parametrize("more", [(), ("--plain",), ("-p", "x")])
def test_resume_without_an_id_needs_the_screen(main: Callable[..., Any], more: tuple[str, ...]) -> None:
    ran = main(*more, "--resume", stdin="")
    assert ran.code == 2
    assert "shows the list of chats" in ran.err


@pytest.mark.skipif(sys.platform == "win32", reason="a process is not ended by a signal there")
def test_ctrl_c_while_modules_are_imported_shows_no_traceback() -> None:
    """The signal arrives at a fixed place: in the import of the command line itself."""
    code = """
import os, signal, sys, time
class Interrupt:
    def find_spec(self, name, path=None, target=None):
        if name == "chat_app.cli":
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(10)
sys.meta_path.insert(0, Interrupt())
signal.signal(signal.SIGINT, signal.default_int_handler)
from chat_app.__main__ import main
sys.exit(main())
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=60, check=False)
    assert (run.returncode, run.stdout, run.stderr) == (-signal.SIGINT, b"", b"")
