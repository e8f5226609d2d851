"""Hostile templates end in a sentence, in bounded time, and reach nothing outside (faults, row 7)."""

from __future__ import annotations

import contextlib
import io
import os
import sys
import threading
import time
from typing import Any

import pytest
from jinja2.sandbox import ImmutableSandboxedEnvironment

from llama_core.errors import TemplateError
from llama_core.tokenizers.templates import chat_template
from llama_core.tokenizers.templates.chat_template import ChatTemplate
from llama_core.tokenizers.templates.child import render_in_child
from llama_core.tokenizers.templates.environment import LimitExceededError, chat_environment
from llama_core.tokenizers.templates.meter import Meter
from llama_core.tokenizers.templates.sandbox import metered_environment, prepare

MESSAGES = [{"role": "user", "content": "hello"}]
# The limit is 2.3 s of wall time; beside other tests the clock of a loaded machine is a poor judge.
HANG_S = 20.0

ESCAPES = [
    "{{ ''.__class__ }}",
    "{{ ''.__class__.__mro__[1].__subclasses__() }}",
    "{{ ''['__class__'] }}",
    "{{ ''['__cl' ~ 'ass__'] }}",
    "{{ ''|attr('__class__') }}",
    "{{ ''|attr('__cl' ~ 'ass__') }}",
    "{{ [].__class__.__base__ }}",
    "{{ {}.__class__.__init__.__globals__ }}",
    "{{ messages.__class__ }}",
    "{{ messages[0].__getattribute__('__class__') }}",
    "{{ messages.append('x') }}",
    "{{ messages[0].update({'role': 'system'}) }}",
    "{{ messages[0].clear() }}{{ messages.pop() }}",
    "{{ '{0.__class__}'.format('') }}",
    "{{ '{0.__class__.__mro__}'.format('')|upper }}",
    "{{ '{a.__class__}'.format_map({'a': ''}) }}",
    "{% set f = '{0.__class__}'.format %}{{ f('') }}",
    "{{ ['']|map('attr', '__class__')|list }}",
    "{{ ['']|map(attribute='__class__')|list }}",
    "{{ ['']|selectattr('__class__')|list }}",
    "{{ (''|attr)('format')('{0.__class__}', '') }}",
    "{{ ['{0.__class__}']|map('format', '')|list }}",
    "{{ raise_exception.__globals__ }}",
    "{{ strftime_now.__globals__['os'] }}",
    "{{ raise_exception.__code__.co_consts }}",
    "{{ range.__init__.__globals__ }}",
    "{{ namespace.__init__.__globals__ }}",
    "{{ cycler.__init__.__globals__.os.popen('id').read() }}",
    "{{ lipsum.__globals__['os'].popen('id').read() }}",
    "{{ joiner.__init__.__globals__ }}",
    "{{ self.__init__.__globals__ }}",
    "{{ self._TemplateReference__context.environment }}",
    "{{ loop }}{% for m in messages %}{{ loop.__class__.__init__.__globals__ }}{% endfor %}",
    "{% for m in messages %}{{ loop._iterator.gi_frame }}{% endfor %}",
    "{{ (messages|map('upper')).gi_frame.f_builtins }}",
    "{% macro m() %}{% endmacro %}{{ m.__call__.__globals__ }}",
    "{% macro m() %}{% endmacro %}{{ m._func.__globals__ }}",
    "{{ config }}{{ request.application.__globals__ }}{{ environment.loader }}",
    "{% include '/etc/passwd' %}",
    "{% extends '/etc/passwd' %}",
    "{% import 'os' as os %}{{ os.popen('id').read() }}",
    "{% from 'os' import system %}{{ system('id') }}",
]

BURNERS = [
    "{% for a in range(99999) %}" * 3 + "{% endfor %}" * 3,
    "{% set r = range(99999) %}" + "{% for a in r %}" * 3 + "{% endfor %}" * 3,
    "{% for a in range(99999) if range(99999)|select('odd')|list|length == 1 %}{% endfor %}",
    "{{ 'x' * 10**10 }}",
    "{{ [0] * 10**10 }}",
    "{{ 10 ** (10 ** 10) }}",
    "{{ 9**9**9 }}{% set x = 9**9**9 %}",
    "{{ 'x'.center(10**10) }}",
    "{{ 'x'|center(10**10) }}",
    "{{ '%10000000000d' % 7 }}",
    "{{ '{:10000000000}'.format(7) }}",
    "{{ 'x'.zfill(10**10) }}{{ 'x'.ljust(10**10) }}",
    "{{ 'a\tb'.expandtabs(10**10) }}",
    "{{ 'x\nx'|indent(10**10) }}",
    "{{ messages|tojson(indent=10**10) }}",
    "{{ range(10**10)|list }}{{ range(99999)|list|tojson }}",
    "{{ lipsum(n=1000000) }}",
    "{% set x = 'ab' %}" + "{% set x = x ~ x %}" * 60 + "{{ x }}",
    "{% set x = 'ab' %}" + "{% set x = x + x %}" * 60 + "{{ x }}",
    "{% set x = [1] %}" + "{% set x = x + x %}" * 60 + "{{ x }}",
    "{% set x = [1] %}" + "{% set x = [x, x, x, x] %}" * 40 + "{{ x }}",
    "{% set x = 7 %}" + "{% set x = x * x %}" * 60 + "{{ x }}",
    "{% set n = namespace(x=1) %}{% for i in range(99999) %}{% set n.x = n.x - (0 - n.x) %}{% endfor %}",
    "{% set n = namespace(x='a') %}{% for i in range(99999) %}{% set n.x = n.x ~ n.x %}{% endfor %}",
    "{% set n = namespace(x=1) %}{% for i in range(99999) %}{% set n.x = n.x + n.x %}{% endfor %}{{ n.x }}",
    "{% set n = namespace(x='') %}{% for i in range(99999) %}{% set n.x = [n.x, n] %}{% endfor %}{{ n }}",
    "{% set a = 'aaaaaaaa' %}" + "{% set a = a.replace('a', a) %}" * 9 + "{{ a }}",
    "{% set a = 'aaaaaaaa' %}" + "{% set a = a|replace('a', a) %}" * 9 + "{{ a }}",
    "{% set a = 'aaaaaaaa' %}" + "{% set a = a.join(a) %}" * 9 + "{{ a }}",
    "{% set a = 'aaaaaaaa' %}" + "{% set a = a|join(a) %}" * 9 + "{{ a }}",
    "{% set a %}"
    + "{{ 'x' ~ messages }}" * 900
    + "{% endset %}"
    + "{% set a %}{{ a }}{{ a }}{% endset %}" * 40,
    "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
    "{% macro f(n) %}{% if n %}{{ f(n - 1) }}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(99) }}",
    "{% for m in messages recursive %}{{ loop(messages) }}{{ loop(messages) }}{% endfor %}",
    "{% set s = 'x,' %}"
    + "{% set s = s ~ s %}" * 19
    + "{% for i in range(999) %}{% set y = s.split(',') %}{% endfor %}",
    "{% set s = 'xy' %}"
    + "{% set s = s ~ s %}" * 19
    + "{% for i in range(9999) %}{{ s|upper|length }}{% endfor %}",
    "{% macro f() %}{% for i in range(9999) %}{{ 'x' ~ messages }}{% endfor %}{% endmacro %}"
    + "{% for i in range(9999) %}" * 2
    + "{% set x = f() %}"
    + "{% endfor %}" * 2,
    "{{ messages|sort|unique|map('tojson')|join|list|batch(1)|list|pprint }}",
    "{{ range(99999)|sum ** 99999 ** 9 }}",
    "{{" + "(" * 5000,
    "{{ " + "1 + " * 5000 + "1 }}",
    "{{ " + "[" * 3000 + "]" * 3000 + " }}",
    "{% if a %}" * 3000 + "{% endif %}" * 3000,
    "{{ a" + ".a" * 9000 + " }}",
    "{{ x" + "|upper" * 5000 + " }}",
    "{#" * 16000,
    "{% raw %}" * 3000,
    "x" * 1_000_001,
    "{{ x }}" * 100_000,
]


def outcome(source: str) -> str:
    """What a template gives: its text, or the sentence of its TemplateError; no other exception passes."""
    try:
        return ChatTemplate(source, "<s>", "</s>").render(MESSAGES)
    except TemplateError as error:
        return str(error)


@pytest.mark.parametrize("source", ESCAPES)
def test_escapes_find_nothing(source: str) -> None:
    metered = metered_environment()
    metered.meter = Meter(10**6, HANG_S)
    for environment in (metered, chat_environment(ImmutableSandboxedEnvironment)):
        messages: list[Any] = [dict(m) for m in MESSAGES]
        try:
            if environment is metered:
                text = environment.from_string(prepare(metered, source)).render(messages=messages)
            else:
                text = environment.from_string(source).render(messages=messages)
        except Exception as error:  # noqa: BLE001 - any refusal will do; what matters is that it is one
            text = type(error).__name__
        assert "class '" not in text
        assert "module" not in text
        assert "uid=" not in text
        assert "root:" not in text
        assert "frame" not in text
        assert messages == MESSAGES


@pytest.mark.parametrize("source", BURNERS, ids=lambda source: source[:40])
def test_burners_end(source: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # The limits hold at any length; shorter ones keep the test run short.
    monkeypatch.setattr(chat_template, "METERED_S", 0.3)
    monkeypatch.setattr(chat_template, "TOTAL_S", 0.8)
    start = time.monotonic()
    outcome(source)
    assert time.monotonic() - start < HANG_S


def test_waiting_for_a_busy_machine_is_not_held_against_a_template() -> None:
    meter = Meter(10**6, 0.02)
    time.sleep(0.05)
    assert meter.spend(1)
    computed = time.thread_time() + 0.02
    while time.thread_time() < computed:
        pass
    with pytest.raises(LimitExceededError, match="takes too long"):
        meter.spend(1)


def test_turns_that_a_loop_skips_count_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chat_template, "METERED_S", 0.3)
    source = "{% set r = range(99999) %}" + "{% for a in r if false %}{% endfor %}" * 300
    assert outcome(source) == "The model's chat template was stopped: it takes too long."


def test_what_cannot_be_counted_runs_in_a_child(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chat_template, "TOTAL_S", HANG_S)
    template = ChatTemplate("{{ 'x'.center(9, '-') }}{{ 'y' * 3 }}{{ messages[0].content|indent(2, true) }}")
    assert template.render(MESSAGES) == "----x----yyy  hello"
    assert template._compiled == "child"
    assert template.render(MESSAGES) == "----x----yyy  hello"


def test_a_child_gives_the_template_own_refusal() -> None:
    with pytest.raises(TemplateError, match=r"refuses this conversation: no «system» please$"):
        render_in_child("{{ raise_exception('no «system» please') }}", {}, HANG_S)


def test_a_child_that_never_ends_is_ended() -> None:
    source = "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}"
    with pytest.raises(TemplateError, match="too long or needs too much memory"):
        render_in_child(source, {}, 0.5)


def test_a_child_cannot_take_all_memory() -> None:
    with pytest.raises(TemplateError, match="template needs too much memory"):
        render_in_child("{% set x = 'x' * 2**31 %}{{ x|length }}", {}, HANG_S)


@pytest.mark.parametrize("fileno", [lambda: -1, io.StringIO().fileno])
def test_a_child_starts_under_a_full_screen_app(fileno: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    # Textual replaces the standard streams by objects without a usable file descriptor.
    for name in ("stdin", "stdout", "stderr"):
        stream = io.StringIO()
        stream.fileno = fileno  # type: ignore[method-assign]
        monkeypatch.setattr(sys, name, stream)
    assert render_in_child("{{ 'a' * 2 }}", {}, HANG_S) == "aa"


def test_a_child_sees_no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONSTARTUP", "/nowhere")
    monkeypatch.setenv("PYTHONPATH", os.fspath("/nowhere"))
    assert render_in_child("{{ 'b' * 2 }}", {}, HANG_S) == "bb"


def test_no_child_is_left_behind() -> None:
    import psutil

    def left() -> set[object]:
        timers = [t for t in threading.enumerate() if isinstance(t, threading.Timer)]
        children = psutil.Process().children()
        return {*(child.pid for child in children), *(t for t in timers if not t.finished.is_set())}

    before = left()  # pytest's own timer among them
    for timeout_s in (HANG_S, 0.01):
        outcome_of_child(timeout_s)
    assert left() <= before


def outcome_of_child(timeout_s: float) -> str:
    try:
        return render_in_child("{{ 'c' * 2 }}", {}, timeout_s)
    except TemplateError as error:
        return str(error)


def test_threads_share_a_template() -> None:
    template = ChatTemplate(
        "{% for m in messages %}{{ m.content * 1 if false else m.content ~ m.role }}{% endfor %}"
    )
    results: dict[int, str] = {}

    def work(number: int) -> None:
        for _ in range(50):
            results[number] = template.render([{"role": "user", "content": str(number)}])

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == {number: f"{number}user" for number in range(4)}


def test_a_long_conversation_stays_within_the_budget() -> None:
    # 2,000 turns of 2,000 characters: far more than any context holds.
    source = "{% for m in messages %}{{ '<|' ~ m.role ~ '|>' + m.content|trim + '\n' }}{% endfor %}"
    messages = [{"role": "user", "content": "word " * 400} for _ in range(2000)]
    assert len(ChatTemplate(source).render(messages)) == 2000 * (9 + 1999)


@pytest.mark.parametrize("name", ["select", "reject", "map"])
def test_filters_that_test_each_element_against_a_large_value_run_in_a_child(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chat_template, "TOTAL_S", 0.8)
    how = "'default', x" if name == "map" else "'in', x"
    source = "{% set x = 'ab' %}" + "{% set x = x ~ x %}" * 15
    template = ChatTemplate(source + f"{{{{ range(9999)|map('string')|{name}({how})|list|length }}}}")
    start = time.monotonic()
    with contextlib.suppress(TemplateError):
        template.render(MESSAGES)
    assert template._compiled == "child"
    assert time.monotonic() - start < HANG_S


def test_the_output_is_bounded_by_the_messages() -> None:
    with pytest.raises(TemplateError, match="too much text: 200,000 characters from 9 of messages"):
        ChatTemplate("{% set x = 'x' %}{{ 'ab' * 100000 }}").render(MESSAGES)


def test_the_limits_are_what_the_bar_needs() -> None:
    assert chat_template.METERED_S < chat_template.TOTAL_S < 2.5
