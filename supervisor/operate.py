"""`rsq`: the command that operates pools and their streams.

Every command ends through `failing.run`. Output for people goes through `printable`; into a pipe it is plain.
"""

import os
import stat
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import islice
from typing import Any, TypeVar

import click

from ..streams import serializers
from ..streams.connection import RedisError
from ..streams.deadletter import DeadLetters, Outcome
from ..streams.producer import Producer, PushError, StreamFull
from ..streams.pushing import OnFull
from . import fleetcli, showing
from .benchcli import bench
from .breakercli import breaker
from .failing import Failure, failure, run, tell
from .fleet import Fleet
from .granting import acl_command
from .numbertypes import Whole
from .options import server_of, server_options
from .printable import one_line
from .scalecli import scale

READ_SIZE = 256 * 1024
Command = TypeVar("Command", bound=Callable[..., Any])


@click.group(no_args_is_help=False, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="rsq-supervisor", prog_name="rsq")
def cli() -> None:
    """Operate rsq pools and their streams."""


cli.add_command(acl_command)
cli.add_command(bench)
cli.add_command(breaker)


def main() -> int:
    """Entry point of the console script."""
    return run(cli, name="rsq")


for one in (
    fleetcli.status,
    fleetcli.check,
    fleetcli.pending,
    fleetcli.pause,
    fleetcli.resume,
    fleetcli.drain,
    scale,
):
    cli.add_command(one)


def _letter_options(command: Command) -> Command:
    command = click.option("--dlq", envvar="RSQ_DLQ", help="Its dead letters.  [default: STREAM:dlq]")(
        command
    )
    command = click.option(
        "--stream", envvar="RSQ_STREAM", default="events", show_default=True, help="Stream they came from."
    )(command)
    return server_options(command)


def _choice_options(command: Command) -> Command:
    command = click.option("--all", "everything", is_flag=True, help="All dead letters of the stream.")(
        command
    )
    command = click.option("--reason", help="All of one reason; crash means every crash.")(command)
    return click.argument("ids", nargs=-1)(command)


@cli.command()
@click.argument("stream")
@click.argument("messages", nargs=-1, required=True, metavar="JSON...")
@click.option("--event", help="Name of the event of all messages.")
@click.option("--key", help="What the message is about; with several, all of them.")
@click.option(
    "--unique",
    metavar="DURATION",
    help="For so long (1h) nothing else of this key is pushed: prints the id of the first.",
)
@click.option("--maxlen", type=Whole(1), help="A limit for the stream; see --on-full.")
@click.option(
    "--on-full",
    type=click.Choice(["trim", "reject", "block"]),
    default="trim",
    show_default=True,
    help="At the limit: remove the oldest entries, read or not; or, once a group has so many unread, refuse,"
    " or wait for a minute.",
)
@server_options
def push(
    stream: str,
    messages: tuple[str, ...],
    event: str | None,
    key: str | None,
    unique: str | None,
    maxlen: int | None,
    on_full: OnFull,
    **place: Any,
) -> None:
    """Push messages onto STREAM, each a JSON text; - reads one per line from standard input.

    The texts are stored as they are. Prints the id of each message; how many they were with -.
    """
    server = server_of(**place)
    if unique is not None and (key is None or messages == ("-",)):
        raise click.UsageError("--unique is for messages given one by one, with --key")
    with Producer(server.url, stream, serializer="raw", maxlen=maxlen, on_full=on_full) as producer:
        try:
            if messages == ("-",):
                _push_lines(producer, event, key)
            else:
                texts = [text.encode("utf-8", "surrogateescape") for text in messages]
                for payload in [_json(text, f"argument {n}") for n, text in enumerate(texts, 1)]:
                    tell(producer.push(payload, event, key=key, unique=unique))
        except StreamFull as error:
            raise Failure(f"{error.why}; {_pushed(producer)}", os.EX_TEMPFAIL) from error
        except PushError as error:
            done = _pushed(producer) + (f", {error.unsure} more may have been" if error.unsure else "")
            raise failure(error.cause, server, done) from error


@cli.group("dlq", no_args_is_help=False)
def dead_letters() -> None:
    """List, show, replay and purge dead letters."""


@dead_letters.command("list")
@_letter_options
@click.option("--reason", help="Only of this reason; crash means every crash.")
@click.option("--limit", type=Whole(), default=50, show_default=True, help="At most; 0 is all.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object per line, with all fields.")
def list_letters(reason: str | None, limit: int, as_json: bool, **place: str) -> None:
    """List dead letters, the newest first."""
    now_ms = time.time_ns() // 1_000_000
    with _letters(**place) as letters:
        found = islice(letters.iterate(reason, newest_first=True), limit or None)
        if as_json:
            for entry in found:
                click.echo(showing.json_line(entry))
        elif sys.stdout.isatty():
            from rich.console import Console

            terminal = Console()
            shown = showing.table(found, now_ms, terminal.width)
            terminal.print(shown, crop=False, soft_wrap=True)
            click.echo(f"{shown.row_count} shown; {one_line(letters.dlq)} holds {letters.count()}")
        else:
            for line in showing.plain(found, now_ms):
                click.echo(line)


@dead_letters.command()
@_letter_options
@click.argument("entry_id", metavar="ID")
@click.option("--json", "as_json", is_flag=True, help="As one JSON object.")
def show(entry_id: str, as_json: bool, **place: str) -> None:
    """Show everything about one dead letter."""
    with _letters(**place) as letters:
        entry = letters.get(entry_id)
        if entry is None:
            raise Failure(f"no dead letter {entry_id} in {letters.dlq}", os.EX_NOINPUT)
        lines = [showing.json_line(entry)] if as_json else showing.details(entry, time.time_ns() // 1_000_000)
        for line in lines:
            click.echo(line)


@dead_letters.command()
@_letter_options
@_choice_options
def replay(ids: tuple[str, ...], reason: str | None, everything: bool, **place: str) -> int:
    """Put dead letters back into their stream, whole; give IDS, --reason or --all.

    Each gets a new id at the end of the stream, and every group that reads the stream gets it.
    """
    _choose_one(ids, reason, everything)
    with _letters(**place) as letters:
        return _settle(letters, letters.replay(ids or None, reason, everything), "replayed", ids)


@dead_letters.command()
@_letter_options
@_choice_options
@click.option("--yes", is_flag=True, help="Do not ask.")
def purge(ids: tuple[str, ...], reason: str | None, everything: bool, yes: bool, **place: str) -> int:
    """Delete dead letters for good; give IDS, --reason or --all."""
    _choose_one(ids, reason, everything)
    if not yes and not sys.stdin.isatty():
        raise click.UsageError("there is nobody to ask: give --yes to delete")
    with _letters(**place) as letters:
        which = f"{len(ids)}" if ids else f"all of reason {reason}" if reason else f"all of {letters.stream}"
        if not yes and not click.confirm(f"Delete dead letters for good: {one_line(which)}?", err=True):
            return 0
        return _settle(letters, letters.purge(ids or None, reason, everything), "purged", ids)


def _settle(letters: DeadLetters, outcomes: Iterator[Outcome], wanted: str, ids: tuple[str, ...]) -> int:
    """Let the outcomes happen and tell; the exit code says whether every id that was asked for is done."""
    tally: Counter[str] = Counter()
    total = len(ids) or letters.count()
    try:
        with _progress(wanted, total) as advance:
            for outcome in outcomes:
                tally[outcome.result] += 1
                advance(1)
                if outcome.result == "foreign":
                    tell(f"rsq: warning: {outcome.id} is no dead letter of this stream: left alone", err=True)
    finally:
        gone = f", {tally['gone']} were not there" if tally["gone"] else ""
        tell(f"{tally[wanted]} {wanted}{gone}")
    return os.EX_NOINPUT if ids and tally[wanted] < len(ids) else 0


def _push_lines(producer: Producer, event: str | None, key: str | None) -> None:
    source = sys.stdin.buffer
    of = None if key is None else lambda _: key
    found = os.fstat(source.fileno())
    size = found.st_size if stat.S_ISREG(found.st_mode) else None
    number = 0
    with _progress("pushing", size) as advance:
        for lines in _lines(source):
            payloads = []
            try:
                for line in lines:
                    number += 1
                    if text := line.strip():
                        payloads.append(_json(text, f"line {number}"))
            except Failure as error:
                producer.push_many(payloads, event, key=of)
                raise Failure(f"{error}; {_pushed(producer)}", error.code) from error
            producer.push_many(payloads, event, key=of)
            advance(sum(map(len, lines)) + len(lines))
    tell(_pushed(producer))


def _lines(source: Any) -> Iterator[list[bytes]]:
    """Complete lines as they arrive: a slow pipe is pushed at once, a file in large pieces."""
    rest = b""
    while data := source.read1(READ_SIZE):
        *lines, rest = (rest + data).split(b"\n")
        yield lines
    if rest:
        yield [rest]


def _json(text: bytes, where: str) -> bytes:
    try:
        _decode_json(text)
    except (ValueError, RecursionError) as error:
        raise Failure(f"{where}: not JSON: {error}", os.EX_DATAERR) from error
    return text


_decode_json = serializers.load("json").decode


def _pushed(producer: Producer) -> str:
    count = producer.metrics.pushed
    return f"{count} message{'' if count == 1 else 's'} pushed"


def _choose_one(ids: tuple[str, ...], reason: str | None, everything: bool) -> None:
    if bool(ids) + (reason is not None) + everything != 1:
        raise click.UsageError("give the ids of dead letters, or --reason, or --all")


@contextmanager
def _letters(redis: str, redis_file: str | None, stream: str, dlq: str | None) -> Iterator[DeadLetters]:
    server = server_of(redis, redis_file)
    with Fleet(server, stream, "", dlq=dlq) as fleet:
        try:
            yield fleet.dead_letters
        except RedisError as error:
            raise failure(error, server) from error


@contextmanager
def _progress(what: str, total: int | None) -> Iterator[Callable[[int], None]]:
    """A bar on standard error if that is a terminal; the function given moves it on."""
    if not sys.stderr.isatty():
        yield lambda _: None
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(what, total=total)
        yield lambda steps: bar.advance(task, steps)


if __name__ == "__main__":
    sys.exit(main())
