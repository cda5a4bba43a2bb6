"""What a server remembers of producers, by what it says."""

from __future__ import annotations

from typing import Any

import pytest
from redis.exceptions import ReadOnlyError, ResponseError

from rsq.streams.idempotence import Memory, fault, memory


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (ResponseError("no such key"), None),
        (ResponseError("NOPERM no XINFO for you"), Memory()),
        (ReadOnlyError("READONLY"), None),
        ([b"length", 3, b"first-entry", [b"1-0", [b"a", b"b"]]], Memory()),
        ([b"idmp-duration", 100, b"idmp-maxsize", 50, b"pids-tracked", 7], Memory(50, 7)),
        ({"idmp-duration": 100, "idmp-maxsize": 50}, Memory(50)),
        ([b"idmp-duration", 29, b"idmp-maxsize", 50, b"pids-tracked", 7], Memory(0, 7)),
    ],
)
def test_what_a_server_remembers(answer: Any, expected: Memory | None) -> None:
    assert memory(answer, 10.0) == expected


@pytest.mark.parametrize(
    ("product", "version", "expected"),
    [
        ("redis", "8.6.0", "it is Redis 8.6.0"),
        ("redis", "8.6.1", "it is Redis 8.6.1"),
        ("redis", "8.6.2", ""),
        ("redis", "8.6.10", ""),
        ("redis", "8.8", ""),
        ("redis", "8.8.0-rc1", ""),
        ("redis", "255.255.255", ""),
        ("redis", "unknown", "it is Redis unknown"),
        ("valkey", "9.4.0", ""),
        ("another", "1.0.0", ""),
    ],
)
def test_which_servers_may_be_relied_on(product: str, version: str, expected: str) -> None:
    answer = ["server", product, "version", version, "proto", 2, "modules", []]
    assert fault(answer) == expected
    assert fault([word.encode() if isinstance(word, str) else word for word in answer]) == expected
    assert fault(dict(zip(answer[::2], answer[1::2], strict=True))) == expected


def test_a_server_that_does_not_say_its_version_is_not_relied_on() -> None:
    assert fault(ResponseError("unknown command")) == "its version is not known: it refuses HELLO"
