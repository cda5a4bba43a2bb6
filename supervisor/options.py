"""Options that commands of `rsq` share, and what they mean."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click
from click.core import ParameterSource

from ..streams.connection import Target, target

Command = TypeVar("Command", bound=Callable[..., Any])


def server_options(command: Command) -> Command:
    """Give a command `redis` and `redis_file`, for `server_of`."""
    command = click.option("--redis-file", envvar="RSQ_REDIS_FILE", help="File that holds the URL.")(command)
    return click.option(
        "--redis",
        envvar="RSQ_REDIS",
        default="redis://localhost:6379/0",
        show_default=True,
        help="URL: redis://, rediss://, unix://, redis+sentinel://, redis+cluster://, embedded.",
    )(command)


def group_options(command: Command) -> Command:
    """Give a command the server's options, `stream` and `group`."""
    command = click.option(
        "--group", envvar="RSQ_GROUP", default="workers", show_default=True, help="Its consumer group."
    )(command)
    command = click.option(
        "--stream", envvar="RSQ_STREAM", default="events", show_default=True, help="Stream that is read."
    )(command)
    return server_options(command)


def given(name: str, *sources: ParameterSource) -> bool:
    """Tell whether an option of the running command comes from one of some sources."""
    return click.get_current_context().get_parameter_source(name) in sources


def server_of(redis: str, redis_file: str | None) -> Target:
    """Return the server that is meant.

    Raises:
        ValueError: the URL is wrong, or the file cannot be read.
    """
    if redis_file is None or given("redis", ParameterSource.COMMANDLINE):
        if redis_file is not None and given("redis_file", ParameterSource.COMMANDLINE):
            raise click.UsageError("give --redis or --redis-file, not both")
        return target(redis)
    try:
        return target(Path(redis_file).read_text().strip())
    except OSError as error:
        raise ValueError(f"--redis-file {redis_file}: {error.strerror}") from error
