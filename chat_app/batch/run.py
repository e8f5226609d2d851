"""One run of `llama-chat batch`: what is open is answered by some means, and every result is written at once.

The input is read three times, each time from its beginning, because it may be far larger than memory: to
judge all of it before anything is done, to report bad lines, and to run the rest.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Protocol

from chat_app.batch.format import BadLine
from chat_app.batch.identity import ModelIdentity
from chat_app.batch.input import BatchInput
from chat_app.batch.output import BatchOutput
from chat_app.batch.progress import BatchProgress, BatchState
from chat_app.batch.reader import Line
from chat_app.batch.records import bad_line_record
from chat_app.batch.resume import JudgedLine, Parse, judge
from chat_app.console.streams import say


class Means(Protocol):
    """What answers requests: the engine of this machine, servers, a cluster."""

    @property
    def parse(self) -> Parse:
        """Reads a line of the input; a request as it wants it, or BadLine."""

    def identity(self) -> ModelIdentity:
        """The model that answers, known without loading it."""

    def answer(self, run: BatchRun) -> int:
        """Answer `run.open_lines()`, each with `run.append`; the exit code of what stopped it, else 0."""


class BatchRun:
    """One run of the command over an open output. `clock` gives seconds."""

    def __init__(
        self,
        source: BatchInput,
        output: BatchOutput,
        means: Means,
        *,
        retry_failed: bool,
        quiet: bool,
        clock: Callable[[], float],
    ) -> None:
        self.source, self.output, self.means = source, output, means
        self.retry_failed = retry_failed
        self.progress = BatchProgress(quiet=quiet)
        self.total = self.finished = self.failed = 0  # lines
        self.answered = self.prompt_n = self.reply_n = 0  # requests of this run, and their tokens
        self._clock = clock
        self._started_s = clock()

    def run(self) -> int:
        """Judge every line by what the output holds, answer the open ones, tell the sum; the exit code."""
        if self.source.is_empty():
            self.output.create()
            say(f"nothing to do: {self.source.path} has no requests")
            return 0  # nothing failed: a script that found nothing to ask goes on with an empty file
        self.identity = self.means.identity()
        for judged in self._judged(self.source.first()):
            self.total += 1
            self.finished += judged.state != "open"
            self.failed += judged.state == "failed"
        if self.finished == self.total:
            say(f"nothing to do: {self.output.path} holds all {self.total:,} results")
            return self._ended()
        for judged in self._judged(self.source.again()):
            if judged.state == "open" and isinstance(judged.item, BadLine):
                self.append(bad_line_record(judged.item, judged.line))
        # Without requests among what is left there is no need for the model.
        code = self.means.answer(self) if self.finished < self.total else 0
        return code or self._ended()

    def _ended(self) -> int:
        """The exit code of a run that nothing stopped, and the sentences for it. Raises OutputError."""
        self.output.check()
        if self.failed:
            said = f"{self.failed:,} of {self.total:,} lines failed; see their error in {self.output.path}"
            say(f"{said}. Lines corrected in IN are run by the same command")
        changed = self.source.changed()
        if changed:
            left = self.total - self.finished
            lost = f"{left:,} of its {self.total:,} lines were" if left else "what is new in it was"
            said = f"{self.source.path} changed while it was read: {lost} not run"
            say(f"{said}. Run the same command again to run what it holds now")
        return int(self.failed > 0 or changed)

    def _judged(self, lines: Iterator[Line]) -> Iterator[JudgedLine]:
        parse = self.means.parse
        return judge(lines, self.output, self.identity, retry_failed=self.retry_failed, parse=parse)

    # What the means use.

    def open_lines(self) -> Iterator[JudgedLine]:
        """The requests that are yet to be answered, read as they are taken."""
        for judged in self._judged(self.source.again()):
            if judged.state == "open" and not isinstance(judged.item, BadLine):
                yield judged

    def append(self, record: Mapping[str, Any], prompt_n: int = 0, reply_n: int = 0) -> None:
        """Write one result down; of an answer, the tokens of its prompt and its reply. Raises OutputError."""
        self.output.append(record)
        self.finished += 1
        self.failed += record["error"] is not None
        if record["error"] is None:
            self.answered += 1
            self.prompt_n += prompt_n
            self.reply_n += reply_n

    def begin(self) -> None:
        """The means are ready: time counts from here."""
        self._started_s = self._clock()

    @property
    def elapsed_s(self) -> float:
        """Seconds since `begin`."""
        return self._clock() - self._started_s

    def state(self, running: int, drawn: int | None = None, computed: int | None = None) -> BatchState:
        """How far it is. drawn, computed: tokens with those under way, where they are known."""
        tokens = self.prompt_n + self.reply_n
        return BatchState(
            total=self.total,
            finished=self.finished,
            failed=self.failed,
            running=running,
            answered=self.answered,
            answered_tokens=tokens,
            drawn=self.reply_n if drawn is None else drawn,
            computed=tokens if computed is None else computed,
            elapsed_s=self.elapsed_s,
        )
