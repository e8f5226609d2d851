"""How a prompt is cut into passes, and behind which of them a cache is to remember its state.

A cache that can go back to any length needs nothing of this. One with a state (`backends.base.Cache`) goes
back to where it was told to remember. People go back to the ends of messages: to ask for another reply, to
send another message instead of one, to go on from another branch. Where messages end, a token of the prompt
says that would also end a reply. The last token of a prompt is always computed, for its logits, so that the
place before it is such an end too.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence

# Ends that are nearer to each other are one: so few tokens are read again at no cost.
LEAST_GAP = 16


def message_ends(ids: Sequence[int], start: int, ends: Collection[int]) -> list[int]:
    """Lengths of ids, beyond `start` and short of all, behind which the state is worth keeping."""
    found, last = [], start
    for length in range(start + LEAST_GAP, len(ids)):
        if length - last >= LEAST_GAP and (ids[length - 1] in ends or length == len(ids) - 1):
            found.append(length)
            last = length
    return found


def passes(start: int, n: int, chunk: int, cuts: Sequence[int] = ()) -> Iterator[tuple[int, int]]:
    """(start, stop) of passes of at most `chunk` tokens over tokens start..n. Each of `cuts`, ascending, is
    the end of one."""
    for cut in (*cuts, n):
        while start < cut:
            stop = min(start + chunk, cut)
            yield start, stop
            start = stop
