"""What the shell's Tab key offers."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from chat_app.commands import completion
from chat_app.config.paths import get_paths
from chat_app.store.chats import open_store


@pytest.fixture
def offers(tmp_path: Path, llama_chat_home: Path) -> Callable[[str], set[str]]:
    """offers(line): what a shell would show for `line`, asked as bash's part asks."""

    def ask(line: str) -> set[str]:
        out = tmp_path / "offers"
        environment = os.environ | {
            "_ARGCOMPLETE": "1",
            "_ARGCOMPLETE_STDOUT_FILENAME": str(out),
            "_ARGCOMPLETE_IFS": "\n",
            "_ARGCOMPLETE_SHELL": "bash",
            "COMP_LINE": line,
            "COMP_POINT": str(len(line)),
        }
        subprocess.run([sys.executable, "-P", "-m", "chat_app"], env=environment, check=False, timeout=60)
        return {word.strip() for word in out.read_text().split("\n")} - {""}

    return ask


def test_commands_options_and_models(offers: Callable[[str], set[str]]) -> None:
    assert {"chats", "completion"} <= offers("llama-chat c")
    assert offers("llama-chat models pu") == {"pull"}
    assert "--threads" in offers("llama-chat bench --th")
    assert "smollm2-135m" in offers("llama-chat -m smollm2")


@pytest.mark.usefixtures("llama_chat_home")
def test_a_chat_is_offered_by_its_id() -> None:
    store = open_store(get_paths())
    chat = store.create(model="m", title="a\x1b[31m title")
    chat.append(chat.conversation.add("user", "hello"))
    chat.close()
    store.close()
    assert list(completion.chat_ids()) == [chat.id]
    assert "\x1b" not in completion.chat_ids()[chat.id]


@pytest.mark.parametrize("shell", completion.SHELLS)
def test_each_shell_has_its_part(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    from chat_app.cli import main

    assert main(["completion", shell]) == 0
    assert "llama-chat" in capsys.readouterr().out
