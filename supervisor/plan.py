"""What a sweep decides: whose entries may be taken, on what ground, and who gets them. Pure.

    the owner                               may be taken
    an instance without a lease             what is held, idle for a lease; what rests. What is held and
                                            recorded as waiting goes on as it is, like what rests
    a slot that its live instance has not   what has rested for a third of a lease; to any live slot
    a live slot, busy or down               what has rested for a third of a lease; to idle slots only
    a live slot, idle                       nothing: its worker is about to take it
    no instance that ever was               as of one without a lease, idle for the consumers' time to live

Suspects whose attempts are used up go to the dead letters, whoever owns them.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from typing import Any, NamedTuple

from ..streams import fleet, keys, marks
from ..streams.fleet import Report
from ..streams.group import Pending
from ..streams.marks import Mark
from ..streams.sweeping import Claim, Target

IDLE_SHARE = 16  # entries for each idle slot before busy ones get some, too
SHARES_MAX = 8  # slots that are given something of one page: each costs the server a script
NEVER_MS = 2**41  # no entry that rests has rested for so long


class Stand(Enum):
    """What an owner is to the fleet."""

    LOST = "its host is gone"
    STRANGER = "no instance of that name is known"
    CLOSED = "that slot is closed"
    BUSY = "busy or down"
    IDLE = "idle"


@dataclass(frozen=True, slots=True)
class Owner:
    """A consumer of the group, or an owner that has a mark.

    Arguments:
        stand: what it is to the fleet.
        claim: on what ground its entries may be taken.
        pending: how many it has.
        idle_ms: how long it has done nothing.
    """

    stand: Stand
    claim: Claim
    pending: int
    idle_ms: int

    @property
    def name(self) -> bytes:
        """Its name."""
        return self.claim.owner

    @property
    def is_marked(self) -> bool:
        """Tell whether its name says that nobody has its entries in hand."""
        return self.claim.mark is not Mark.HELD

    @property
    def is_dead(self) -> bool:
        """Tell whether everything that it has may be taken, once it is old enough."""
        return self.stand in (Stand.LOST, Stand.STRANGER)


def seat(name: str) -> tuple[str, int] | None:
    """The instance and the slot of an owner's name, None for one that cannot be ours."""
    consumer, _ = marks.split(name)
    found = keys.seat(consumer)
    return found if found and keys.consumer(*found) == consumer else None


def text(name: bytes) -> str:
    """A name of the server, as text that packs to the same bytes."""
    return name.decode("utf-8", "surrogateescape")


def instances(rows: Iterable[Mapping[bytes, Any]], reports: Collection[str]) -> list[str]:
    """Return every instance of which a lease may be there."""
    seats = (seat(text(row[b"name"])) for row in rows)
    return sorted({found[0] for found in seats if found} | set(reports))


def owners(
    rows: Iterable[Mapping[bytes, Any]],
    reports: Mapping[str, Report | None],
    alive: Collection[str],
    lease_s: float,
    ttl_s: float,
) -> list[Owner]:
    """Return what each consumer of the group is.

    Arguments:
        rows: XINFO CONSUMERS.
        reports: instance -> what it last said, None if that cannot be read.
        alive: instances that have a lease.
        lease_s, ttl_s: time of a lease, and of consumers that are gone.
    """
    return [_owner(row, reports, alive, lease_s, ttl_s) for row in rows]


def _owner(
    row: Mapping[bytes, Any],
    reports: Mapping[str, Report | None],
    alive: Collection[str],
    lease_s: float,
    ttl_s: float,
) -> Owner:
    found = seat(text(row[b"name"]))
    instance, slot = found or ("", -1)
    said = reports.get(instance) if found else None
    third_ms = int(lease_s * 1000 / 3)
    gone, held_ms, rested_ms = True, -1, third_ms
    if found and instance in alive:
        gone = False
        # What another version says may not be readable: its slots may be there.
        state = fleet.BUSY if said is None else said.slots.get(slot)
        stand = Stand.CLOSED if state is None else Stand.IDLE if state == fleet.IDLE else Stand.BUSY
        rested_ms = NEVER_MS if stand is Stand.IDLE else third_ms
    elif found and instance in reports:
        own_s = said.lease_s if said else lease_s
        stand, held_ms, rested_ms = Stand.LOST, int(max(lease_s, min(own_s, ttl_s)) * 1000), 0
    else:
        stand, held_ms, rested_ms = Stand.STRANGER, int(ttl_s * 1000), 0
    # A stranger may have chosen a name like that of an owner with a mark.
    mark = Mark.HELD if stand is Stand.STRANGER else marks.split(text(row[b"name"]))[1]
    claim = Claim(row[b"name"], instance, gone and found is not None, held_ms, rested_ms, mark)
    return Owner(stand, claim, int(row[b"pending"]), int(row[b"idle"]))


def to_bury(claim: Claim) -> Claim:
    """Return the ground on which a consumer's entries are buried: how long they have rested says nothing."""
    return replace(claim, rested_ms=0)


class Removal(NamedTuple):
    """What is to be removed of an instance, if it is still so then.

    Arguments:
        instance: its name, empty for consumers without one.
        names: consumers that have nothing, and are gone for long.
        marked: owners with a mark that own nothing.
        forget: its report goes, too, once it has no consumer.
    """

    instance: str
    names: list[bytes]
    marked: list[bytes]
    forget: bool


def removals(
    found: Iterable[Owner],
    reports: Mapping[str, Report | None],
    alive: Collection[str],
    ttl_s: float,
    now: float,
) -> Iterator[Removal]:
    """Yield what is to be removed.

    Arguments:
        found: the consumers of the group.
        reports: instance -> what it last said, None if that cannot be read.
        alive: instances that have a lease.
        ttl_s: how long consumers and reports of those that are gone are kept.
        now: Unix seconds.
    """
    names: dict[str, list[bytes]] = {instance: [] for instance in reports if instance not in alive}
    marked: dict[str, list[bytes]] = {}
    owned = set()
    for owner in found:
        instance = owner.claim.instance
        if owner.is_dead:
            owned.add(instance)
        if owner.pending:
            continue
        if owner.is_marked:
            names.setdefault(instance, [])
            marked.setdefault(instance, []).append(owner.name)
        elif owner.is_dead and owner.idle_ms >= ttl_s * 1000:
            names.setdefault(instance, []).append(owner.name)
    for instance, gone in names.items():
        said, empty = reports.get(instance), marked.get(instance, [])
        forget = (
            instance in reports and instance not in alive
            and (said is None or now - said.beat >= ttl_s)
        )  # fmt: skip
        if gone or empty or (forget and instance not in owned):
            yield Removal(instance, gone, empty, forget)


def split(
    rows: Iterable[Pending], claim: Claim, most: int, waiting: Collection[bytes] = ()
) -> tuple[list[bytes], list[bytes], list[bytes]]:
    """Return the entries to hand over as they are, those as suspects, and those to bury, each in order.

    Arguments:
        rows: of the claim's owner.
        claim: on what ground they may be taken.
        most: attempts that an entry has.
        waiting: entries that are held, but were certainly not started.
    """
    resting: list[bytes] = []
    suspects: list[bytes] = []
    used_up: list[bytes] = []
    for row in rows:
        mark, untouched_ms = claim.read(row.idle_ms)
        held, suspect = mark is Mark.HELD and row.idle_ms >= 0, mark is Mark.SUSPECT
        if held and (claim.held_ms < 0 or row.idle_ms < claim.held_ms):
            continue
        if held and row.entry in waiting:
            resting.append(row.entry)
        elif (held or suspect) and row.counter >= most:
            used_up.append(row.entry)
        elif held or row.idle_ms < 0 or untouched_ms >= claim.rested_ms:
            (suspects if held or suspect else resting).append(row.entry)
    return resting, suspects, used_up


class Ring:
    """The slots that get entries, in turn."""

    def __init__(self) -> None:
        """Begin anywhere."""
        self._idle: list[Target] = []
        self._busy: list[Target] = []
        self._last: dict[bool, Target] = {}

    def set(self, reports: Mapping[str, Report | None], alive: Collection[str]) -> None:
        """Learn which slots there are; turns go on where they were."""
        slots = [
            (Target(instance, number, said.marks < marks.VERSION), state)
            for instance, said in sorted(reports.items())
            if said and instance in alive
            for number, state in sorted(said.slots.items())
        ]
        self._idle = [slot for slot, state in slots if state == fleet.IDLE]
        self._busy = [slot for slot, state in slots if state == fleet.BUSY]

    def without(self, instance: str) -> None:
        """Give nothing more to an instance that is found to be gone."""
        self._idle = [slot for slot in self._idle if slot.instance != instance]
        self._busy = [slot for slot in self._busy if slot.instance != instance]

    def share(self, ids: Sequence[bytes], *, idle_only: bool) -> list[tuple[Target, list[bytes]]]:
        """Return who gets which of some entries: idle slots first, as evenly as it goes.

        Arguments:
            ids: in ascending order, as those of each share will be.
            idle_only: busy slots get nothing.
        """
        few = bool(self._idle) and len(ids) <= IDLE_SHARE * len(self._idle)
        only = idle_only or few
        slots = self._idle if only else sorted(self._idle + self._busy)
        if not slots or not ids:
            return []
        last = self._last.get(only)
        start = next((at for at, slot in enumerate(slots) if last is not None and slot > last), 0)
        number = min(len(slots), len(ids), SHARES_MAX)
        size, rest = divmod(len(ids), number)
        # Who is not served, or not as well, is first the next time.
        served = number if number < len(slots) else rest
        if served:
            self._last[only] = slots[(start + served - 1) % len(slots)]
        shares: list[tuple[Target, list[bytes]]] = []
        at = 0
        for turn in range(number):
            end = at + size + (turn < rest)
            shares.append((slots[(start + turn) % len(slots)], list(ids[at:end])))
            at = end
        return shares
