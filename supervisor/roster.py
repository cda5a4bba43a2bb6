"""The roster: the pools that the settings ask for, each under its name, and whether they get on. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ..streams.url import place as server_of
from .settings import Pool, build

Place = tuple[str, str]  # URL of the server, stream


@dataclass(frozen=True, slots=True)
class Member:
    """One pool of several.

    Arguments:
        name: `stream/group`: for the log, for --pool and for whoever looks.
        pool: its settings.
    """

    name: str
    pool: Pool


def members(rows: Iterable[Mapping[str, Any]], *, metrics_asked: bool) -> list[Member]:
    """Return the pools that are asked for, those of the dead letters last.

    Arguments:
        rows: for each, option name (underscores) -> value, each of the type its option has.
        metrics_asked: the metrics address was given by somebody.

    Raises:
        ValueError: one line about the first thing that is wrong; it names the pool where there are several.
    """
    rows = list(rows)
    several = len(rows) > 1
    found: list[Member] = []
    letters: dict[str, Member] = {}
    for values in rows:
        main = _member(values, metrics_asked, several)
        found.append(main)
        if values["dlq_handler"]:
            one = _of_letters(values, main, metrics_asked)
            letters[one.name] = _merged(letters[one.name], one) if one.name in letters else one
    found += letters.values()
    _refuse_twins(found)
    _refuse_circles(found)
    return found


def select(found: Sequence[Member], name: str) -> Member:
    """Return the pool of a name.

    Raises:
        ValueError: there is none; one line that has the names there are.
    """
    for member in found:
        if member.name == name:
            return member
    raise ValueError(
        f"--pool {name}: there is no such pool; there are: {', '.join(one.name for one in found)}"
    )


def fixed(found: Iterable[Member], directory: str) -> dict[str, list[str]]:
    """Return what a reload must not change of each pool: name -> [instance, server, runtime directory]."""
    return {
        member.name: [member.pool.identity.instance, server_of(member.pool.spec.source.target), directory]
        for member in found
    }


def _member(values: Mapping[str, Any], metrics_asked: bool, several: bool) -> Member:
    name = f"{values['stream']}/{values['group']}"
    try:
        pool = build(values, metrics_asked=metrics_asked)
    except ValueError as error:
        raise ValueError(f"pool {name}: {error}" if several else str(error)) from None
    return Member(pool.title, pool)


def _of_letters(values: Mapping[str, Any], main: Member, metrics_asked: bool) -> Member:
    """Return the pool that handles the dead letters of another: one slot, and nothing is trimmed there."""
    source = main.pool.spec.source
    own = {
        "stream": source.dlq, "handler": values["dlq_handler"], "dlq": "", "dlq_handler": "", "workers": 1,
        "max_memory": "0", "trim": "none",
    }  # fmt: skip
    member = _member({**values, **own}, metrics_asked, several=True)
    work = replace(member.pool.spec.work, letters_of=((source.stream, source.group),))
    return replace(member, pool=replace(member.pool, spec=replace(member.pool.spec, work=work)))


def _merged(one: Member, other: Member) -> Member:
    """Return one pool for the letters of both: they lie in one stream and are read by one group."""
    mine, others = one.pool.spec, other.pool.spec
    if mine.source.target.url != others.source.target.url:
        raise ValueError(
            f"pool {one.name}: it would be on two servers: give each of their pools a --dlq of its own"
        )
    if mine.work.handler != others.work.handler:
        raise ValueError(
            f"pool {one.name}: two handlers are given for it, {mine.work.handler} and {others.work.handler}:"
            " give each of their pools a --dlq of its own"
        )
    work = replace(mine.work, letters_of=mine.work.letters_of + others.work.letters_of)
    return replace(one, pool=replace(one.pool, spec=replace(mine, work=work)))


def _refuse_twins(found: Sequence[Member]) -> None:
    seen: set[str] = set()
    for member in found:
        if member.name in seen:
            raise ValueError(
                f"pool {member.name}: it is there twice; each pool needs a stream or group of its own"
            )
        seen.add(member.name)


def _refuse_circles(found: Sequence[Member]) -> None:
    """Refuse dead letters that would be handled where they come from, by way of some other pool."""
    after: dict[Place, set[Place]] = {}
    for member in found:
        source = member.pool.spec.source
        url = source.target.url
        after.setdefault((url, source.stream), set()).add((url, source.dlq))
    for start in after:
        path = [start]
        if _leads_back(start, after, path, set()):
            streams = " -> ".join(stream for _, stream in path)
            raise ValueError(f"dead letters would go round for ever: {streams}; give one another --dlq")


def _leads_back(start: Place, after: Mapping[Place, set[Place]], path: list[Place], seen: set[Place]) -> bool:
    """Tell whether a way leads from the end of a path to its start, and add it to the path if so."""
    for place in sorted(after.get(path[-1], ())):
        path.append(place)
        if place == start:
            return True
        if place not in seen:
            seen.add(place)
            if _leads_back(start, after, path, seen):
                return True
        path.pop()
    return False
