"""`llama-chat batch`: what a line may say, and what its result says."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from chat_app.batch.format import BadLine, parse_job
from chat_app.batch.identity import request_sha256
from tests.support.batch_lines import CHAT, COMPLETION, by_id, errors, line, read, text_of, write

RunCli = Callable[..., Any]


def parsed(one: dict[str, Any]) -> Any:
    return parse_job(json.dumps(one).encode()).asked


def test_each_line_is_answered_in_the_format_of_the_service(
    batch: RunCli, main: RunCli, tiny_model: Path, tmp_path: Path
) -> None:
    source = write(
        tmp_path / "in.jsonl",
        [
            line("a"),
            line("b", COMPLETION),
            line("parts", messages=[{"role": "user", "content": [{"type": "text", "text": "Say a"}]}]),
            line("ids", COMPLETION, prompt=[40, 41, 42]),
            line("limit", max_completion_tokens=3.0, max_tokens=None, ignore_eos=None),
        ],
    )
    ran = batch(source, tmp_path / "out.jsonl")
    assert ran.code == 0, ran.err
    found = by_id(tmp_path / "out.jsonl")
    assert set(found) == {"a", "b", "parts", "ids", "limit"}
    for record in found.values():
        assert record["error"] is None
        assert record["response"]["status_code"] == 200
        assert set(record) == {"id", "custom_id", "response", "error", "x"}
        body = record["response"]["body"]
        assert body["model"] == tiny_model.name
        assert body["choices"][0]["finish_reason"] == "length"
        usage = body["usage"]
        assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"]
    assert found["a"]["response"]["body"]["object"] == "chat.completion"
    assert found["b"]["response"]["body"]["object"] == "text_completion"
    assert found["limit"]["response"]["body"]["usage"]["completion_tokens"] == 3
    assert found["ids"]["response"]["body"]["usage"]["prompt_tokens"] == 3
    alone = json.loads(
        main(
            "-p", "Say a", "-m", str(tiny_model), "--backend", "numpy", "--output", "json", "--no-save",
            "-o", "temperature", "0", "-o", "num_predict", "6",
        ).out
    )  # fmt: skip
    assert alone["ids"]
    assert text_of(found["a"]).startswith(alone["text"])  # alone, an end token may end it earlier
    assert text_of(found["parts"]) == text_of(found["a"])


def test_a_stop_string_ends_a_reply_and_is_no_part_of_it(batch: RunCli, tmp_path: Path) -> None:
    write(tmp_path / "in.jsonl", [line("whole", max_tokens=12)])
    batch(tmp_path / "in.jsonl", tmp_path / "out.jsonl")
    whole = text_of(by_id(tmp_path / "out.jsonl")["whole"])
    stop = next(character for character in whole[2:] if character not in whole[:2] and character != "\ufffd")
    write(tmp_path / "in2.jsonl", [line("whole", max_tokens=12, stop=stop)])
    assert batch(tmp_path / "in2.jsonl", tmp_path / "out2.jsonl").code == 0
    record = by_id(tmp_path / "out2.jsonl")["whole"]
    assert text_of(record) == whole[: whole.index(stop)]
    assert record["response"]["body"]["choices"][0]["finish_reason"] == "stop"


# (line, code, param)
BAD_LINES = [
    ("not json", "invalid_json_line", None),
    ("[1, 2]", "invalid_json_line", None),
    ('"text"', "invalid_json_line", None),
    ("[" * 100_000, "invalid_json_line", None),
    ("{}", "missing_required_parameter", "custom_id"),
    ('{"custom_id": 7}', "invalid_type", "custom_id"),
    (line("m") | {"method": "GET"}, "invalid_value", "method"),
    (line("u") | {"url": "/v1/embeddings"}, "invalid_value", "url"),
    (line("b") | {"body": None}, "missing_required_parameter", "body"),
    (line("t", temperature="hot"), "invalid_type", "body.temperature"),
    (line("t2", temperature=-1), "invalid_value", "body"),
    (line("rp", repetition_penalty=1e-300), "invalid_value", "body"),
    (line("t3", temperature=True), "invalid_type", "body.temperature"),
    (line("t4", temperature=10**400), "invalid_value", "body.temperature"),
    (line("mt", max_tokens=3.5), "invalid_type", "body.max_tokens"),
    (line("eos", ignore_eos=1), "invalid_type", "body.ignore_eos"),
    (line("s", stop=[""]), "invalid_value", "body"),
    (line("s2", stop=False), "invalid_type", "body.stop"),
    (line("seed", seed=1 << 64), "invalid_value", "body"),
    (line("top_p", top_p=1.1), "invalid_value", "body"),
    (line("presence", presence_penalty=3), "invalid_value", "body"),
    (line("frequency", frequency_penalty="no"), "invalid_type", "body.frequency_penalty"),
    (
        line("calls", messages=[{"role": "assistant", "content": "", "tool_calls": [{"id": "1"}]}]),
        "invalid_type",
        "body.messages[0].tool_calls[0]",
    ),
    (
        line("call", messages=[{"role": "assistant", "content": None, "function_call": {"name": "f"}}]),
        "unsupported_value",
        "body.messages[0].function_call",
    ),
    (
        line("audio", messages=[{"role": "user", "content": "x", "audio": {"id": "1"}}]),
        "unsupported_value",
        "body.messages[0].audio",
    ),
    (
        line("name", messages=[{"role": "user", "content": "x", "name": 1}]),
        "invalid_type",
        "body.messages[0].name",
    ),
    (line("n", n=2), "unsupported_value", "body.n"),
    (
        line("tools", tools=[{"type": "function"}]),
        "missing_required_parameter",
        "body.tools[0].function.name",
    ),
    (line("x", surprise=1), "unknown_parameter", "body"),
    (line("msg", messages=[]), "missing_required_parameter", "body.messages"),
    (line("role", messages=[{"role": "narrator", "content": "x"}]), "invalid_value", "body.messages[0]"),
    (
        line("img", messages=[{"role": "user", "content": [{"type": "image_url"}]}]),
        "invalid_type",
        "body.messages[0].content",
    ),
    (line("p", COMPLETION, prompt=["a", "b"]), "invalid_type", "body.prompt"),
    (line("good0"), "duplicate_custom_id", "custom_id"),
]


def test_bad_lines_are_reported_and_stop_nothing(batch: RunCli, tmp_path: Path) -> None:
    bad = [one for one, _, _ in BAD_LINES]
    lines = [line("good0"), *bad, "", line("good1", n=1, logit_bias={}, frequency_penalty=0.0)]
    source = write(tmp_path / "in.jsonl", lines)
    out = tmp_path / "out.jsonl"
    ran = batch(source, out)
    assert ran.code == 1
    assert f"{len(BAD_LINES)} of {len(BAD_LINES) + 2} lines failed" in ran.err
    records = read(out)
    answered = [record["custom_id"] for record in records if record["error"] is None]
    assert sorted(answered) == ["good0", "good1"]
    found = {error["line"]: error for error in errors(out)}
    assert sorted(found) == list(range(2, 2 + len(BAD_LINES)))
    for number, (_, code, param) in enumerate(BAD_LINES, start=2):
        error = found[number]
        assert error["message"].startswith(f"line {number}: ")
        assert (error["code"], error["param"]) == (code, param), error["message"]
        assert error["type"] == "invalid_request_error"
    before = out.read_bytes()
    again = batch(source, out)
    assert again.code == 1
    assert "nothing to do" in again.err
    assert out.read_bytes() == before


def test_a_whole_number_may_be_written_with_a_point() -> None:
    given = parsed(line("a", max_tokens=3.0, top_k=4e1, seed=7.0, n=1.0, logprobs=0.0))
    assert (given.params.max_tokens, given.params.top_k, given.params.seed) == (3, 40, 7)
    assert type(given.params.max_tokens) is int
    with pytest.raises(BadLine, match=r"body\.top_k is 0\.5, expected a whole number"):
        parsed(line("a", top_k=0.5))


@pytest.mark.parametrize("sign", ["", "-"])
def test_a_number_of_thousands_of_digits_is_told_with_its_custom_id(sign: str) -> None:
    text = json.dumps(line("long")).replace('"temperature": 0', f'"temperature": {sign}1{"0" * 5000}')
    with pytest.raises(BadLine, match=r"^it holds a number of 5,001 digits, the limit is 600$") as caught:
        parse_job(text.encode())
    assert caught.value.custom_id == "long"
    assert caught.value.request_sha256 == ""  # not that of the same request with another number


def test_null_stands_for_the_default() -> None:
    names = ["temperature", "top_p", "top_k", "min_p", "repetition_penalty", "seed", "stop", "max_tokens"]
    names += ["max_completion_tokens", "ignore_eos"]
    plain = line("a")
    for name in names:
        plain["body"].pop(name, None)
    nulls = plain | {"body": plain["body"] | dict.fromkeys(names)}
    assert parsed(nulls).params == parsed(plain).params


def test_null_asks_for_nothing_under_any_name() -> None:
    nulls = dict.fromkeys(["audio", "reasoning_effort", "logit_bias", "tools", "a name of tomorrow"])
    empty = dict.fromkeys(["tool_calls", "refusal", "function_call"]) | {"annotations": []}
    messages = [{"role": "user", "content": "Say hi"} | empty, {"role": "assistant", "content": "hi"}]
    given = parsed(line("a", messages=messages, **nulls))
    assert given.params == parsed(line("a")).params
    assert given.messages == tuple({"role": m["role"], "content": m["content"]} for m in messages)


def test_openai_s_ranges_are_taken() -> None:
    given = parsed(
        line("a", top_p=0, seed=-1, presence_penalty=-2, frequency_penalty=2, temperature=2)
    ).params
    assert (given.top_p, given.seed, given.temperature) == (0.0, -1, 2.0)
    assert (given.presence_penalty, given.frequency_penalty) == (-2.0, 2.0)
    assert parsed(line("a", seed=-(1 << 63))).params.seed == -(1 << 63)


def test_a_name_of_a_speaker_reaches_the_template() -> None:
    messages = [{"role": "user", "content": "x", "name": "Ann"}]
    assert parsed(line("a", messages=messages)).messages == tuple(messages)


def test_two_ways_to_write_a_request_are_one_request() -> None:
    one = b'{"custom_id": "a", "url": "/v1/completions", "body": {"prompt": "x\\u00e9", "max_tokens": 3}}'
    same = b'{"url":"/v1/completions","body":{"max_tokens":3.0,"prompt":"x\xc3\xa9"},"custom_id":"b"}'
    other = one.replace(b'"x', b'"y')
    assert parse_job(one).request_sha256 == parse_job(same).request_sha256
    assert parse_job(one).request_sha256 != parse_job(other).request_sha256
    assert request_sha256({"url": COMPLETION, "body": 1}) != request_sha256({"url": CHAT, "body": 1})


def test_an_input_without_requests_is_told_and_no_failure(
    batch: RunCli, no_engine: None, tmp_path: Path
) -> None:
    for content in ("", "\n  \n"):
        source, out = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
        source.write_text(content)
        ran = batch(source, out)
        assert ran.code == 0
        assert "has no requests" in ran.err
        assert out.read_bytes() == b""
