"""Cost models fitted to measured rows, and the roofline beside them, in sentences."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from llama_core.profiling.lab.experiment import Row
from llama_core.profiling.lab.experiments.limits import Roofline

# (tokens or sequences, seconds)
Points = Sequence[tuple[float, float]]


@dataclass(frozen=True, slots=True)
class Fit:
    """seconds = fixed + slope * n, and the point furthest from it: its n, and its seconds over the fit's."""

    fixed: float
    slope: float
    worst_n: float
    worst: float

    @property
    def departure(self) -> float:
        """How far the worst point is from the fit, as a fraction of the fit."""
        return abs(self.worst - 1)


def points_of(rows: Sequence[Row], backend: str, phase: str) -> list[tuple[float, float]]:
    """(work, seconds after) of the measured rows named "backend, phase ..."."""
    named = [row for row in rows if row.name.startswith(f"{backend}, {phase} ")]
    return [(row.work, row.after_s.median) for row in named if row.after_s is not None]


def fit(points: Points) -> Fit:
    """By least squares of relative errors: 1 and 64 sequences count alike."""
    n, seconds = np.array(points).T
    slope, fixed = np.polyfit(n, seconds, 1, w=1 / seconds)
    ratios = seconds / (fixed + slope * n)
    worst = int(np.argmax(np.abs(np.log(ratios))))
    return Fit(float(fixed), float(slope), float(n[worst]), float(ratios[worst]))


def batch_fit(points: Points) -> str:
    """points: (sequences, seconds of a step)."""
    found = fit(points)
    step = f"{found.fixed * 1e3:.1f} ms and {found.slope * 1e3:.2f} ms for each sequence"
    return f"a step takes {step}; batch {found.worst_n:.0f} departs most, at {found.worst:.2f} of that"


def batch_sentence(name: str, points: Points, position: int, roof: Roofline) -> str:
    """points: (sequences, seconds of a step behind `position` tokens)."""
    shares = [f"{roof.batch_s(n, position) / s:.2f} at batch {n:.0f}" for n, s in (points[0], points[-1])]
    return f"{name}, batch: {batch_fit(points)}; it reaches {' and '.join(shares)} of the roofline"


def decode_sentence(name: str, points: Points, roof: Roofline) -> str:
    """points: (positions, seconds)."""
    found = fit(points)
    fitted = f"{found.fixed * 1e3:.2f} ms + {found.slope * 1e6:.2f} us a position"
    floor, growth = roof.decode_s(0), roof.decode_s(1) - roof.decode_s(0)
    shares = [f"{roof.decode_s(n) / s:.2f} at {n:,.0f} positions" for n, s in (points[0], points[-1])]
    return (
        f"{name}, decode: {fitted} (within {found.departure:.0%}); memory alone allows {floor * 1e3:.2f} ms "
        f"+ {growth * 1e6:.2f} us, of which roofline it reaches {' and '.join(shares)}"
    )


def prefill_sentence(name: str, points: Points, roof: Roofline) -> str:
    """points: (tokens of the prompt, seconds)."""
    found = fit([(n, seconds / n) for n, seconds in points if n >= 64])
    ceiling = roof.cost.prefill_ceiling(roof.multiply_adds_per_s)
    best_n, best_s = min(points, key=lambda p: p[1] / p[0])
    most_n, most_s = points[-1]
    shares = [f"{n / s / ceiling:.2f} at {n:,.0f}" for n, s in ((best_n, best_s), (most_n, most_s))]
    sign = "-" if found.slope < 0 else "+"
    each = f"{found.fixed * 1e6:.0f} us a token {sign} {abs(found.slope) * 1e9:.1f} ns for each token"
    return (
        f"{name}, prefill: {each} of the prompt (within {found.departure:.0%} from 64 tokens on); the "
        f"products alone, at the measured peak of {roof.multiply_adds_per_s / 1e9:,.0f} G multiply-adds/s, "
        f"allow {ceiling:,.0f} tok/s, of which it reaches {' and '.join(dict.fromkeys(shares))} tokens"
    )
