"""What a worker is told to do: small frozen values, made once by the command line."""

from __future__ import annotations

from dataclasses import dataclass

from ..streams.connection import Target


@dataclass(frozen=True, slots=True)
class Source:
    """Where entries come from and where dead ones go."""

    target: Target
    stream: str
    group: str
    instance: str
    start_id: str
    dlq: str


@dataclass(frozen=True, slots=True)
class Work:
    """What is done with an entry, and how it is read.

    Arguments:
        handler: module:attribute.
        letters_of: stream and group of each pool whose dead letters are handled; empty: every entry is.
    """

    handler: str
    serializer: str
    allow_pickle: bool
    preload: bool
    envelope: str = "auto"  # see `streams.envelope`
    once_s: float = 0.0  # how long it is remembered that a message was handled; 0: not at all
    unknown_event: str = "ignore"  # or dead-letter, or retry: what a router has no handler for
    letters_of: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Retries:
    """How failures are tried again: exponential backoff with full jitter."""

    max_attempts: int
    base_s: float
    max_s: float


@dataclass(frozen=True, slots=True)
class Reading:
    """How much is read at once, and how long an empty stream is waited for."""

    batch_max: int
    batch_s: float
    block_s: float
    until_empty: bool


@dataclass(frozen=True, slots=True)
class Spec:
    """All that the process in a slot needs to know.

    Arguments:
        timeout_s: hard limit of one handler, by SIGKILL from the master; 0 for none.
        soft_timeout_s: after this a `SoftTimeout` is raised inside the handler; 0 for none.
        max_messages: how many one process handles at most; 0 for no limit.
        max_growth: bytes by which one process may grow; 0 for no limit.
    """

    source: Source
    work: Work
    retries: Retries
    reading: Reading
    timeout_s: float
    soft_timeout_s: float
    max_messages: int = 0
    max_growth: int = 0
