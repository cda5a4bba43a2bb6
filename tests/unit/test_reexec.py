"""A new program in the same process: nothing secret in its arguments, nothing lost on the way."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable
from dataclasses import asdict, replace
from itertools import chain
from pathlib import Path

import hypothesis
import pytest
from hypothesis import strategies as st
from support_shared import child

from rsq.supervisor import early, given, tried
from rsq.supervisor.early import SIGNALS
from rsq.supervisor.given import Given
from rsq.supervisor.reexec import VARIABLE, Legacy, again, command, inherited
from rsq.supervisor.shell import Doorbell

URL = "redis://:s3cret@h/0"
LEGACY = Legacy(
    ["s", "g", "i"], 3, [4, 5], -1, {"0": [100, 6]}, {"exporter": [101, 7]}, 2, {"NOTIFY_SOCKET": "/n"}
)


@pytest.fixture
def clean(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    for name in ("RSQ_REDIS", "RSQ_REDIS_FILE", VARIABLE):
        monkeypatch.delenv(name, raising=False)
    return monkeypatch


def _give(monkeypatch: pytest.MonkeyPatch, *words: str, directory: str = "/") -> None:
    taken = Given(sys.executable, words, dict(os.environ), {}, directory)
    monkeypatch.setattr(given, "_taken", [taken])


def _command(monkeypatch: pytest.MonkeyPatch, *words: str) -> tuple[list[str], dict[str, str]]:
    _give(monkeypatch, "-m", "rsq.supervisor.cli", *words)
    arguments, environment = command()
    assert arguments[:3] == [sys.executable, "-m", "rsq.supervisor.cli"]
    return arguments[3:], environment


@pytest.mark.parametrize("words", [("--redis", URL), (f"--redis={URL}",)])
def test_the_url_goes_into_the_environment(clean: pytest.MonkeyPatch, words: tuple[str, ...]) -> None:
    arguments, environment = _command(clean, "--workers", "2", *words, "app:handle")
    assert arguments == ["--workers", "2", "app:handle"]
    assert environment["RSQ_REDIS"] == URL


def test_other_options_stay_as_they_are(clean: pytest.MonkeyPatch) -> None:
    given_ = ["--redis-file", "/etc/rsq/url", "--stream=orders", "app:handle"]
    arguments, environment = _command(clean, *given_)
    assert arguments == given_
    assert "RSQ_REDIS" not in environment


def test_a_url_in_the_arguments_still_has_more_weight_than_a_file_in_the_environment(
    clean: pytest.MonkeyPatch,
) -> None:
    """In the environment both would be equals, which is an error."""
    clean.setenv("RSQ_REDIS_FILE", "/etc/rsq/url")
    _, environment = _command(clean, "--redis", URL)
    assert "RSQ_REDIS_FILE" not in environment
    _, environment = _command(clean, "app:handle")
    assert environment["RSQ_REDIS_FILE"] == "/etc/rsq/url"


def test_more_arguments_come_last(clean: pytest.MonkeyPatch) -> None:
    _give(clean, "rsq-supervisor", "app:handle")
    assert command("--check")[0] == [sys.executable, "rsq-supervisor", "app:handle", "--check"]


WORDS = st.sampled_from(
    [["--redis", URL], [f"--redis={URL}"], ["--stream", "orders"], ["--no-preload"], ["app:handle"]]
)


@hypothesis.given(st.lists(WORDS), st.sampled_from([[], ["--redis"]]))
def test_the_url_never_is_in_the_arguments(words: list[list[str]], cut_off: list[str]) -> None:
    with pytest.MonkeyPatch.context() as patched:
        _give(patched, *chain.from_iterable(words), *cut_off)
        arguments, _ = command()
    assert "s3cret" not in " ".join(arguments)


def test_what_is_left_is_found_once(clean: pytest.MonkeyPatch) -> None:
    clean.setattr(os, "set_inheritable", lambda fd, inheritable: None)
    clean.setenv(VARIABLE, json.dumps(asdict(LEGACY)))
    assert inherited() == LEGACY
    assert inherited() is None
    assert VARIABLE not in os.environ


def test_what_is_left_names_every_descriptor_that_must_stay_open() -> None:
    assert sorted(LEGACY.fds) == [3, 4, 5, 6, 7]


def test_descriptors_are_not_inherited_any_further(clean: pytest.MonkeyPatch) -> None:
    """Else each program that a handler starts would keep the pool's lock when its master is gone."""
    reader, writer = os.pipe()
    os.set_inheritable(reader, True)
    left = Legacy(["s", "g", "i"], reader, [], -1, {}, {}, 0, {})
    clean.setenv(VARIABLE, json.dumps(asdict(left)))
    inherited()
    assert not os.get_inheritable(reader)
    os.close(reader)
    os.close(writer)


def test_a_trial_refuses_another_pool(clean: pytest.MonkeyPatch) -> None:
    mine = ["s", "g", "i", "localhost:6379/0", "/run/rsq"]
    clean.setattr(tried, "_trial", {"pool": mine})
    tried.refuse_other_pool(mine)
    for at, name in enumerate(("stream", "group", "instance", "server", "runtime directory")):
        other = [*mine[:at], "other", *mine[at + 1 :]]
        with pytest.raises(ValueError, match=f"the {name} changed from {mine[at]} to other: that needs a"):
            tried.refuse_other_pool(other)
    clean.setattr(tried, "_trial", {"pools": {"s/g": mine[2:]}})
    tried.refuse_other_pools({"s/g": mine[2:], "new/g": ["j", "elsewhere:1/0", "/run/rsq"]})
    with pytest.raises(ValueError, match="pool s/g: its server changed from localhost:6379/0 to other"):
        tried.refuse_other_pools({"s/g": ["i", "other", "/run/rsq"]})


@pytest.mark.parametrize("trouble", ["no interpreter", "no directory", "a zero byte"])
def test_a_program_that_cannot_be_started_changes_nothing(
    clean: pytest.MonkeyPatch, tmp_path: Path, trouble: str
) -> None:
    """Signals are heard again, nothing more is inherited, and the working directory is what it was."""
    place = tmp_path / "missing" if trouble == "no directory" else tmp_path
    _give(clean, "a\0b" if trouble == "a zero byte" else "-c", "raise SystemExit", directory=str(place))
    if trouble == "no interpreter":
        (taken,) = given._taken
        clean.setattr(given, "_taken", [replace(taken, program=str(tmp_path / "python"))])
    before = Path.cwd()
    said: list[str] = []
    reader, writer = os.pipe()
    left = Legacy(["s", "g", "i"], reader, [], -1, {}, {}, 0, {})
    why = again(left, lambda: said.append("held"), lambda: said.append("let go"))
    assert why.startswith("the new program cannot be started: ")
    assert said == ["held", "let go"]
    assert not os.get_inheritable(reader)
    assert Path.cwd() == before
    os.close(reader)
    os.close(writer)


def test_a_signal_from_before_is_heard_by_the_bell_once() -> None:
    """It was remembered while everything was imported; a fork of then has nothing to do with it."""

    def work(_: object) -> None:
        early.begin(has_children=False)
        for number in (signal.SIGTTIN, signal.SIGHUP, signal.SIGTTIN, signal.SIGUSR1):
            os.kill(os.getpid(), number)
        copy = os.fork()
        if not copy:
            os.kill(os.getpid(), signal.SIGHUP)
        assert os.waitstatus_to_exitcode(os.waitpid(copy, 0)[1]) == -signal.SIGHUP
        bell = Doorbell()
        assert bell.wait(60.0) == ["SIGTTIN", "SIGHUP", "SIGTTIN", "SIGUSR1"]
        assert bell.wait(0.0) == []

    with child(work) as process:
        assert os.waitstatus_to_exitcode(process.wait()) == 0


def test_an_early_request_to_end_waits_for_whoever_takes_over_the_children() -> None:
    """Without children it is the end, with exit code 0; so is the second request."""

    def alone(_: object) -> None:
        early.begin(has_children=False)
        os.kill(os.getpid(), signal.SIGTERM)
        raise AssertionError("still there")

    def with_children(_: object) -> None:
        early.begin(has_children=True)
        os.kill(os.getpid(), signal.SIGTERM)
        assert early.end_asked()
        assert Doorbell().wait(60.0) == ["SIGTERM"]
        early.begin(has_children=True)
        for _ in range(2):
            os.kill(os.getpid(), signal.SIGTERM)
        raise AssertionError("still there")

    for work in (alone, with_children):
        with child(work) as process:
            assert os.waitstatus_to_exitcode(process.wait()) == 0


def test_a_signal_that_comes_just_before_the_new_program_is_not_lost() -> None:
    """Neither one that the old one has noticed and not looked at, nor one that comes after that."""

    def work(_: object) -> None:
        bell = Doorbell()
        os.kill(os.getpid(), signal.SIGTERM)
        bell.hold_back()
        os.kill(os.getpid(), signal.SIGHUP)
        assert {signal.SIGTERM, signal.SIGHUP} <= signal.sigpending()
        assert sorted(Doorbell().wait(60.0)) == ["SIGHUP", "SIGTERM"]

    with child(work) as process:
        assert os.waitstatus_to_exitcode(process.wait()) == 0


def test_a_signal_is_heard_that_comes_as_soon_as_it_is_handled() -> None:
    """Until then it ends the process; from then on nobody but the bell would know of it."""

    def work(_: object) -> None:
        handled = signal.signal

        def at_once(number: int, handler: Callable[..., object]) -> None:
            handled(number, handler)
            os.kill(os.getpid(), number)

        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(signal, "signal", at_once)
            bell = Doorbell()
        assert sorted(bell.wait(5.0)) == sorted({*SIGNALS} - {"SIGCHLD"})

    with child(work) as process:
        assert os.waitstatus_to_exitcode(process.wait()) == 0


def test_the_bell_is_rung_by_signals_and_children() -> None:
    def work(there: Callable[[], object]) -> None:
        bell = Doorbell()
        os.write(bell.report_w, b"b")
        assert bell.wait(60.0) == []
        there()
        assert bell.wait(60.0) == ["SIGHUP"]

    with child(work) as process:
        process.ready()
        os.kill(process.pid, signal.SIGHUP)
        assert os.waitstatus_to_exitcode(process.wait()) == 0
