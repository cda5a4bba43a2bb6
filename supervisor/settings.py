"""Settings: one small frozen value per pool, checked before anything starts."""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..ipc.journal import JOURNAL_MAX
from ..ipc.segment import CAPACITY, Identity
from ..streams import keys, serializers
from ..streams.bounds import number, shown
from ..streams.connection import target
from ..streams.once import lasting_s
from ..streams.orders import WORKERS_MAX
from ..worker.spec import Reading, Retries, Source, Spec, Work
from .scaling import Scale
from .states import Rules

RECOVER_S = 10.0  # for one slot of a pool that stops, see `stopping`: more than its process takes of itself
_IMPORT_S = 20.0  # what it may take longer where it imports the handler
START_S = 120.0  # of an import, and of worker_start hooks, in a worker
SIZE_MAX = 2.0**60
DEFAULT_METRICS = "127.0.0.1:9464"
_START_ID = re.compile(r"\$|\d{1,20}(-\d{1,20})?", re.ASCII)


@dataclass(frozen=True, slots=True)
class Metrics:
    """Where the exporter listens. `asked` tells a wish from the default: a taken port is an error then."""

    address: str | None
    asked: bool


@dataclass(frozen=True, slots=True)
class Trim:
    """What may be removed from the stream, never anything that some group has not acknowledged.

    Arguments:
        kind: none, acked (all of that), maxlen (all but the newest `amount` entries), age (what is older
            than `amount` seconds).
        amount: see there.
    """

    kind: str
    amount: float = 0.0


@dataclass(frozen=True, slots=True)
class Fleet:
    """How the pool gets on with others of its group. Times in seconds."""

    lease_s: float
    consumer_ttl_s: float
    trim: Trim


@dataclass(frozen=True, slots=True)
class Pool:
    """One pool: what its workers do, how they are kept, where it is seen."""

    spec: Spec
    rules: Rules
    fleet: Fleet
    metrics: Metrics
    runtime_dir: str | None

    @property
    def identity(self) -> Identity:
        """Whom the pool's segment belongs to."""
        source = self.spec.source
        return Identity(source.stream, source.group, source.instance)

    @property
    def title(self) -> str:
        """What process titles and the log say of it."""
        return f"{self.spec.source.stream}/{self.spec.source.group}"


def cpus() -> int:
    """Return how many CPUs this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def build(values: Mapping[str, Any], *, metrics_asked: bool) -> Pool:
    """Return the pool that options ask for.

    Arguments:
        values: option name (underscores) -> value, each of the type its option has.
        metrics_asked: the metrics address was given by somebody.

    Raises:
        ValueError: one line about the first thing that is wrong.
    """
    stream, group, instance = values["stream"], values["group"], values["instance"] or socket.gethostname()
    for name, value in (("--stream", stream), ("--group", group), ("--instance", instance)):
        if not value or "\0" in value:
            raise ValueError(f"{name} must not be empty")
    parts = values["start_id"].split("-")
    if not _START_ID.fullmatch(values["start_id"]) or any(
        int(part) >= 2**64 for part in parts if part != "$"
    ):
        raise ValueError(
            f"--start-id is 0, $ or an entry id such as 1526919030474-55, not {values['start_id']!r}"
        )
    if not values["handler"]:
        raise ValueError("no handler given: rsq-supervisor [OPTIONS] MODULE:HANDLER")
    serializers.load(values["serializer"], allow_pickle=values["allow_pickle"])
    if values["soft_timeout"] and values["timeout"] and values["soft_timeout"] >= values["timeout"]:
        raise ValueError("--soft-timeout must be shorter than --timeout")
    if values["backoff_max"] < values["backoff_base"]:
        raise ValueError("--backoff-max must not be smaller than --backoff-base")
    server = target(redis_url(values["redis"], values["redis_file"])).for_key(stream)
    dlq = values["dlq"] or keys.dead_letter(stream, cluster=server.cluster)
    for name in (stream, dlq):
        keys.refuse_ours(name)
    if server.cluster:
        keys.refuse_scattered(stream, dlq)
    source = Source(server, stream, group, instance, values["start_id"], dlq)
    if source.dlq == stream:
        raise ValueError(
            f"--dlq {source.dlq} is the stream itself: dead letters would be handled again for ever"
        )
    spec = Spec(
        source,
        Work(
            values["handler"],
            values["serializer"],
            values["allow_pickle"],
            values["preload"],
            values["envelope"],
            once(values["once"]),
            values["unknown_event"],
        ),
        Retries(values["max_attempts"], values["backoff_base"], values["backoff_max"]),
        Reading(
            values["batch_max"],
            values["batch_ms"] / 1000,
            values["block_ms"] / 1000,
            values["stop_when_empty"],
        ),
        values["timeout"],
        values["soft_timeout"],
        values["max_messages"],
        size(values["max_memory_growth"], "--max-memory-growth"),
    )
    least, most = workers(values["workers"])
    rules = Rules(
        least,
        values["timeout"],
        values["drain_timeout"],
        values["max_messages"],
        size(values["max_memory_growth"], "--max-memory-growth"),
        values["stop_when_empty"],
        max(CAPACITY, most),
        _scale(values, least, most),
        start_s=values.get("start_timeout", START_S),
        end_s=_end_s(values.get("end_timeout"), values["drain_timeout"]),
        recover_s=RECOVER_S if values["preload"] else RECOVER_S + _IMPORT_S,
        reload_s=values["reload_timeout"],
    )
    address = None if values["metrics"] == "off" else values["metrics"]
    fleet = Fleet(values["lease"], values["consumer_ttl"], trim(values["trim"]))
    return Pool(spec, rules, fleet, Metrics(address, metrics_asked), values["runtime_dir"])


def _end_s(asked: float | None, drain_s: float) -> float:
    """Return how long a process may take to end; not asked for, that goes with the patience for handlers."""
    return min(max(drain_s, 1.0), 30.0) if asked is None else asked


def once(words: str) -> float:
    """Return the seconds of `1d`, `12h`, `90s`; 0 for nothing.

    Raises:
        ValueError: it is no duration.
    """
    try:
        return lasting_s(words)
    except ValueError as error:
        raise ValueError(f"--once: {error}") from None


def workers(words: str | int) -> tuple[int, int]:
    """Return the least and the most workers that `4`, `2-16` or 0 (one per CPU) asks for.

    Raises:
        ValueError: it is none of them.
    """
    match = re.fullmatch(r"(\d{1,4})(?:-(\d{1,4}))?", str(words).strip())
    least, most = (int(match[1]), int(match[2] or match[1])) if match else (0, -1)
    if max(least, most) > WORKERS_MAX or least > most or (least == 0 and most > 0):
        raise ValueError(
            f"--workers is a number up to {WORKERS_MAX} or a range such as 2-16, not {str(words)!r}"
        )
    return (least, most) if least else (cpus(), cpus())


def _scale(values: Mapping[str, Any], least: int, most: int) -> Scale | None:
    """Return how a pool scales itself, None for one of a fixed size."""
    memory = size(values["max_memory"], "--max-memory")
    if least == most:
        if memory:
            raise ValueError("--max-memory limits a pool that scales itself: it needs --workers MIN-MAX")
        return None
    return Scale(least, most, values["scale_target"], values["scale_step"], values["scale_cooldown"], memory)


def trim(words: str) -> Trim:
    """Return what `none`, `acked`, `maxlen:N` or `age:SECONDS` asks for.

    Raises:
        ValueError: it is none of them.
    """
    match = re.fullmatch(r"(none|acked)|maxlen:(\d{1,18})|age:(\d{1,9}(?:\.\d+)?)", words.strip())
    if not match:
        raise ValueError(f"--trim is none, acked, maxlen:N or age:SECONDS, not {words!r}")
    if match[1]:
        return Trim(match[1])
    return Trim("maxlen", int(match[2])) if match[2] else Trim("age", float(match[3]))


def redis_url(url: str, file: str | None) -> str:
    """Return the URL, from its file when there is one.

    Raises:
        ValueError: the file cannot be read or is empty.
    """
    if not file:
        return url
    try:
        words = Path(file).read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"--redis-file {file} cannot be read: {error}") from None
    if not words:
        raise ValueError(f"--redis-file {file} is empty")
    return words


def size(words: str, option: str) -> int:
    """Return bytes for `200M`, `1.5G`, `65536`; zero switches the rule off.

    Raises:
        ValueError: it is no size.
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMG]?)(?:i?B)?", words.strip(), re.IGNORECASE)
    if not match:
        raise ValueError(f"{option} {words!r} is no size: write for example 200M")
    try:
        return int(number(float(match[1]) * 1024 ** ("", "K", "M", "G").index(match[2].upper()), 0, SIZE_MAX))
    except ValueError:
        raise ValueError(f"{option} {shown(words)} is more than an exbibyte") from None


BATCH_LIMIT = JOURNAL_MAX
