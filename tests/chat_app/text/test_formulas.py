"""LaTeX as Unicode: what reads well, and what stays as it is because its meaning would change."""

from __future__ import annotations

import pytest

from chat_app.text.formulas import MAX_FORMULA, to_unicode
from chat_app.tui.markdown.inline import read_inline


@pytest.mark.parametrize(
    ("latex", "shown"),
    [
        (r"x^2 + y_{ij} = \alpha", "x² + yᵢⱼ = α"),
        (r"\frac{1}{2}", "1/2"),
        (r"\frac{a+b}{2}", "(a+b)/2"),
        (r"\frac{\sqrt{x}}{\frac{a}{b}}", "(√x)/(a/b)"),
        (r"\sqrt{x+1}", "√(x+1)"),
        (r"2\frac{1}{2}x = \frac{12}{2x}", "2(1/2)x = 12/(2x)"),
        (r"\frac{1}{2}^2 \sqrt{x}y", "(1/2)² √(x)y"),
        (r"v_\text{max} x_{\text{speed}}", "vₘₐₓ x_(speed)"),
        (r"x^{\frac{1}{2}} y^\frac{1}{2}", "x^(1/2) y^(1/2)"),
        (r"e^{-x^2}", "e^(\N{MINUS SIGN}x²)"),
        (r"\sum_{i=1}^{n} i^2", "∑ᵢ₌₁ⁿ i²"),
        (r"\int_0^\infty e^{-x}\,dx", "∫₀^∞ e⁻ˣ dx"),
        (r"e^{i\pi}+1=0", "e^(iπ)+1=0"),
        (r"\left( \vec{v} \right)", "( v⃗ )"),
        (r"x \text{ if } y \le 3", "x if y ≤ 3"),
        (r"\mathbb{R}^n \to \sin x", "ℝⁿ → sin x"),
    ],
)
def test_reads_well(latex: str, shown: str) -> None:
    assert to_unicode(latex) == shown


@pytest.mark.parametrize(
    "latex",
    [
        r"\begin{pmatrix} 1 & 2 \\ 3 & 4 \end{pmatrix}",
        r"\leftover x",
        r"\unknown{x}",
        r"\frac{1",
        r"{x",
        "x" * (MAX_FORMULA + 1),
    ],
)
def test_stays_as_it_is(latex: str) -> None:
    assert to_unicode(latex) is None


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (r"so \(x^2\) and $y_1$.", "so x² and y₁."),
        ("\\[\n\\alpha * \\beta * c\n\\]", "α * β * c"),
        (r"$$a_1 + a_2$$", "a₁ + a₂"),
        (r"\(\unknown_a + _b\)", r"\(\unknown_a + _b\)"),
        (r"`$x^2$` and `\(x\)`", r"$x^2$ and \(x\)"),
        ("$5 and $6, or $7", "$5 and $6, or $7"),
        ("It costs $5-$10.", "It costs $5-$10."),
        (r"open \(x^2", r"open \(x^2"),
        ("to $HOME and $PATH, $a/$b", "to $HOME and $PATH, $a/$b"),
        ("$\x1bx\u202e$ and $\\unknown\x1b$", "x⟨U+202E⟩ and $\\unknown$"),
    ],
)
def test_in_a_paragraph(text: str, shown: str) -> None:
    assert read_inline(text).plain == shown
