"""The sweep: what the leader of a group does for the whole fleet, in small steps.

A pass looks at the consumers, takes from those that are gone, gives what lies idle to who is idle, trims,
and removes consumers that nobody needs. It is cut into turns, so that no step keeps the server from others
for long, and between two turns the leader does its other work. What a pass does not get done, the next does.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection, Generator, Iterator, Sequence
from typing import Any

import hiredis

from ..ipc.cells import Part
from ..streams import fleet, trouble
from ..streams.entry import parse_id
from ..streams.group import Pending, info_rows, next_id, pending_rows
from ..streams.marks import Mark
from ..streams.sweeping import Claim, Steps, Target, is_fenced, moved, ownerless, trimmed
from ..streams.waiting import unstarted
from ..streams.wire import heed
from .booty import Booty, ids, name, named, tell_held_back, tell_restored
from .complaints import Complaints
from .plan import Owner, Ring, Stand, instances, owners, removals, split, text, to_bury
from .settings import Pool

log = logging.getLogger(__name__)

PAGE = 150  # entries in one write
LETTERS = 50  # entries dead-lettered in one write
TRIMMED = 2000  # entries trimmed in one step
PACE_S = 0.005  # between two turns of a pass: the server has others to serve
SCAN_MAX = 10_000  # a consumer with more pending is looked at page by page
SCAN_STEP = 5_000  # entries passed over in one write
SCAN_PASS = 200_000  # entries passed over in one pass
ROWS_PASS = 20_000  # rows fetched in one pass without doing anything with them
ROW_COST = 10  # a row that is fetched costs so much more than one passed over
REMOVALS = 20  # instances whose consumers are removed in one pass
TELL_TRIM_S = 600.0
TELL_HOLD_S = 3600.0
BEHIND_MS = 3_600_000  # a group that is so far behind is said to hold trimming back
TIDY_TURNS = 20  # pages of records in one pass, while some are out of date
_START = b"-"
_ALL, _NEVER = b"0", b"-1"
_NOBODY = Claim(b"", "", False, -1, 0)


class Deposed(Exception):
    """Somebody else leads now, or nobody does."""


class Sweeper:
    """Sweeps one group, a turn at a time, while its keeper leads."""

    def __init__(
        self,
        pool: Pool,
        call: Callable[..., list[Any]],
        most: Callable[[], int] = lambda: 0,
        complaints: Complaints | None = None,
    ) -> None:
        """Begin without knowing anything.

        Arguments:
            pool: what is swept, and by which rules.
            call: sends packed commands in one write and returns their replies, errors as `ReplyError`.
            most: returns how many attempts an entry may have, whatever its event; 0 when that is not known.
            complaints: where errors go.
        """
        self._complaints = complaints or Complaints(pool.title)
        self._pool, self._call = pool, call
        self._lease_s, self._ttl_s = pool.fleet.lease_s, pool.fleet.consumer_ttl_s
        self._ask_most, self._most = most, pool.spec.retries.max_attempts
        self._epoch = 0
        self._turns: Iterator[float] | None = None
        self._due = 0.0  # monotonic: when the next pass begins
        self._ring = Ring()
        self._cursors: dict[bytes, bytes] = {}  # owner -> start of the next page
        self._scans = {"waiting": _ALL, "stories": _ALL}  # hash -> where tidying goes on
        self._looked = b""  # the live owner that was looked at last
        self._seen = False  # the group was there
        self._complained = False  # this pass had a complaint
        self._trimmed, self._told = 0, 0.0
        self._hold_due = 0.0  # monotonic: not before that it is said again who holds trimming back

    def turn(self, epoch: int, now: float) -> float:
        """Do one bounded step.

        The first pass of a term begins a whole lease after its first turn: after an outage of Redis
        everybody who lives must have come back first.

        Arguments:
            epoch: fencing token of the lead.
            now: monotonic seconds.

        Returns:
            When the next turn is wanted, monotonic seconds.

        Raises:
            Deposed: somebody else leads now; nothing has been done since.
        """
        if epoch != self._epoch:
            self.wait(now)
            self._epoch = epoch
        if self._turns is None:
            if now < self._due:
                return self._due
            self._due = now + self._lease_s / 3
            self._turns, self._complained = self._pass(self._pool.spec.source, now), False
        try:
            return now + next(self._turns)
        except StopIteration:
            self._turns = None
            if not self._complained:
                self._complaints.over(Part.SWEEP)
        except hiredis.ReplyError as error:
            self.stop()
            self._complain(error)
        except BaseException:
            self.stop()
            raise
        return max(now, self._due)

    def stop(self) -> None:
        """Give up the pass that is going on."""
        self._turns = None

    def wait(self, now: float) -> None:
        """Give up the pass that is going on, and let everybody who lives come back before the next.

        Arguments:
            now: monotonic seconds.
        """
        self.stop()
        self._due = now + self._lease_s

    def _complain(self, error: hiredis.ReplyError) -> None:
        self._complained = True
        self._complaints.add(Part.SWEEP, trouble.explain(error, self._pool.spec.source.target))

    def _ask(self, *commands: bytes) -> list[Any]:
        """Return the replies to commands.

        Raises:
            Deposed: one of them found that somebody else leads.
            hiredis.ReplyError: the first other error.
        """
        replies = self._call(*commands)
        for reply in replies:
            if is_fenced(reply):
                raise Deposed(str(reply))
        for reply in replies:
            if isinstance(reply, hiredis.ReplyError):
                raise reply
        return replies

    def _pass(self, source: Any, now: float) -> Iterator[float]:
        """Sweep once; yields how long to wait until the next turn."""
        self._most = self._ask_most() or self._pool.spec.retries.max_attempts
        steps = Steps(source.stream, source.group, source.dlq, self._most, self._epoch)
        try:
            rows, said, summary = self._ask(*steps.look())
        except hiredis.ReplyError as error:
            if "NOGROUP" not in str(error) and "no such key" not in str(error):
                raise
            self._restore(steps)
            return
        self._seen = True
        reports = {text(key): fleet.report(raw) for key, raw in zip(said[::2], said[1::2], strict=True)}
        everybody = info_rows(rows)
        names = instances(everybody, reports)
        alive: set[str] = set()
        for at in range(0, len(names), PAGE):
            page = names[at : at + PAGE]
            there = self._ask(*map(steps.lives, page))
            alive |= {instance for instance, lives in zip(page, there, strict=True) if lives}
        self._ring.set(reports, alive)
        found = owners(everybody, reports, alive, self._lease_s, self._ttl_s)
        self._cursors = {
            key: at for key, at in self._cursors.items() if key in {o.name for o in found} | {b""}
        }
        booty = Booty()
        try:
            yield PACE_S
            yield from self._take_from_dead(steps, found, reports, booty)
            yield from self._take_from_living(steps, found, booty)
            if ownerless(summary) > 0:
                yield from self._take_from_nobody(steps, booty)
            yield from self._remove(steps, found, reports, alive, booty)
            yield from self._tidy(steps)
        finally:
            booty.tell()
        yield from self._trim(steps, now)

    def _take_from_dead(
        self, steps: Steps, found: Sequence[Owner], reports: dict[str, Any], booty: Booty
    ) -> Iterator[float]:
        """Take everything that is old enough from owners that are gone."""
        idly = 0
        for owner in found:
            if not owner.is_dead or not owner.pending:
                continue
            whose = named(owner, reports)
            while idly < ROWS_PASS:
                first = self._cursors.pop(owner.name, _START)
                (reply,) = self._ask(steps.page(owner.name, first, PAGE, resting=False))
                rows = pending_rows(reply)
                acted = yield from self._move(steps, owner.claim, rows, booty, whose)
                idly += len(rows) - acted
                if len(rows) < PAGE:
                    break
                self._cursors[owner.name] = next_id(parse_id(rows[-1].entry))
                yield PACE_S

    def _take_from_living(self, steps: Steps, found: Sequence[Owner], booty: Booty) -> Iterator[float]:
        """Give what rests at slots that do not come to it to those that are idle."""
        living = sorted((o for o in found if not o.is_dead and o.pending), key=lambda owner: owner.name)
        start = next((at for at, owner in enumerate(living) if owner.name > self._looked), 0)
        spent = 0
        batch: list[Owner] = []
        cost = 0
        for owner in living[start:] + living[:start]:
            if spent >= SCAN_PASS:
                break
            batch.append(owner)
            cost += _cost(owner)
            self._looked = owner.name
            if cost >= SCAN_STEP:
                yield from self._look_at(steps, batch, booty)
                spent, cost, batch = spent + cost, 0, []
        yield from self._look_at(steps, batch, booty)

    def _look_at(self, steps: Steps, batch: Sequence[Owner], booty: Booty) -> Iterator[float]:
        if not batch:
            return
        replies = self._ask(
            *(
                steps.page(
                    owner.name, self._cursors.pop(owner.name, _START), PAGE, resting=_is_scanned(owner)
                )
                for owner in batch
            )
        )
        yield PACE_S
        for owner, reply in zip(batch, replies, strict=True):
            rows = pending_rows(reply)
            if len(rows) == PAGE:
                self._cursors[owner.name] = next_id(parse_id(rows[-1].entry))
            idle_only = owner.stand is not Stand.CLOSED
            yield from self._move(
                steps,
                owner.claim,
                rows,
                booty,
                (name(owner.claim.slot), owner.stand.value),
                idle_only=idle_only,
            )

    def _take_from_nobody(self, steps: Steps, booty: Booty) -> Iterator[float]:
        """Take entries that have no owner: newer servers let a consumer give an entry back so."""
        for _ in range(ROWS_PASS // PAGE):
            (reply,) = self._ask(steps.ownerless(self._cursors.pop(b"", _START), PAGE))
            rows = pending_rows(reply)
            mine = [row for row in rows if not row.consumer]
            yield from self._move(steps, _NOBODY, mine, booty, ("nobody", "handed back"))
            if len(rows) < PAGE:
                return
            self._cursors[b""] = next_id(parse_id(rows[-1].entry))
            yield PACE_S

    def _move(
        self,
        steps: Steps,
        claim: Claim,
        rows: Sequence[Pending],
        booty: Booty,
        whose: tuple[str, str],
        *,
        idle_only: bool = False,
    ) -> Generator[float, None, int]:
        """Hand over and bury what may be taken of a page; returns how many entries that was tried with."""
        waiting = self._waiting(steps, claim, rows)
        resting, suspects, used_up = split(rows, claim, self._most, waiting)
        left = used_up
        while left:
            entries = left[:LETTERS]
            (reply,) = self._ask(steps.bury(to_bury(claim), entries, int(time.time() * 1000)))
            yield PACE_S
            done, trouble_said = moved(entries, reply)
            booty.buried(whose, done)
            heed(trouble_said)
            if trouble_said:
                self._complain(
                    hiredis.ReplyError(f"dead letter of {ids(entries[len(done) :][:1])}: {trouble_said}")
                )
                break
            left = left[len(done) :]
        tried = len(used_up)
        for entries in (resting, suspects):
            shares = self._ring.share(entries, idle_only=idle_only)
            tried += len(entries) if shares else 0
            while shares:
                shares = self._hand(steps, claim, shares, booty, whose, idle_only=idle_only)
                yield PACE_S
        return tried

    def _waiting(self, steps: Steps, claim: Claim, rows: Sequence[Pending]) -> Collection[bytes]:
        """Return the entries of a page that are held, but were certainly not started."""
        held = [
            (row.entry, row.consumer, row.counter)
            for row in rows
            if claim.read(row.idle_ms).mark is Mark.HELD
        ]
        if claim.held_ms < 0 or not held:
            return ()
        (reply,) = self._call(steps.records([row[0] for row in held]))
        return () if isinstance(reply, hiredis.ReplyError) else unstarted(held, reply)

    def _hand(
        self,
        steps: Steps,
        claim: Claim,
        shares: Sequence[tuple[Target, list[bytes]]],
        booty: Booty,
        whose: tuple[str, str],
        *,
        idle_only: bool,
    ) -> list[tuple[Target, list[bytes]]]:
        """Hand shares over; return new shares of what met an instance that is gone, or was too large."""
        ttl_ms = int(self._lease_s * 1000)
        replies = self._ask(*(steps.handover(claim, part, target, ttl_ms) for target, part in shares))
        left: list[bytes] = []
        for (target, part), reply in zip(shares, replies, strict=True):
            if not reply:
                self._ring.without(target.instance)
            done, _ = moved(part, reply)
            left += part[len(done) :]
            booty.handed(whose, done)
        return self._ring.share(left, idle_only=idle_only)

    def _remove(
        self, steps: Steps, found: Sequence[Owner], reports: dict[str, Any], alive: set[str], booty: Booty
    ) -> Iterator[float]:
        """Remove consumers that are gone for long, reports of instances that have none left, empty marks."""
        ttl_ms = int(self._ttl_s * 1000)
        wanted = list(removals(found, reports, alive, self._ttl_s, time.time()))
        for instance, names, marked, forget in wanted[:REMOVALS]:
            (gone,) = self._ask(steps.remove(instance, names, ttl_ms, forget=forget, marked=marked))
            booty.removed(gone)
            yield PACE_S

    def _trim(self, steps: Steps, now: float) -> Iterator[float]:
        """Trim by the rule that was asked for."""
        rule = self._pool.fleet.trim
        more = rule.kind != "none"
        while more:
            (reply,) = self._ask(steps.trim(rule.kind, rule.amount, TRIMMED))
            done = trimmed(reply)
            more = done.more
            self._trimmed += done.removed
            log.debug("trimmed %d entries", done.removed)
            if more:
                yield PACE_S
            elif done.behind_ms >= BEHIND_MS and now >= self._hold_due:
                self._hold_due = now + TELL_HOLD_S
                tell_held_back(self._pool.spec.source.stream, done)
        if self._trimmed and now - self._told >= TELL_TRIM_S:
            log.info("trimmed %d entries that every group has acknowledged", self._trimmed)
            self._trimmed, self._told = 0, now

    def _tidy(self, steps: Steps) -> Iterator[float]:
        """Remove records and stories of entries that are pending no more."""
        for which, cursor in self._scans.items():
            for _ in range(TIDY_TURNS):
                if cursor == _NEVER:
                    break
                (reply,) = self._ask(steps.tidy(which, cursor, PAGE))
                self._scans[which] = cursor = bytes(reply[0])
                if cursor == _ALL or not reply[1]:
                    break
                yield PACE_S

    def _restore(self, steps: Steps) -> None:
        source = self._pool.spec.source
        (made,) = self._ask(steps.restore(source.start_id, count=self._seen))
        if made and self._seen:
            tell_restored(source.stream, source.group, source.start_id)
        self._seen = True


def _is_scanned(owner: Owner) -> bool:
    """Tell whether all that an owner has is passed over, for what rests by its idle time."""
    return owner.pending <= SCAN_MAX and not owner.is_marked


def _cost(owner: Owner) -> int:
    return owner.pending if _is_scanned(owner) else min(owner.pending, PAGE) * ROW_COST
