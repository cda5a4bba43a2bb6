"""Numbers from outside: what is none is refused with a line, wherever it comes from."""

from __future__ import annotations

import math
from collections.abc import Iterator
from datetime import timedelta
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import click
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rsq.streams.bounds import COUNT_MAX, number, shown, span_s, whole
from rsq.streams.durations import seconds
from rsq.streams.once import lasting_s
from rsq.streams.pushing import Pusher
from rsq.supervisor import cli, fleet, operate
from rsq.supervisor.numbertypes import Number, Whole
from rsq.worker.fuse import Breaker
from rsq.worker.router import Limits, check_limits
from rsq.worker.signature import HandlerError

NONE: list[Any] = [math.nan, True, "5", None, [], 1j, Decimal("NaN"), Decimal("sNaN"), range(3)]
HUGE: list[Any] = [math.inf, 10**400, 10**5000, Decimal("1e400"), Fraction(10**400)]


@pytest.mark.parametrize("value", [*NONE, *HUGE, -1, -math.inf], ids=shown)
def test_no_number(value: Any) -> None:
    for check in (lambda: number(value, 0, 100), lambda: whole(value, 0, 100), lambda: span_s(value, 0, 100)):
        with pytest.raises(ValueError) as caught:
            check()
        assert len(str(caught.value)) < 150


def test_numbers_of_all_kinds() -> None:
    assert number(Fraction(1, 4), 0, 1) == 0.25
    assert number(Decimal("0.5"), 0, 1) == 0.5
    assert span_s(timedelta(seconds=2), 0, 3) == 2
    assert (whole(2.0, 0, 3), whole(3, 0, 3)) == (2, 3)
    with pytest.raises(ValueError, match="no whole number"):
        whole(2.5, 0, 3)


@given(st.floats() | st.integers() | st.decimals() | st.fractions() | st.text() | st.booleans())
def test_a_number_is_in_its_bounds_or_a_value_error(value: Any) -> None:
    try:
        found = number(value, 0, 1e6)
    except ValueError:
        return
    assert type(found) is float
    assert 0 <= found <= 1e6


def commands(command: click.Command, *path: str) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    yield path, command
    if isinstance(command, click.Group):
        for name, inner in command.commands.items():
            yield from commands(inner, *path, name)


OPTIONS = [
    pytest.param(parameter, id=" ".join((*path, parameter.opts[0])))
    for root, program in (("rsq-supervisor", cli.command), ("rsq", operate.cli))
    for path, command in commands(program, root)
    for parameter in command.params
    if isinstance(parameter.type, click.types.IntParamType | click.types.FloatParamType)
]


@pytest.mark.parametrize("option", OPTIONS)
def test_every_option_that_is_a_number_has_bounds(option: click.Option) -> None:
    """In words, as of a command line or the environment, and as values of a TOML file."""
    assert isinstance(option.type, Number | Whole)
    words = ["nan", "inf", "-inf", "-1", "1e400", "9" * 400, "", "many"]
    for value in (*words, math.nan, math.inf, -1, 10**400, True, "true"):
        with pytest.raises(click.BadParameter):
            option.type.convert(value, option, None)
    if isinstance(option.type, Whole):
        for value in (2.5, "2.5", COUNT_MAX + 1):
            with pytest.raises(click.BadParameter):
                option.type.convert(value, option, None)


def test_there_are_such_options() -> None:
    assert len(OPTIONS) > 25


@pytest.mark.parametrize("value", [*NONE[:2], *NONE[4:], *HUGE, -1], ids=shown)
def test_limits_of_a_router(value: Any) -> None:
    wrong = [Limits(max_attempts=value), Limits(timeout=value), Limits(soft_timeout=value)]
    wrong += [Limits(backoff=(value, 5)), Limits(backoff=(0, value)), Limits(once=value)]
    wrong += [Limits(breaker=Breaker(value)), Limits(breaker=Breaker(successes=value))]
    wrong += [Limits(breaker=Breaker(window=value)), Limits(breaker=Breaker(reset=value))]
    for limits in wrong:
        if limits.once == [] or limits == Limits():
            continue  # no mark at all
        with pytest.raises(HandlerError) as caught:
            check_limits(limits, "event 'x'")
        assert "event 'x'" in str(caught.value)


@pytest.mark.parametrize("value", [*NONE[:2], *NONE[4:], *HUGE, -1, "999999999999w"], ids=shown)
def test_durations(value: Any) -> None:
    with pytest.raises(ValueError, match="duration"):
        seconds(value)
    if value:
        with pytest.raises(ValueError, match=r"duration|ten years"):
            lasting_s(value)


@pytest.mark.parametrize("value", [*NONE[:3], *HUGE, -1, 0], ids=shown)
def test_settings_of_a_producer_and_of_a_fleet(value: Any) -> None:
    usual: dict[str, Any] = {
        "serializer": "json", "allow_pickle": False, "maxlen": None, "exact": False, "on_full": "trim",
        "block_s": 1.0, "timeout_s": 1.0, "patience_s": 0.0,
    }  # fmt: skip
    for name in ("maxlen", "timeout_s"):
        with pytest.raises(ValueError):
            Pusher("s", **(usual | {name: value}))
    with pytest.raises(ValueError):
        Pusher("s", **usual).batches(None, value, None, None)
    with pytest.raises(ValueError):
        fleet.Fleet("redis://localhost", timeout_s=value)


def test_a_toml_file(tmp_path: Path) -> None:
    """What has a type there is taken as it is: neither is `true` one second, nor are 2.9 attempts two."""
    for line in (
        "timeout = nan",
        "lease = inf",
        "timeout = true",
        "max-attempts = 2.9",
        f"timeout = {'9' * 400}",
        f"timeout = {'9' * 5000}",
    ):
        file = tmp_path / "wrong.toml"
        file.write_text(line)
        with pytest.raises(click.UsageError):
            cli.command.main(["--config", str(file), "--check", "app:handle"], standalone_mode=False)
