"""The slash commands, run by a host that writes down what it was asked."""

from __future__ import annotations

import asyncio
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from chat_app.chat.commands import SLASH
from chat_app.chat.conversation import Conversation
from chat_app.chat.slash import Argument, CommandTable, UnknownCommandError, is_command
from chat_app.config.paths import get_paths
from chat_app.config.settings import PARAMETERS, Settings
from chat_app.text.markdown import Document, code_blocks
from chat_app.tui.markdown.layout import Layout
from tests.support.full_disk import files_end_at


class Notes:
    """A host: every verb is written down with what it was given."""

    fixed: tuple[str, ...] = ()

    def __init__(self, *contents: str) -> None:
        self.conversation = Conversation("chat")
        for number, content in enumerate(contents):
            self.conversation.add("assistant" if number % 2 else "user", content)
        self.done: list[tuple[Any, ...]] = []
        self.session = SimpleNamespace(
            settings=Settings(),
            model=SimpleNamespace(info=None, loading=None),
            generating=False,
            path=self.conversation.path,
            branches=self,
            change_settings=self._change,
            set_system=lambda text: self._change(Settings(system=text)),
        )

    def _change(self, settings: Settings) -> None:
        self.session.settings = settings

    def themes(self) -> list[str]:
        return ["llama-dark", "llama-light"]

    def __getattr__(self, verb: str) -> Any:
        return lambda *given: self.done.append((verb, *given))


def refusal(host: Notes, line: str) -> str:
    with pytest.raises(ValueError, match=r".") as caught:
        SLASH.run(host, line)
    assert host.done == []
    return str(caught.value)


def test_names_and_their_other_names() -> None:
    command, argument = SLASH.parse("/set parameter top_k 5")
    assert (command.name, argument) == ("/set", "parameter top_k 5")
    assert SLASH.parse("/BYE")[0].name == "/quit"
    assert SLASH.parse("/?")[0].name == "/help"
    with pytest.raises(UnknownCommandError, match="/model"):
        SLASH.parse("/modle x")
    with pytest.raises(UnknownCommandError, match="/help lists"):
        SLASH.parse("/qqqqqqqq")


def test_a_name_given_twice_is_an_error() -> None:
    table = CommandTable()
    table.command("/a", "/b")(lambda host: None)
    with pytest.raises(ValueError, match="/b is the name of two commands"):
        table.command("/c", "/b")(lambda host: None)


@pytest.mark.parametrize("command", SLASH, ids=lambda one: one.name)
def test_each_has_help_and_refuses_what_it_does_not_take(command: Any) -> None:
    assert command.help
    assert not command.help.endswith(".")
    host = Notes("question", "answer")
    if command.argument is None:
        told = refusal(host, f"{command.name} now")
        assert "takes nothing behind it, not 'now'" in told
        assert command.help in told, "what was meant may be another command"
    elif command.argument.required:
        assert command.usage in refusal(host, command.name)


@pytest.mark.parametrize(
    "line",
    [
        "/branch abc",
        "/branch 0",
        "/branch -1",
        "/branch 1.5",
        "/copy cde",
        "/copy code x",
        "/show all",
        "/theme none",
        "/set tempp 1",
        "/set parameter tempp 1",
        "/set top_k 1.5",
        "/set temperature warm",
    ],
)
def test_arguments_that_mean_nothing_are_refused(line: str) -> None:
    host = Notes("question", "answer")
    before = host.session.settings
    assert refusal(host, line).endswith((".", "?", SLASH.parse(line)[0].usage))
    assert host.session.settings == before


def test_the_nearest_parameter_is_named() -> None:
    assert "Did you mean temperature?" in refusal(Notes(), "/set temprature 1")


@pytest.mark.parametrize(
    "line", ["/set temperature 0.5", "/set parameter temperature 0.5", "/set TEMPERATURE 0.5"]
)
def test_set_as_in_ollama(line: str) -> None:
    host = Notes()
    SLASH.run(host, line)
    assert host.session.settings.params.temperature == 0.5
    assert host.done == [("note", "temperature is 0.5, from the next reply on.")]


@pytest.mark.parametrize("line", ["/set temperature", "/set parameter temperature"])
def test_set_without_a_value_shows_it_and_what_it_may_be(line: str) -> None:
    host = Notes()
    SLASH.run(host, line)
    assert host.session.settings == Settings()
    assert host.done == [
        ("note", "temperature is 0.7. It may be 0 to 100: 0 is greedy; higher is more varied.")
    ]


def test_what_is_fixed_here_is_said() -> None:
    host = Notes()
    host.fixed = ("num_ctx",)
    assert refusal(host, "/set num_ctx 512") == (
        "num_ctx is fixed while the model is loaded. Start again with --ctx-size 512."
    )


def test_branch_counts_back() -> None:
    host = Notes("one", "two", "three")
    SLASH.run(host, "/branch 2")
    assert host.done == [("branch", host.conversation.path()[0].id)]
    assert "3 messages" in refusal(Notes("one", "two", "three"), "/branch 3")


@pytest.mark.parametrize("line", ["/copy code 2", "/copy 2"])
def test_copy_a_block_of_code(line: str) -> None:
    host = Notes("question", "```\na\n```\n~~~\nb\n~~~\n", "thanks", "Welcome.")
    SLASH.run(host, line)
    assert host.done == [("copy", "b")]
    assert "has 2 blocks" in refusal(Notes("question", "```\na\n```\n```\nb\n```"), "/copy code 3")
    assert "has one block" in refusal(Notes("question", "```\na"), "/copy 2")
    assert "no block of code" in refusal(Notes("question", "None."), "/copy 1")


async def test_write_a_block_of_code(tmp_path: Path) -> None:
    host, path = Notes("question", "1. So:\n   ```py\n   x = 'é'\n     y\tz\n   ```\n"), tmp_path / "a b.py"
    await (SLASH.run(host, f"/write 1 {path}") or asyncio.sleep(0))
    assert path.read_bytes() == "x = 'é'\n  y\tz\n".encode()
    assert host.done == [("note", f"2 lines written to {path}.")]
    path.write_text("mine")
    host.done.clear()
    with pytest.raises(ValueError, match=rf"exists already\. /write! 1 {path} puts"):
        await (SLASH.run(host, f"/write 1 {path}") or asyncio.sleep(0))
    assert path.read_text() == "mine"
    path.chmod(0o755)
    await (SLASH.run(host, f'/write! "{path}"') or asyncio.sleep(0))
    assert path.read_bytes() == "x = 'é'\n  y\tz\n".encode()
    assert path.stat().st_mode & 0o777 == 0o755, "it is the same file"
    host.done.clear()
    assert "wanted behind the number. As in: /write [N] FILE" in refusal(host, "/write 1")


async def test_a_file_in_the_way_is_whole_whatever_happens(tmp_path: Path) -> None:
    host, path = Notes("question", f"```\n{'long ' * 1000}\n```"), tmp_path / "mine.py"
    path.write_text("mine")
    (tmp_path / "link.py").symlink_to(path)
    with files_end_at(100), pytest.raises(OSError, match="large"):
        await (SLASH.run(host, f"/write! {path}") or asyncio.sleep(0))
    assert path.read_text() == "mine"
    with pytest.raises(ValueError, match="is no file"):
        await (SLASH.run(host, f"/write! {tmp_path}") or asyncio.sleep(0))
    await (SLASH.run(host, f"/write! {tmp_path / 'link.py'}") or asyncio.sleep(0))
    assert path.read_text().startswith("long")
    assert (tmp_path / "link.py").is_symlink()


async def test_which_block_is_written_is_not_guessed(tmp_path: Path) -> None:
    host = Notes("question", "```\na\n```\n```\nb\n```", "thanks", "Welcome.")
    with pytest.raises(ValueError, match="has 2 blocks"):
        await (SLASH.run(host, f"/write {tmp_path / 'x.py'}") or asyncio.sleep(0))
    await (SLASH.run(host, f"/write 2 {tmp_path / 'x.py'}") or asyncio.sleep(0))
    assert (tmp_path / "x.py").read_text() == "b\n"


@pytest.mark.parametrize(
    ("text", "expected"),
    [("/help", True), ("/?", True), ("/etc/passwd is a file", False), ("/x\nmore", False), ("a /b", False)],
)
def test_what_counts_as_a_command(text: str, expected: bool) -> None:
    assert is_command(text) is expected


def test_models_are_completed_by_name_and_by_path(tmp_path: Path) -> None:
    models = get_paths().models
    models.mkdir(parents=True)
    (models / "mine-q4.gguf").write_bytes(b"GGUF")
    (tmp_path / "a b.gguf").write_bytes(b"GGUF")
    host = Notes()

    def lines(typed: str) -> list[str]:
        return [one.line for one in SLASH.completions(host, typed)]

    assert lines("/model mi") == ["/model mine-q4"]
    assert lines("/retry mi") == ["/retry mine-q4"]
    assert lines("/retry mine-q4 ") == ["/retry mine-q4 once"]
    assert lines("/compare model mi") == ["/compare model mine-q4"]
    path = f'"{tmp_path}/a b.gguf"'
    assert lines(f'/model "{tmp_path}/a') == [f"/model {path}"]
    SLASH.run(host, f"/model {path}")
    assert host.done == [("use_model", str(tmp_path / "a b.gguf"))]


def test_completions_narrow_to_the_name_and_then_to_the_argument() -> None:
    host = Notes()
    completions = SLASH.completions
    assert len(completions(host, "/")) == len(SLASH)
    assert [one.line for one in completions(host, "/sy")] == ["/system "]
    assert [one.line for one in completions(host, "/set")] == [
        "/set ",
        "/settings",
    ]  # what is typed comes first
    assert [one.is_typed for one in completions(host, "/set")] == [True, False]
    assert [one.line for one in completions(host, "/set ")] == [
        f"/set {name} " for name in (*PARAMETERS, "system")
    ]
    assert [one.line for one in completions(host, "/set parameter min")] == ["/set min_p "]
    assert [one.shown for one in completions(host, "/set min_p 0.1")] == ["/set NAME VALUE | system TEXT"]
    assert [one.line for one in completions(host, "/theme llama-d")] == ["/theme llama-dark"]
    assert completions(host, "/nothing x") == completions(host, "hello") == completions(host, "/help x") == []


def test_an_optional_argument_is_none_when_it_is_left_out() -> None:
    table, found = CommandTable(), []
    table.command("/a", argument=Argument("[X]"))(lambda host, value: found.append(value))
    table.run(None, "/a")
    table.run(None, "/a  b c ")
    assert found == [None, "b c"]


def test_the_table_for_the_documentation_names_all() -> None:
    text = SLASH.markdown()
    assert all(f"`{command.name}" in text for command in SLASH)
    assert len({row.count("|") - row.count("\\|") for row in text.splitlines()}) == 1


def test_code_blocks_are_those_that_the_screen_numbers() -> None:
    text = "a\n```python\nx = 1\n```\nb\n\n    indented\n\n~~~~\n```\ny\n~~~~\n> ```\n> quoted\n\n```\nopen"
    blocks = code_blocks(text)
    assert blocks == ["x = 1", "indented", "```\ny", "quoted", "open"]
    layout = Layout(80, ansi=False)
    document = Document()
    document.write(text)
    layout.update(document.blocks, 0)
    shown = [layout.line(number) for number in range(layout.height)]
    titles = [line.body.plain.split()[-1] for line in shown if line.body.plain.startswith(" ") and line.fill]
    assert titles == [str(number) for number in range(1, len(blocks) + 1)]


def test_tabs_of_a_block_stay() -> None:
    text = "```make\nall:\n\techo\ta\n```\n1. x\n\t```\n\t\ta\tb\n\t```"
    assert code_blocks(text) == ["all:\n\techo\ta", "    a\tb"]
