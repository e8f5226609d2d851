"""What every test stands on: its own folders, the default model, reference data, no slow tests by default."""

from __future__ import annotations

import contextlib
import faulthandler
import gc
import itertools
import os
import re
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from chat_app.models.stores.machine import Machine
from llama_core.backends.jit.build.variants import Isa
from llama_core.roofline.rates import MachineRates
from llama_core.trusted_files import UntrustedFileError, require_trusted_folder

REPOSITORY = Path(__file__).resolve().parents[1]
# Kept before any test changes it: the model comes through the user's own index, proxy and cache settings.
USER_ENVIRONMENT = dict(os.environ)

# Hundreds of processes import the same modules; an environment that keeps no bytecode has each compile them.
sys.dont_write_bytecode = False
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

import hypothesis  # noqa: E402 - pytest rewrites all its modules, and they are kept from here on

from tests.support.luck import CHOSEN  # noqa: E402 - found from here on

# A machine that stops for a moment makes no test fail, and neither does luck.
hypothesis.settings.register_profile("here", deadline=None, derandomize=CHOSEN is None)
hypothesis.settings.load_profile("here")

# A shell's background jobs ignore Ctrl+C, and `nohup` SIGHUP; so would the programs that the tests signal.
for name, handler in (("SIGINT", signal.default_int_handler), ("SIGHUP", signal.SIG_DFL)):
    number = getattr(signal, name, None)  # Windows has no SIGHUP
    if number is not None and signal.getsignal(number) is signal.SIG_IGN:
        signal.signal(number, handler)


LONGEST_NAME = 100


def pytest_make_parametrize_id(val: object) -> str | None:
    """A text of 100,000 characters names no test: its beginning and its length do."""
    if isinstance(val, str | bytes) and len(val) > LONGEST_NAME:
        return f"{val[:LONGEST_NAME]!a}, {len(val):,} in all"
    return None


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Deselect `slow` tests unless `-m` chooses; every marker expression given by hand is obeyed."""
    if config.option.markexpr:
        return
    slow = [item for item in items if item.get_closest_marker("slow")]
    if slow:
        config.hook.pytest_deselected(items=slow)
        items[:] = [item for item in items if not item.get_closest_marker("slow")]


def pytest_collection_finish() -> None:
    """What the imports made stays; collections need not look at it. And a run makes hundreds of apps: by
    Python's own thresholds a quarter of the screen tests' time goes into looking for what is left of them."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 10, 10)


HANG_S = 600
STDERR = pytest.StashKey[int]()


def pytest_configure(config: pytest.Config) -> None:
    """Keep the stream that output is not captured from."""
    config.stash[STDERR] = os.dup(2)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    """A test that hangs says where and ends its process; only what is not slow can take too long. By a thread
    of C's: compiled code hears no signal, and a thread of Python's for each test costs milliseconds."""
    if not item.get_closest_marker("slow"):
        faulthandler.dump_traceback_later(HANG_S, exit=True, file=item.config.stash[STDERR])
    try:
        return (yield)
    finally:
        faulthandler.cancel_dump_traceback_later()


FOLDERS = itertools.count()


@pytest.fixture
def tmp_path(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty folder of this test's own. pytest's fixture looks at the folders of all tests before to find a
    number for the next, and by the thousandth that costs more than many a test."""
    name = re.sub(r"\W", "_", request.node.name)[:30]
    return tmp_path_factory.mktemp(f"{name}{next(FOLDERS)}", numbered=False)


# Temporary folders are in /tmp, where everybody may write: nothing there is trusted.
OWN_FOLDER = REPOSITORY / ".pytest_cache"
KERNELS_KEPT_S = 2 * 86400


@pytest.fixture(scope="session")
def kernel_cache() -> Path:
    """One folder of compiled kernels for all runs, so that each is compiled once. It stands in the checkout:
    where others can write into that, kernels are compiled in every process."""
    folder = OWN_FOLDER / "kernels"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    for old in folder.iterdir():
        with contextlib.suppress(FileNotFoundError):  # another run was faster
            if old.stat().st_mtime < time.time() - KERNELS_KEPT_S:
                old.unlink()
    return folder


@pytest.fixture(scope="session", autouse=True)
def kernels_are_built_once(kernel_cache: Path) -> Iterator[None]:
    """What takes the compiler longest is made once for all variants and sets of kernels in that folder."""
    from llama_core.backends.jit.build import builder
    from tests.support import kept_kernels

    start = builder.start_builder

    def start_builder(isa: Isa, kernel_set: str = "all", folder: Path | None = None) -> Any:
        if folder == kernel_cache:
            return kept_kernels.start(isa, kernel_set, folder)
        return start(isa, kernel_set, folder)

    with mock.patch.object(builder, "start_builder", start_builder):
        yield


@pytest.fixture
def trusted_folder() -> Iterator[Path]:
    """An empty folder into which nobody else can write."""
    OWN_FOLDER.mkdir(mode=0o700, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=OWN_FOLDER, prefix="trusted-") as name:
        try:
            require_trusted_folder(Path(name))
        except UntrustedFileError as error:
            pytest.skip(f"the checkout is open to others: {error}")
        yield Path(name)


@pytest.fixture(autouse=True)
def llama_chat_home(tmp_path: Path, kernel_cache: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Every folder of the app under this test's own; child processes inherit it. Returns that root.

    Only compiled kernels are shared between tests.
    """
    for name in list(os.environ):
        if name.startswith("LLAMA_CHAT_") or name in ("NO_COLOR", "FORCE_COLOR"):
            monkeypatch.delenv(name)
    home = tmp_path / "llama-chat-home"
    (home / "cache").mkdir(parents=True, mode=0o700)
    monkeypatch.setenv("LLAMA_CHAT_KERNELS", str(kernel_cache))
    monkeypatch.setenv("LLAMA_CHAT_HOME", str(home))
    # What other programs keep for the person who runs the tests is no part of them.
    nobody = Machine(tmp_path / "nobody", {}, "linux", tmp_path / "nobody")
    monkeypatch.setattr("chat_app.models.catalogue.this_machine", lambda: nobody)
    # Nor does any test need to know how fast the machine is.
    monkeypatch.setattr("chat_app.models.outlook.machine_rates", lambda: MachineRates(30e9, 400e9, 60e9))
    return home


@pytest.fixture(scope="session")
def default_model() -> Path:
    """The default model's file: `LLAMA_CHAT_TEST_MODEL`, else fetched once into the user's own cache.

    Where it cannot be had, tests are skipped with the reason; in CI (`CI=true`) they fail instead, because
    a run that silently checks nothing would look green.
    """
    given = USER_ENVIRONMENT.get("LLAMA_CHAT_TEST_MODEL")
    if given:
        path = Path(given).expanduser()
        if not path.is_file():
            pytest.fail(f"LLAMA_CHAT_TEST_MODEL names {path}, which is no file")
        return path
    from chat_app.models import catalogue as models
    from chat_app.models.download import pull as download

    try:
        with mock.patch.dict(os.environ, USER_ENVIRONMENT, clear=True):
            return models.find_local(models.DEFAULT_MODEL) or download.pull(models.DEFAULT_MODEL)
    except download.DownloadError as error:
        reason = f"the default model is not available: {error}"
        if USER_ENVIRONMENT.get("CI", "").lower() == "true":
            pytest.fail(reason)
        pytest.skip(reason)


@pytest.fixture(scope="session")
def shared_reference() -> Path:
    """The independent implementations' results (greedy.json, tokens.json, perplexity.json)."""
    folder = REPOSITORY.parent / "shared" / "reference"
    if not folder.is_dir():
        pytest.skip(f"the reference data is not at {folder}")
    return folder
