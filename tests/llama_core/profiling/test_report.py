"""The report: no negative result is dropped, every row has its spread, every table its machine."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from llama_core.profiling.lab import report
from llama_core.profiling.lab.experiment import Match, Row, Verdict
from llama_core.profiling.lab.records import Record, latest, read_records
from llama_core.profiling.statistics import Interval, Spread

REPOSITORY = Path(__file__).resolve().parents[3]
RESULTS = REPOSITORY / "assets" / "lab" / "results.jsonl"
MACHINE: dict[str, Any] = {
    "cpu": "Some CPU",
    "features": ["avx2", "fma"],
    "cores": 2,
    "cache_mib": 32,
    "memory_gib": 23.5,
    "system": "Linux 6",
    "python": "3.11.7",
    "numpy": "2.4.6",
    "numba": "0.68.1",
    "blas": "openblas 0.3.31",
    "blas_kernel": "Haswell",
    "blas_threads": 2,
    "threads": 2,
    "load_average": [0.5, 0.6, 0.7],
}


def row(name: str, verdict: Verdict = "confirmed", ratio: float = 2.0, **changes: Any) -> Row:
    made = Row(
        name=name,
        verdict=verdict,
        claim="faster",
        ratio=Interval(ratio, ratio * 0.9, ratio * 1.1),
        before_s=Spread(0.002, 0.001, 0.004, 7),
        after_s=Spread(0.0005, 0.00025, 0.001, 7),
        match=Match(True, "identical"),
    )
    return replace(made, **changes)


def record(*rows: Row, number: int = 99, **changes: Any) -> Record:
    made = Record(
        number=number,
        name=f"e{number}",
        title="A fake: with a subtitle",
        hypothesis="Quick beats slow",
        refuted_if="it is slower",
        time="2026-01-02T03:04:05+00:00",
        elapsed_s=1.5,
        machine=MACHINE,
        rows=rows,
        conclusions=(),
    )
    return replace(made, **changes)


def table_names(text: str) -> list[str]:
    return [line.split(" | ")[1] for line in text.splitlines() if line.startswith("| 99 ")]


def test_the_laboratory_page_holds_what_the_generator_makes() -> None:
    """To mend it: `llama-chat lab report assets/lab/results.jsonl --readme assets/docs/laboratory.md`."""
    records, passed_over = read_records(RESULTS)
    assert passed_over == []
    page = (REPOSITORY / "assets" / "docs" / "laboratory.md").read_text(encoding="utf-8")
    assert report.put_into(page, report.findings(latest(records))) == page


def test_the_full_findings_are_what_the_generator_makes() -> None:
    """To mend it: `llama-chat lab report assets/lab/results.jsonl --full > assets/lab/findings.md`."""
    records, _ = read_records(RESULTS)
    kept = (RESULTS.parent / "findings.md").read_text(encoding="utf-8")
    assert kept == report.full(latest(records))


def test_every_negative_result_stands_on_the_laboratory_page() -> None:
    page = (REPOSITORY / "assets" / "docs" / "laboratory.md").read_text(encoding="utf-8")
    section = page[page.index(report.BEGIN) : page.index(report.END)]
    records = latest(read_records(RESULTS)[0])
    negative = [(one, r) for one in records for r in one.rows if r.verdict in ("refuted", "open")]
    assert negative
    for one, found in negative:
        start = f"| {one.number} {report.cell(one.title.partition(':')[0])} | {report.cell(found.name)} | "
        lines = [line for line in section.splitlines() if line.startswith(start)]
        assert len(lines) == 1, found.name
        assert lines[0].endswith(f": {found.verdict} |")
    for one in records:
        for found in one.rows:
            assert found.verdict != "not measured" or report.cell(f"{found.name} ({found.note})") in section


def test_marked_and_negative_rows_make_the_short_table() -> None:
    rows = (
        row("plain"),
        row("marked", headline=True),
        row("lost", "refuted", 0.5),
        row("unclear", "open", 1.0),
        row("gone", "not measured", ratio=1.0, note="no device", match=None, before_s=None, after_s=None),
    )
    rows = (*rows[:4], replace(rows[4], ratio=None, claim=""))
    text = report.findings([record(*rows)])
    assert table_names(text) == ["marked", "lost", "unclear"]
    assert "5 rows: 2 confirmed, 1 refuted, 1 open, 1 not measured." in text
    assert "Not measured: gone (no device)." in text


def test_without_a_mark_the_widest_effect_stands_for_the_experiment() -> None:
    rows = (row("small", ratio=1.5), row("slower by far", ratio=0.1), row("double"))
    assert table_names(report.findings([record(*rows)])) == ["slower by far"]
    nothing = Row("gpu", "not measured", "", note="no device")
    assert table_names(report.findings([record(nothing)])) == ["gpu"]


def test_the_full_table_shows_the_spread_beside_the_medians() -> None:
    text = report.full([record(row("a call"), row("a rate", work=10, unit="tok"))])
    assert (
        "| a call | 2 ms (1 ms to 4 ms) | 500 us (250 us to 1 ms) | 2x (1.8 to 2.2) | 7 |  | faster |" in text
    )
    assert "| a rate | 5,000 tok/s (2,500 to 10,000) | 20,000 tok/s (10,000 to 40,000) |" in text


def test_the_machine_stands_by_every_table() -> None:
    text = report.section(record(row("a")))
    for part in ("2026-01-02 03:04 UTC", "Some CPU", "avx2 fma", "2 cores", "Python 3.11.7", "NumPy 2.4.6"):
        assert part in text
    for part in ("Numba 0.68.1", "BLAS openblas 0.3.31, kernel Haswell", "threads used: 2"):
        assert part in text
    assert "load average before: 0.5, 0.6, 0.7" in text


def test_every_run_and_every_machine_is_named() -> None:
    other = MACHINE | {"blas_kernel": "SkylakeX", "load_average": None}
    busier = MACHINE | {"load_average": [1.5, 1.0, 1.0]}
    lines = report.provenance(
        [
            record(row("a"), number=1),
            record(row("a"), number=2, machine=busier, time="2026-01-02T03:20:00+00:00"),
            record(row("a"), number=3, machine=other),
            record(row("a"), number=4, time="2026-01-05T03:20:00+00:00"),
            record(row("a"), number=6, machine=MACHINE | {"threads": None}),
            record(row("a"), number=7, run="2026-01-02T03:00:00+00:00"),
        ]
    )
    assert [line.partition(" on ")[0] for line in lines] == [
        "Experiments 1 to 2: measured 2026-01-02 03:04 to 03:20 UTC",
        "Experiment 3: measured 2026-01-02 03:04 UTC",
        "Experiment 4: measured 2026-01-05 03:20 UTC",
        "Experiment 6: measured 2026-01-02 03:04 UTC",
        "Experiment 7: measured 2026-01-02 03:04 UTC",
    ]
    assert lines[0].endswith("threads used: 2; load average before: 0.5 to 1.5.")
    assert lines[1].endswith("kernel SkylakeX; threads used: 2; load average before: unknown.")
    assert "threads used: each backend its own choice" in lines[3]


def test_an_experiment_that_broke_off_says_so() -> None:
    cut = record(row("a"), incomplete="stopped by Ctrl+C")
    assert "Incomplete experiments: 99 e99 (stopped by Ctrl+C)." in report.findings([cut])
    assert "- Incomplete: stopped by Ctrl+C" in report.section(cut)
    assert "ncomplete" not in report.full([record(row("a"))])


def test_the_findings_fit_into_a_readme() -> None:
    text = report.findings([record(row("a|b"))])
    readme = f"before\n{report.BEGIN}\nold\n{report.END}\nafter\n"
    replaced = report.put_into(readme, text)
    assert "old" not in replaced
    assert report.put_into(replaced, text) == replaced
    assert replaced.startswith("before\n")
    assert replaced.endswith(f"{report.END}\nafter\n")
    assert "| a\\|b | 2 ms | 500 us | 2x (1.8 to 2.2) | match: identical | faster: confirmed |" in replaced
    for wrong in ("no markers", f"{report.END}\n{report.BEGIN}\n"):
        with pytest.raises(ValueError, match="markers"):
            report.put_into(wrong, text)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.8666, "0.867"),
        (1.0, "1"),
        (27.44, "27.4"),
        (100.4, "100"),
        (2034.9, "2,035"),
        (0.0000125, "0.0000125"),
        (1e-15, "0"),
    ],
)
def test_numbers_have_three_digits_and_no_exponent(value: float, text: str) -> None:
    assert report.number(value) == text


def test_what_the_machine_allows_stands_beside_what_was_reached() -> None:
    """40 tokens in 0.5 ms are 80,000 a second; in 0.2 ms, the least, 200,000."""
    limited = row("a", work=40, unit="tok", limit_s=0.0002, why="a cause")
    text = "a cause; reaches 0.40 of the 200,000 tok/s that the machine allows"
    assert report.reason(limited) == text
    assert text in report.section(record(limited))
    assert report.reason(row("b")) == ""
