"""Settings: what is wrong is said in one line before anything starts."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

import pytest

from rsq.ipc.segment import CAPACITY
from rsq.supervisor.scaling import Scale
from rsq.supervisor.settings import Pool, Trim, build, cpus, redis_url, size, trim
from rsq.supervisor.states import Rules

VALUES: dict[str, Any] = {
    "handler": "app:handle",
    "workers": 3,
    "redis": "redis://:s3cret@h/0",
    "redis_file": None,
    "stream": "orders",
    "group": "mailer",
    "instance": "web-1",
    "start_id": "0",
    "serializer": "json",
    "allow_pickle": False,
    "unknown_event": "ignore",
    "max_attempts": 3,
    "backoff_base": 1.0,
    "backoff_max": 300.0,
    "timeout": 300.0,
    "soft_timeout": 0.0,
    "batch_max": 500,
    "batch_ms": 50.0,
    "block_ms": 5000,
    "dlq": "",
    "lease": 15.0,
    "consumer_ttl": 3600.0,
    "trim": "none",
    "drain_timeout": 30.0,
    "reload_timeout": 60.0,
    "max_messages": 0,
    "max_memory_growth": "0",
    "max_memory": "0",
    "scale_target": 30.0,
    "scale_step": 4,
    "scale_cooldown": 10.0,
    "preload": True,
    "metrics": "127.0.0.1:9464",
    "runtime_dir": None,
    "stop_when_empty": False,
    "envelope": "auto",
    "once": "",
}


def _build(**values: Any) -> Pool:
    return build({**VALUES, **values}, metrics_asked=False)


def test_options_become_small_values_in_seconds_and_bytes() -> None:
    pool = _build(max_memory_growth="200M", stop_when_empty=True)
    assert pool.rules == Rules(3, 300.0, 30.0, 0, 200 << 20, True, CAPACITY)
    assert (pool.spec.reading.batch_s, pool.spec.reading.block_s) == (0.05, 5.0)
    assert pool.spec.reading.until_empty
    assert (pool.identity.stream, pool.identity.group, pool.identity.instance) == (
        "orders",
        "mailer",
        "web-1",
    )
    assert pool.title == "orders/mailer"


def test_defaults_that_depend_on_the_host_and_on_other_options() -> None:
    pool = _build(workers=0, instance="")
    assert pool.rules.workers == cpus() >= 1
    assert pool.identity.instance == socket.gethostname()
    assert pool.spec.source.dlq == "orders:dlq"
    assert _build(dlq="graveyard").spec.source.dlq == "graveyard"


def test_there_is_room_for_as_many_workers_as_were_asked_for() -> None:
    assert _build(workers=1000).rules.capacity == 1000


def test_a_range_of_workers_makes_a_pool_that_scales_itself() -> None:
    pool = _build(workers="2-100", max_memory="4G", scale_target=5.0, scale_step=2, scale_cooldown=1.0)
    assert (pool.rules.workers, pool.rules.capacity) == (2, 100)
    assert pool.rules.scale == Scale(2, 100, 5.0, 2, 1.0, 4 << 30)
    assert _build(workers="4").rules == _build(workers="4-4").rules == _build(workers=4).rules
    assert _build(workers="4").rules.scale is None


def test_metrics_can_be_switched_off() -> None:
    assert _build(metrics="off").metrics.address is None


def test_a_secret_is_never_shown() -> None:
    assert "s3cret" not in repr(_build())


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"handler": ""}, "no handler given"),
        ({"stream": ""}, "--stream must not be empty"),
        ({"group": "a\0b"}, "--group must not be empty"),
        ({"start_id": "yesterday"}, "--start-id is 0, $ or an entry id"),
        ({"start_id": "-"}, "--start-id"),
        ({"serializer": "yaml"}, "yaml"),
        ({"serializer": "pickle"}, "--allow-pickle"),
        ({"soft_timeout": 300.0}, "--soft-timeout must be shorter"),
        ({"backoff_max": 0.5}, "--backoff-max must not be smaller"),
        ({"redis": "http://h"}, "expected redis://"),
        ({"dlq": "orders"}, "is the stream itself"),
        ({"trim": "all"}, "--trim is none"),
        ({"trim": "maxlen:"}, "--trim is none"),
        ({"trim": "maxlen:-1"}, "--trim is none"),
        ({"trim": "age:1d"}, "--trim is none"),
        ({"max_memory_growth": "much"}, "is no size"),
        ({"workers": "2-16", "max_memory": "much"}, "--max-memory 'much' is no size"),
        ({"max_memory": "4G"}, "--workers MIN-MAX"),
        ({"workers": "many"}, "--workers is a number"),
        ({"workers": "16-2"}, "a range such as 2-16"),
        ({"workers": "0-4"}, "a range such as 2-16"),
        ({"workers": "-4"}, "a range such as 2-16"),
        ({"workers": "2-9999"}, "up to 4096"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_what_is_wrong_is_one_line(values: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError) as caught:
        _build(**values)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("start_id", ["0", "$", "1526919030474", "1526919030474-55"])
def test_where_a_group_may_start(start_id: str) -> None:
    assert _build(start_id=start_id).spec.source.start_id == start_id


def test_a_soft_limit_needs_no_hard_one() -> None:
    assert _build(soft_timeout=5.0, timeout=0.0).spec.soft_timeout_s == 5.0


@pytest.mark.parametrize(
    ("words", "number"),
    [
        ("0", 0),
        ("65536", 65536),
        ("1k", 1024),
        ("1.5G", 3 << 29),
        ("200M", 200 << 20),
        ("200 MiB", 200 << 20),
        ("7B", 7),
    ],
)
def test_sizes(words: str, number: int) -> None:
    assert size(words, "--max-memory") == number


@pytest.mark.parametrize("words", ["", "-1", "1T", "M", "1,5G", "200MM", "0x10"])
def test_no_sizes(words: str) -> None:
    with pytest.raises(ValueError, match="is no size"):
        size(words, "--max-memory")


def test_the_url_may_come_from_a_file(tmp_path: Path) -> None:
    file = tmp_path / "url"
    file.write_text("  redis://:s3cret@h/0\n")
    assert redis_url("redis://other", str(file)) == "redis://:s3cret@h/0"
    assert redis_url("redis://other", None) == "redis://other"


@pytest.mark.parametrize("content", [None, b"", b" \n", b"\xff\xfe"])
def test_a_file_without_a_url_is_an_error_that_does_not_show_it(
    tmp_path: Path, content: bytes | None
) -> None:
    file = tmp_path / "url"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(ValueError, match=r"--redis-file .* (cannot be read|is empty)"):
        redis_url("redis://other", str(file))


def test_what_may_be_trimmed() -> None:
    assert trim("none") == Trim("none")
    assert trim(" acked ") == Trim("acked")
    assert trim("maxlen:100000") == Trim("maxlen", 100_000)
    assert trim("age:1.5") == Trim("age", 1.5)


def test_once_is_a_time() -> None:
    assert _build().spec.work.once_s == 0.0
    assert _build(once="1d").spec.work.once_s == 86400.0
    with pytest.raises(ValueError, match=r"^--once: 'soon' is no duration: write for example"):
        _build(once="soon")
    with pytest.raises(ValueError, match=r"^--once: 9999d is longer than ten years"):
        _build(once="9999d")
    with pytest.raises(ValueError, match=r"^--once: a duration must be more than nothing"):
        _build(once="0")
