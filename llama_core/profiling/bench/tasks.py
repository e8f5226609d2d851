"""What a benchmark runs.

The rows carry llama.cpp's names: pp128 and pp512 are prompts of that many tokens from an empty context,
tg128 is 128 generated tokens after a prompt of one, tg128@d1024 the same after 1,024, tg128+1busy the same
beside a program that takes a core. Prompts are random ids: their content does not change the work. The row
"copy" is a real request (bench_copy).
"""

from __future__ import annotations

import random
import re
from dataclasses import dataclass

from llama_core.checkpoint import Checkpoint
from llama_core.tokenizers.templates.chat_template import ChatTemplate

GENERATED = 128


@dataclass(frozen=True, slots=True)
class Task:
    """A row: `prompt_n` tokens before `generated_n` more, beside `busy` programs that take a core each.
    The rate is the prompt's or the reply's. A task with `prompt_ids` is a real request: the reply may end
    earlier, at one of `stop_ids`, and prompt lookup takes part."""

    name: str
    prompt_n: int
    generated_n: int
    busy: int = 0
    prompt_ids: tuple[int, ...] = ()
    stop_ids: frozenset[int] = frozenset()

    @property
    def decodes(self) -> bool:
        """Whether it is decoding that counts; else prefill."""
        return self.generated_n > 1

    def ids(self, vocab_size: int) -> list[int]:
        """The prompt: the request's own, or random ids, the same in every run."""
        return list(self.prompt_ids) or random_ids(self.prompt_n, vocab_size)

    @property
    def context_n(self) -> int:
        """Positions of the context that the task fills."""
        return self.prompt_n + self.generated_n


def prefill(n: int) -> Task:
    """A prompt of n tokens, and the first token behind it."""
    return Task(f"pp{n}", n, 1)


def decode(depth: int = 0, n: int = GENERATED, busy: int = 0) -> Task:
    """n generated tokens after `depth` of prompt (one at least: something must be there to continue)."""
    name = f"tg{n}" + (f"@d{depth}" if depth else "") + (f"+{busy}busy" if busy else "")
    return Task(name, max(1, depth), n, busy)


_NAME = re.compile(r"pp(?P<prompt>[1-9]\d{0,5})|tg(?P<n>[1-9]\d{0,5})(@d(?P<depth>\d{1,6}))?")


def named(name: str) -> Task:
    """The task of a row's name: pp512, tg128, tg128@d4096. Raises ValueError for any other text."""
    found = _NAME.fullmatch(name)
    if found is None or found["n"] == "1":  # the first token comes with the prompt: one alone has no rate
        raise ValueError(f"{name!a} is no row; pp512, tg128 and tg128@d4096 are")
    if found["prompt"]:
        return prefill(int(found["prompt"]))
    return decode(int(found["depth"] or 0), int(found["n"]))


def random_ids(n: int, vocab_size: int) -> list[int]:
    """The same ids in every run, without the first few, where control tokens usually stand."""
    return random.Random(n).choices(range(min(16, vocab_size - 1), vocab_size), k=n)


MOST_TOKENS = 400

TEXT = """\
The old mill stands at the end of a narrow lane, half a mile from the village. For two hundred years its \
wheel turned from morning until evening, and farmers came from every valley around to have their grain \
ground into flour. In dry summers the stream ran low and the miller slept beside the gate, waiting for \
rain. In wet winters the water rose over the meadow and carried fences, hay and once even a small boat \
as far as the stone bridge. The last miller was a quiet man called Thomas. He kept a book in which he \
wrote the weather of each day, the price of wheat, and the name of everyone who came to the door. When \
he died, his daughter gave the book to the school, where children still read it aloud on the first day \
of spring. Today the wheel no longer turns. The roof has been repaired, the walls are painted white, and \
a family from the city spends its holidays there. They have planted apple trees along the stream and \
hung a lamp above the door. On quiet evenings one can hear the water running under the floor, and it is \
easy to believe that the great stones above are still at work, slowly turning grain into flour for the \
bread of the whole valley."""

REQUEST = f"Copy the following text exactly, but write Robert instead of Thomas.\n\n{TEXT}"


def copying(checkpoint: Checkpoint) -> Task | None:
    """The task for this model, or None for one without a chat template, which does not follow requests."""
    if checkpoint.chat_template is None:
        return None
    tokenizer = checkpoint.tokenizer
    bos, eos = (
        tokenizer.token_text(token_id) if token_id is not None else ""
        for token_id in (tokenizer.bos_id, tokenizer.eos_id)
    )
    template = ChatTemplate(checkpoint.chat_template, bos_token=bos, eos_token=eos)
    ids = template.encode([{"role": "user", "content": REQUEST}], tokenizer, add_generation_prompt=True)
    return Task("copy", len(ids), MOST_TOKENS, prompt_ids=tuple(ids), stop_ids=tokenizer.stop_ids)
