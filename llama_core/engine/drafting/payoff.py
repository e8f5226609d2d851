"""Whether guessing pays, from what was measured so far.

Where guesses cost nothing to make, the model's passes tell beforehand how many are worth checking:

    time of a pass over k guesses       t(k) = t(0) + k * c
    tokens that it is expected to give  1 + a + a^2 + ... + a^k     (a: how often a guess is right)

The k with the most tokens per second wins; if that is 0, nothing is guessed. Where making guesses takes time
as well, passes with and without them are compared while the reply is written (`Trial`).
"""

from __future__ import annotations

from collections.abc import Sequence

# A guess must promise this much more speed: measured times are noisy.
WORTHWHILE = 1.05
# Plain steps to be timed before the first guess.
PLAIN_STEPS = 3
# What a pass costs for each guess before one was timed, as a fraction of a plain step.
ASSUMED_COST = 0.2
# New measurements count this much against old ones.
FRESH = 0.15
# Counts of right and wrong guesses fade by this factor with each check, and more slowly with each chance that
# was left out, so that a context that turns repetitive is tried again after some dozens of tokens. So does a
# cost that was dear: guesses that are not made cannot show that they have become cheap.
FADE, FADE_UNTRIED = 0.9, 0.99

# See `Calibration`. So many guesses that were seen count as much as the probability itself; old ones fade.
CLASSES = 4
BELIEF = 2.0
FADE_SEEN = 0.98


class Acceptance:
    """How often guesses of one kind were right, recent ones counting most."""

    __slots__ = ("_right", "_wrong")

    def __init__(self) -> None:
        self._right = self._wrong = 0.0

    @property
    def rate(self) -> float:
        """Between 0 and 1; two in three while nothing is known."""
        return (self._right + 2.0) / (self._right + self._wrong + 3.0)

    def observe(self, drafted: int, accepted: int) -> None:
        """After the first wrong guess the others were not looked at."""
        self._right = FADE * self._right + accepted
        self._wrong = FADE * self._wrong + (accepted < drafted)

    def fade(self) -> None:
        """A chance to guess was left out."""
        self._right *= FADE_UNTRIED
        self._wrong *= FADE_UNTRIED


class PassTimes:
    """Seconds of the model's passes: `plain_s` of one without guesses, `guess_s` more for each guess."""

    __slots__ = ("_guess_s", "_plain_n", "plain_s")

    def __init__(self) -> None:
        self._plain_n = 0
        self.plain_s = 0.0
        self._guess_s: float | None = None

    @property
    def known(self) -> bool:
        """Whether enough plain passes were timed to judge by."""
        return self._plain_n >= PLAIN_STEPS

    @property
    def guess_s(self) -> float:
        """Assumed until a pass with guesses was timed."""
        return ASSUMED_COST * self.plain_s if self._guess_s is None else self._guess_s

    def observe(self, drafted_n: int, pass_s: float) -> None:
        """A pass over one token and `drafted_n` guesses took `pass_s`."""
        if drafted_n == 0:
            self._plain_n += 1
            # The first passes may be slow for reasons of their own; later ones are averaged.
            weight = max(FRESH, 1.0 / self._plain_n)
            self.plain_s += weight * (pass_s - self.plain_s)
            self._fade()
            return
        each = max(0.0, pass_s - self.plain_s) / drafted_n
        self._guess_s = self.guess_s + FRESH * (each - self.guess_s)

    def _fade(self) -> None:
        """A chance to guess was left out."""
        assumed_s = ASSUMED_COST * self.plain_s
        if self._guess_s is not None and self._guess_s > assumed_s:
            self._guess_s = assumed_s + FADE_UNTRIED * (self._guess_s - assumed_s)


class Calibration:
    """How often guesses of a probability were right. A model's own numbers say less: at temperature 0 a token
    of probability 0.5 is mostly the large model's likeliest too, at a higher one it may be drawn rarely.

    Guesses are counted in CLASSES equal ranges of probability.
    """

    __slots__ = ("_right", "_seen")

    def __init__(self) -> None:
        self._right, self._seen = [0.0] * CLASSES, [0.0] * CLASSES

    def chance(self, probability: float) -> float:
        """That such a guess is right: its probability, until enough were seen."""
        i = _class_of(probability)
        return (self._right[i] + BELIEF * probability) / (self._seen[i] + BELIEF)

    def observe(self, probabilities: Sequence[float], accepted_n: int) -> None:
        """Of guesses with these probabilities the first `accepted_n` were right, the next one was wrong, and
        the others were not looked at."""
        for number, probability in enumerate(probabilities[: accepted_n + 1]):
            i = _class_of(probability)
            self._right[i] = FADE_SEEN * self._right[i] + (number < accepted_n)
            self._seen[i] = FADE_SEEN * self._seen[i] + 1.0


def _class_of(probability: float) -> int:
    return min(int(probability * CLASSES), CLASSES - 1)


def best_count(rate: float, plain_s: float, guess_s: float, most: int) -> int:
    """The number of guesses, at most `most`, with the most tokens per second, where a guess is right at
    `rate` and costs `guess_s` (seconds); 0 where plain passes are as good."""
    best, best_speed = 0, WORTHWHILE / plain_s if plain_s > 0 else 0.0
    tokens, chance = 1.0, 1.0
    for count in range(1, most + 1):
        chance *= rate
        tokens += chance
        speed = tokens / max(plain_s + count * guess_s, 1e-9)
        if speed > best_speed:
            best, best_speed = count, speed
    return best


# A trial is judged after so many passes with guesses, and then after each.
TRIAL_PASSES = 6
# So many passes with guesses, then one without: what a plain pass costs changes with the machine's load.
CONTROL_EVERY = 16
# Where guessing does not pay, it is tried again after so many plain passes; each failure doubles it,
# up to the last.
PAUSE_PASSES = 16, 512


class Trial:
    """Passes with guesses, the time of guessing included, against plain ones: seconds a token."""

    __slots__ = ("_guided_n", "_pause", "_rest", "_seconds", "_tokens")

    def __init__(self) -> None:
        self._pause = PAUSE_PASSES[0]
        self._rest = 0  # plain passes to come
        self._begin()

    def _begin(self) -> None:
        self._guided_n = 0
        self._tokens = self._seconds = 0.0

    def take_turn(self) -> bool:
        """Whether the next pass may have guesses."""
        if self._rest:
            self._rest -= 1
            return False
        return True

    def observe(self, tokens_n: int, seconds: float, plain_s: float) -> None:
        """A pass with guesses gave `tokens_n` tokens in `seconds`; a plain one takes `plain_s` for one."""
        self._guided_n += 1
        self._tokens = FADE * self._tokens + tokens_n
        self._seconds = FADE * self._seconds + seconds
        if self._guided_n < TRIAL_PASSES:
            return
        if self._seconds * WORTHWHILE > plain_s * self._tokens:
            self._rest, self._pause = self._pause, min(2 * self._pause, PAUSE_PASSES[1])
            self._begin()
        elif self._guided_n % CONTROL_EVERY == 0:
            self._rest, self._pause = 1, PAUSE_PASSES[0]
