"""A config file that anything may have written: faults become notices, few, short, without control codes."""

from __future__ import annotations

import os
from pathlib import Path
from random import Random

import pytest

from chat_app.config.paths import get_paths
from chat_app.config.settings import Settings
from chat_app.config.sources import MAX_CONFIG_BYTES, MAX_NOTICE_CHARS, MAX_NOTICES, apply_config
from chat_app.config.sources import apply_environment as from_environment
from chat_app.text.errors import SentenceError
from chat_app.text.sanitize import clean_line
from tests.support.luck import SEED

FULL = MAX_CONFIG_BYTES
HOSTILE = {
    "more digits than Python reads": b"seed = " + b"9" * 5000,
    "more digits than Python writes": b"num_ctx = 0x" + b"f" * 9000,
    "no finite number": b"temperature = 1e999999\ntop_p = nan\n",
    "random bytes": Random(SEED).randbytes(5000),
    "zeros": bytes(5000),
    "another encoding": 'theme = "x"'.encode("utf-16"),
    "nested lists": b"stop = " + b"[" * 50_000,
    "nested tables": b"a = " + b"{a=" * 20_000,
    "a long dotted key": b"a." * 5000 + b"a=1",
    "nested JSON in a text": b'stop = "' + b"[" * 50_000 + b'"\nnum_ctx = "x"',
    "a home of nobody": b'tokenizer = "~there-is-no-such-user/x"',
    "every wrong type": b"model = []\nthreads = {}\nkv = 1979-05-27\nsave = 'perhaps'\nmodel_folders = [1]\n",
    "sections that are none": b'keymap = "x"\nparameters = 5\n',
    "control codes": b'"a\\u001b[31m" = 1\nbackend = "\\u001b]52;c;AA\\u0007"\n[keymap]\n"\\u202e" = 3\n',
    "a long key": b"a" * (FULL - 10) + b"=1",
    "a long value": b'backend = "' + b"a" * (FULL - 20) + b'"',
    "larger than any": b"\n" * (FULL + 1),
    **{
        f"many in {section.decode() or 'no section'}": section
        + b"\n"
        + b"".join(b'k%d="x"\n' % i for i in range(4000))
        for section in (b"", b"[keymap]", b"[parameters]")
    },
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_fault_is_a_notice(name: str, tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    path.write_bytes(HOSTILE[name])
    settings = apply_config(Settings(), path)
    assert 1 <= len(settings.notices) <= MAX_NOTICES + 1
    for notice in settings.notices:
        assert notice == clean_line(notice, MAX_NOTICE_CHARS)
        assert str(path) in notice or notice.startswith("So much is wrong")


def test_good_settings_beside_bad_ones_count(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    path.write_text('theme = "a"\nkeymap = 1\n[parameters]\nseed = 0x' + "f" * 9000 + "\ntop_k = 7\n")
    settings = apply_config(Settings(), path)
    assert (settings.theme, settings.params.top_k, settings.params.seed) == ("a", 7, None)
    assert [notice.partition(": ")[2] for notice in settings.notices] == [
        "keymap must be a table, as in [keymap].",
        "seed: the number has too many digits.",
    ]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
@pytest.mark.parametrize("kind", ["pipe", "device", "folder", "link to itself"])
def test_what_is_no_file_is_told_and_never_waited_for(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    else:
        path.symlink_to("/dev/zero" if kind == "device" else path)
    (notice,) = apply_config(Settings(), path).notices
    assert notice.startswith(f"{path} could not be read: ")


def test_a_link_to_a_file_is_followed(tmp_path: Path) -> None:
    (tmp_path / "real.toml").write_text('theme = "linked"')
    (tmp_path / "config.toml").symlink_to("real.toml")
    assert apply_config(Settings(), tmp_path / "config.toml").theme == "linked"


@pytest.mark.parametrize(
    ("name", "value"),
    [("TOKENIZER", "~there-is-no-such-user/x"), ("SEED", "9" * 5000), ("\x1b[31m", "x")],
)
def test_the_environment_is_no_better(name: str, value: str) -> None:
    (notice,) = from_environment(Settings(), {f"LLAMA_CHAT_{name}": value}).notices
    assert notice == clean_line(notice, MAX_NOTICE_CHARS)


def test_a_home_of_nobody_is_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLAMA_CHAT_HOME", "~there-is-no-such-user/x")
    with pytest.raises(
        SentenceError, match="LLAMA_CHAT_HOME: the home that '~there-is-no-such-user/x' begins with"
    ):
        get_paths()
