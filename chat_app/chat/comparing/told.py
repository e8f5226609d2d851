"""A comparison in words."""

from __future__ import annotations

import math

from chat_app.chat.comparing.candidate import Said
from chat_app.chat.comparing.comparison import Comparison
from chat_app.chat.comparing.contender import Contender
from chat_app.chat.reply import ENDINGS
from chat_app.config.endpoints import model_label
from chat_app.text import formatting as fmt
from chat_app.text.sanitize import clean_line

NAMES = ("1", "2")


def facts_of(one: Contender) -> str:
    """The model and what it does, or how its reply ended."""
    name = one.model or (model_label(one.side.model) if one.side.model else "")
    candidate = one.candidate
    n = 0 if candidate is None else len(candidate.reply.tokens)
    counted = f"{n:,} token{'' if n == 1 else 's'}" if n else ""
    reason = (
        None if candidate is None or candidate.reply.finished is None else candidate.reply.finished.reason
    )
    state = "stopped" if reason == "cancelled" else ENDINGS.get(reason or "", one.state)
    return " · ".join(filter(None, (clean_line(name, 40), state, counted)))


def parting(comparison: Comparison) -> str:
    """Where the two part, with both probabilities; or that they do not."""
    difference = comparison.difference()
    if difference is None:
        if not comparison.ended:
            return ""
        if all(one.whole for one in comparison.contenders):
            return "Both say the same."
        return "They say the same as far as both came." if all(comparison.answers) else ""
    after = difference.places[0] if difference.places[0] is not None else difference.places[1]
    lines = [
        f"They part after {after:,} token{'' if after == 1 else 's'}:" if after else "They part at once:"
    ]
    for place, (name, at) in enumerate(zip(NAMES, difference.places, strict=True)):
        if at is None:
            lines.append(f"  {name}  ends here")
            continue
        said = comparison.answers[place][at]
        told = f"  {name}  {shown(said.text)}  {likely(said)}"
        other = difference.places[1 - place]
        share = comparison.share(place, difference)
        if share is not None and other is not None:
            theirs = comparison.answers[1 - place][other].text
            told += f" (it gave {shown(theirs)} {fmt.percent(share)})"
        lines.append(told)
    return "\n".join(lines)


def likely(said: Said) -> str:
    """How probable it was."""
    return "(how probable was not told)" if math.isnan(said.logprob) else fmt.percent(math.exp(said.logprob))


def shown(text: str) -> str:
    """A piece in quotes, on one line."""
    return f"“{text.replace(chr(10), '⏎')}”"
