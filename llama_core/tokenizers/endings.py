"""Which tokens are markers, and which of them end a reply: one answer for every format.

A file names its end tokens (eos, eot, eom, lists of ids). Beyond those, a marker with a name that published
vocabularies give to the end of a text, a turn or a message ends a reply too. Files disagree about what is a
marker: the type they give a token counts, and so does the chat template, which spells those it needs.
Source of the names: llama.cpp's list of end-of-generation tokens and the published Llama-family vocabularies.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

END_NAMES = frozenset(
    {
        # the end of a text, a turn or a message
        *("<|endoftext|>", "<|end_of_text|>", "<|end|>", "<|im_end|>", "<|eot_id|>", "<|eom_id|>", "<|EOT|>"),
        *("<|end_of_turn|>", "<|end_of_message|>", "<|return|>", "<|call|>", "<|calls|>", "<|flush|>"),
        *("<end_of_turn>", "<end_of_utterance>", "<turn|>", "<|tool_response>", "<EOT>", "_<EOT>", "[EOT]"),
        *("</s>", "<eos>", "[EOS]", "[e~[", "<|end▁of▁sentence|>", "<｜end▁of▁sentence｜>"),
        # fill-in-the-middle: padding, and the borders of files and repositories
        *("<|fim_pad|>", "<fim-pad>", "<fim_pad>", "<PAD>", "[PAD]", "<|fim_repo|>", "<|repo_name|>"),
        *("<fim-repo>", "<REPO>", "<reponame>", "<|file_sep|>"),
    }
)
# (name, others): in a vocabulary that holds all of the others, the name ends only a part of a reply.
NO_END_BESIDE = (
    ("<|end|>", frozenset({"<|return|>", "<|call|>"})),
    ("<|end|>", frozenset({"<|calls|>", "<|flush|>"})),
    ("</s>", frozenset({"<|tool_response>"})),
)
_BARRED = re.compile(r"<[|｜][^<>]{1,100}[|｜]>")


def is_marker(text: str) -> bool:
    """Whether a token's text alone tells a marker: `<|name|>`, full-width bars or not, or an end's name."""
    return text in END_NAMES or _BARRED.fullmatch(text) is not None


def end_ids(special_tokens: Mapping[str, int]) -> frozenset[int]:
    """The special tokens that end a reply by their names. special_tokens: texts and ids."""
    others = special_tokens.keys()
    no_ends = {name for name, beside in NO_END_BESIDE if beside <= others}
    return frozenset(i for name, i in special_tokens.items() if name in END_NAMES and name not in no_ends)


def unmarked_markers(
    tokens: Sequence[str], ordinary: NDArray[np.bool_], named: Iterable[int], template: str | None
) -> Iterator[int]:
    """Ids of ordinary tokens that are markers all the same: the file names them as the end of something, or
    the chat template spells them.

    ordinary: (n_tokens,), whether the type of each says "text"; named: ids that the file names as ends.
    """
    yield from (i for i in named if ordinary[i] and _bracketed(tokens[i]))
    spelled = {name for name in END_NAMES if name in template} if template else set()
    spelled.update(_BARRED.findall(template or ""))
    if spelled:
        yield from (i for i, text in enumerate(tokens) if text in spelled and ordinary[i])


def _bracketed(text: str) -> bool:
    """A named end is a marker where it looks like one in the widest sense: files name a plus sign, too."""
    return is_marker(text) or (len(text) > 2 and text[0] + text[-1] in ("<>", "[]"))
