"""What was computed over time, from the timings that stand with the replies."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass, fields

from chat_app.store.records import unpack_text
from chat_app.text.formatting import rate
from chat_app.text.sanitize import clean_line

MODEL_WIDTH = 40


@dataclass(frozen=True, slots=True)
class Usage:
    """One model in one month (`2026-11`; UTC): chats, replies, tokens and seconds.

    read_n: tokens of prompts that were computed; reused_n: those that the cache held already; written_n:
    those of replies. The seconds are of fewer tokens, `timed_read_n` and `timed_written_n`: a server may tell
    no time for a prompt, and a reply's first token counts to its prompt.
    """

    month: str
    model: str
    chats: int
    replies: int
    read_n: int
    reused_n: int
    written_n: int
    read_s: float
    written_s: float
    timed_read_n: int
    timed_written_n: int


def usage_by_month(connection: sqlite3.Connection) -> list[Usage]:
    """Every month with every model, the latest first. Replies without timings count as replies.
    sqlite3.Error."""
    # A column that is no JSON counts as empty: a damaged file must still tell the rest.
    rows = connection.execute(
        """
        WITH reply AS (
            SELECT substr(message.time, 1, 7) AS month,
                coalesce(nullif(message.model, ''), chat.model) AS model,
                message.chat_id AS chat_id,
                CASE WHEN json_valid(message.timings) THEN message.timings ELSE '{}' END AS timings
            FROM message LEFT JOIN chat ON chat.id = message.chat_id
            WHERE message.role = 'assistant'
        )
        SELECT month, model, count(DISTINCT chat_id), count(*),
            total(json_extract(timings, '$.prompt_n')), total(json_extract(timings, '$.cache_n')),
            total(json_extract(timings, '$.predicted_n')),
            total(json_extract(timings, '$.prompt_ms')) / 1000,
            total(json_extract(timings, '$.predicted_ms')) / 1000,
            total(CASE WHEN json_extract(timings, '$.prompt_ms') > 0
                THEN json_extract(timings, '$.prompt_n') END),
            total(CASE WHEN json_extract(timings, '$.predicted_ms') > 0
                THEN json_extract(timings, '$.predicted_n') - 1 END)
        FROM reply GROUP BY month, model ORDER BY month DESC, count(*) DESC, model
        """
    )
    return [
        Usage(
            unpack_text(month),
            unpack_text(model),
            chats,
            replies,
            int(read),
            int(reused),
            int(written),
            read_s,
            written_s,
            int(timed_read),
            int(timed_written),
        )
        for (
            month,
            model,
            chats,
            replies,
            read,
            reused,
            written,
            read_s,
            written_s,
            timed_read,
            timed_written,
        ) in rows
    ]


def usage_table(usage: list[Usage]) -> str:
    """The months as a table in plain text, with a last line that sums them up; a sentence where there is
    nothing."""
    if not usage:
        return "Nothing was said yet."
    rows = [(one.month, one.model, one) for one in usage]
    rows.append(("all", "", _sum_of(usage)))
    width = max(5, *(len(clean_line(model, MODEL_WIDTH)) for _, model, _ in rows))
    head = f"{'month':<7}  {'model':<{width}}  chats  replies  tokens written  tok/s     read  tok/s   reused"
    lines = [head]
    for month, model, one in rows:
        written, read = _rate(one.timed_written_n, one.written_s), _rate(one.timed_read_n, one.read_s)
        lines.append(
            f"{month:<7}  {clean_line(model, MODEL_WIDTH):<{width}}  {one.chats:>5,}  {one.replies:>7,}  "
            f"{one.written_n:>14,}  {written:>5}  {one.read_n:>7,}  {read:>5}  {one.reused_n:>7,}"
        )
    return "\n".join(lines)


def _sum_of(usage: list[Usage]) -> Usage:
    """All of it. A chat that was held over several months or with several models counts in each."""
    numbers = [name.name for name in fields(Usage)[2:]]
    return Usage("all", "", *(sum(getattr(one, name) for one in usage) for name in numbers))


def _rate(n: int, seconds: float) -> str:
    return rate(n / seconds if seconds > 0 else None)
