"""Hostile templates end in a sentence, in bounded time, and reach nothing outside (faults, row 7)."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import psutil
import pytest

from llama_core.errors import TemplateError
from llama_core.own_code import module_environment
from llama_core.tokenizers.templates import worker as worker_module
from llama_core.tokenizers.templates.chat_template import ChatTemplate
from llama_core.tokenizers.templates.environment import chat_environment
from llama_core.tokenizers.templates.worker import TemplateWorker

MESSAGES = [{"role": "user", "content": "hello"}]
# The clock of a loaded machine is a poor judge: the bar is 2.5 s on an idle one.
HANG_S = 20.0
ENDLESS = "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}"
POSIX = pytest.mark.skipif(sys.platform == "win32", reason="Windows has neither these signals nor limits")

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


@pytest.fixture(scope="module")
def impatient() -> Iterator[TemplateWorker]:
    """A worker of whose limits a test need not wait for the end."""
    worker = TemplateWorker(cpu_s=0.15)
    yield worker
    worker.close()


@pytest.fixture
def worker() -> Iterator[TemplateWorker]:
    """One of the test's own."""
    worker = TemplateWorker()
    yield worker
    worker.close()


def render(worker: TemplateWorker, source: str, messages: Any = MESSAGES) -> str:
    return ChatTemplate(source, "<s>", "</s>", worker).render(messages)


def becomes_true(condition: Callable[[], bool]) -> bool:
    end = time.monotonic() + HANG_S
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.01)
    return True


def gone(pid: int) -> bool:
    return not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE


@pytest.mark.parametrize("source", ESCAPES)
def test_escapes_find_nothing(source: str) -> None:
    messages: list[Any] = [dict(m) for m in MESSAGES]
    try:
        text = chat_environment().from_string(source).render(messages=messages)
    except Exception as error:  # noqa: BLE001 - any refusal will do; what matters is that it is one
        text = type(error).__name__
    for found in ("class '", "module", "uid=", "root:", "frame"):
        assert found not in text
    assert messages == MESSAGES


@pytest.mark.parametrize("source", BURNERS, ids=lambda source: source[:40])
def test_burners_end(source: str, impatient: TemplateWorker) -> None:
    start = time.monotonic()
    try:
        text = render(impatient, source)
    except TemplateError as error:
        text = str(error)
    assert len(text) < 100_100
    assert time.monotonic() - start < HANG_S


def test_the_limits_are_what_the_bar_needs() -> None:
    start_s = 0.5
    assert worker_module.CPU_S + start_s < 2.5


@POSIX
def test_a_template_that_never_ends_is_ended(impatient: TemplateWorker) -> None:
    assert render(impatient, "a") == "a"
    before = impatient.pid
    with pytest.raises(TemplateError, match="takes too long: over"):
        render(impatient, ENDLESS)
    assert before is not None
    assert gone(before)
    assert render(impatient, "b") == "b"


@POSIX
@pytest.mark.parametrize("how", ["ignored", "blocked"])
def test_the_limit_holds_whatever_signals_the_parent_ignores(how: str) -> None:
    worker = TemplateWorker(cpu_s=0.15)
    if how == "ignored":
        old = signal.signal(signal.SIGPROF, signal.SIG_IGN)
    else:
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGPROF])
    try:
        worker.start()
    finally:
        if how == "ignored":
            signal.signal(signal.SIGPROF, old)
        else:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGPROF])
    with pytest.raises(TemplateError, match="takes too long: over"):
        render(worker, ENDLESS)
    worker.close()


@POSIX
def test_waiting_for_a_busy_machine_is_not_held_against_a_template() -> None:
    worker = TemplateWorker(cpu_s=0.2)
    render(worker, "a")
    assert worker.pid is not None
    process = psutil.Process(worker.pid)
    process.suspend()
    timer = threading.Timer(0.6, process.resume)
    timer.start()
    start = time.monotonic()
    assert render(worker, "{{ 'b' * 3 }}") == "bbb"
    assert time.monotonic() - start > 0.2
    worker.close()


@POSIX
def test_a_worker_that_gets_no_processor_is_given_up() -> None:
    worker = TemplateWorker(wall_s=0.5)
    render(worker, "a")
    assert worker.pid is not None
    psutil.Process(worker.pid).suspend()
    with pytest.raises(TemplateError, match=r"not rendered within 0\.5 s"):
        render(worker, "b")
    assert worker.pid is None


@POSIX
def test_the_terminal_s_signals_do_not_reach_it(worker: TemplateWorker) -> None:
    render(worker, "a")
    assert worker.pid is not None
    assert os.getpgid(worker.pid) != os.getpgid(0)


@pytest.mark.skipif(sys.platform != "linux", reason="Linux lists a process's files")
def test_nothing_it_says_reaches_the_terminal(worker: TemplateWorker) -> None:
    render(worker, "a")
    assert os.readlink(f"/proc/{worker.pid}/fd/2") == os.devnull


def test_the_process_is_kept(worker: TemplateWorker) -> None:
    render(worker, "a")
    before = worker.pid
    for source in ("{{ 'x' * 2 }}", "{{ raise_exception('no') }}", "{{", "{{ messages[0].content|indent }}"):
        try:
            render(worker, source)
        except TemplateError:
            continue
    assert worker.pid == before


@POSIX
def test_a_killed_process_is_replaced(worker: TemplateWorker) -> None:
    assert render(worker, "a") == "a"
    for _ in range(3):
        assert worker.pid is not None
        os.kill(worker.pid, signal.SIGKILL)
        assert render(worker, "b") == "b"


@POSIX
def test_a_process_killed_in_the_middle_is_replaced(worker: TemplateWorker) -> None:
    render(worker, "a")
    pid = worker.pid
    assert pid is not None
    psutil.Process(pid).suspend()  # so that the kill meets it before it answers
    threading.Timer(0.2, os.kill, (pid, signal.SIGKILL)).start()
    assert render(worker, "b") == "b"
    assert worker.pid != pid


def test_a_program_that_cannot_run_is_said(worker: TemplateWorker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        worker_module, "module_command", lambda *_: [sys.executable, "-c", "raise SystemExit(3)"]
    )
    with pytest.raises(TemplateError, match="ended twice before it answered"):
        render(worker, "a")
    monkeypatch.setattr(worker_module, "module_command", lambda *_: ["/nowhere/python"])
    with pytest.raises(TemplateError, match="needs a helper process"):
        render(worker, "a")
    monkeypatch.undo()
    assert render(worker, "a") == "a"


@POSIX
def test_no_process_outlives_its_parent() -> None:
    program = (
        "import sys, time\n"
        "from llama_core.tokenizers.templates.worker import SHARED\n"
        "SHARED.render('a', {}, 10)\n"
        "print(SHARED.pid, flush=True)\n"
        "time.sleep(600)\n"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, env=module_environment(), text=True
    )
    with parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        assert psutil.pid_exists(pid)
        parent.kill()
    assert becomes_true(lambda: gone(pid))


def test_closing_leaves_no_process_and_no_timer(worker: TemplateWorker) -> None:
    before = set(threading.enumerate())
    render(worker, "a")
    pid = worker.pid
    worker.close()
    assert worker.pid is None
    assert pid is not None
    assert gone(pid)
    assert becomes_true(lambda: set(threading.enumerate()) <= before)


@POSIX
def test_an_interrupted_rendering_leaves_no_stray_answer(worker: TemplateWorker) -> None:
    class Interrupt(BaseException):
        pass

    def interrupt(*_: object) -> None:
        raise Interrupt

    render(worker, "a")
    old = signal.signal(signal.SIGALRM, interrupt)
    signal.setitimer(signal.ITIMER_REAL, 0.1)
    try:
        with pytest.raises(Interrupt):
            render(worker, ENDLESS)
    finally:
        signal.signal(signal.SIGALRM, old)
    assert render(worker, "b") == "b"


@pytest.mark.parametrize("fileno", [lambda: -1, io.StringIO().fileno])
def test_it_starts_under_a_full_screen_app(
    fileno: Any, worker: TemplateWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Textual replaces the standard streams by objects without a usable file descriptor.
    for name in ("stdin", "stdout", "stderr"):
        stream = io.StringIO()
        stream.fileno = fileno  # type: ignore[method-assign]
        monkeypatch.setattr(sys, name, stream)
    assert render(worker, "{{ 'a' * 2 }}") == "aa"


def test_it_runs_no_module_of_the_folder_it_is_started_in(
    worker: TemplateWorker, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("json", "jinja2", "llama_core", "sitecustomize"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit(1)")
    monkeypatch.chdir(tmp_path)
    assert render(worker, "{{ 'b' * 2 }}") == "bb"


@POSIX
def test_it_cannot_take_all_memory(worker: TemplateWorker) -> None:
    render(worker, "a")
    before = worker.pid
    with pytest.raises(TemplateError, match="needs too much memory"):
        render(worker, "{% set x = 'x' * 2**31 %}{{ x|length }}")
    assert render(worker, "b") == "b"
    assert worker.pid != before  # what took so much is not kept


def test_a_refusal_keeps_the_template_own_words(worker: TemplateWorker) -> None:
    with pytest.raises(TemplateError, match=r"refuses this conversation: no «system» please$"):
        render(worker, "{{ raise_exception('no «system» please') }}")


def test_no_text_breaks_the_exchange(worker: TemplateWorker) -> None:
    for content in ("a\nb\r\u2028c", '"}\n{"text": "x"}', "\udfff\ud800\x00\x1b[2J", "ü" * 300_000):
        messages = [{"role": "user", "content": content}]
        assert render(worker, "{{ messages[0].content }}", messages) == content


def test_threads_share_a_template(worker: TemplateWorker) -> None:
    template = ChatTemplate("{% for m in messages %}{{ m.content ~ m.role }}{% endfor %}", worker=worker)
    results: dict[int, set[str]] = {number: set() for number in range(4)}

    def work(number: int) -> None:
        for _ in range(50):
            results[number].add(template.render([{"role": "user", "content": str(number)}]))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == {number: {f"{number}user"} for number in range(4)}


def test_a_long_conversation_stays_within_the_limits(worker: TemplateWorker) -> None:
    # 2,000 turns of 2,000 characters: far more than any context holds.
    source = "{% for m in messages %}{{ '<|' ~ m.role ~ '|>' + m.content|trim + '\n' }}{% endfor %}"
    messages = [{"role": "user", "content": "word " * 400} for _ in range(2000)]
    assert len(render(worker, source, messages)) == 2000 * (9 + 1999)


def test_the_output_is_bounded_by_the_messages(worker: TemplateWorker) -> None:
    with pytest.raises(TemplateError, match=r"too much text, over 100,\d\d\d characters"):
        render(worker, "{% set x = 'x' %}{{ 'ab' * 100000 }}")
