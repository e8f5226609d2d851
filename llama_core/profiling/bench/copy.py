"""The copying task: a reply that repeats most of its prompt, where prompt lookup can guess many tokens."""

from __future__ import annotations

from llama_core.checkpoint import Checkpoint
from llama_core.profiling.bench.tasks import Task
from llama_core.tokenizers.templates.chat_template import ChatTemplate

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
