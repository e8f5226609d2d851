"""A process that is killed while it writes leaves a file that is believed as far as it is whole."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.chat_app.kv_files.conftest import Start, words

KILLED = """
import os, signal, sys
from pathlib import Path
from chat_app.kv_files import folder, segments
folder.FREE_BYTES = 0
from tests.chat_app.kv_files.conftest import Chatting, words
from llama_core.engine.load import load_engine
path, kept, after = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
one = Chatting(load_engine(path, backend="numpy", threads=1), path, kept)
ids = one.reply(words(0, 80))
one.keeper.close()
write, left = segments._write_all, [after]
def dies(file, at, data):
    left[0] -= 1
    if left[0] < 0:
        write(file, at, bytes(data)[: len(data) // 2])
        os.kill(os.getpid(), signal.SIGKILL)
    write(file, at, data)
segments._write_all = dies
one.reply([*ids, *words(1, 80)])
one.keeper.close()
"""


def test_killed_at_the_first_piece_and_at_the_head(start: Start, tiny_model: Path) -> None:
    one = start()
    for after in (0, 9):  # 2 layers, 2 heads: 8 pieces, the state's none, the head
        command = [sys.executable, "-c", KILLED, str(tiny_model), str(one.folder), str(after)]
        ended = subprocess.run(command, cwd=Path(__file__).parents[3], timeout=120, capture_output=True)
        assert ended.returncode == -9, ended.stderr
        fresh = start()
        ids = fresh.reply(words(0, 80), keep=False)
        expected = fresh.logits([*ids, 7])
        fresh.engine.reset()
        assert fresh.keeper.restore("chat", [*ids, *words(1, 80)]).n == len(ids) - 1  # type: ignore[union-attr]
        assert fresh.logits([*ids, 7]) == expected
        longer = fresh.reply([*ids, *words(3, 40)])
        fresh.keeper.close()
        assert start().keeper.restore("chat", longer).n == len(longer) - 1  # type: ignore[union-attr]
        fresh.files()[0].unlink()
