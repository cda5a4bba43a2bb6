"""The stories of dead letters that wait: they come back whole, and whatever is in their file harms nobody."""

from __future__ import annotations

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from rsq.ipc.journal import Outcome
from rsq.worker.shelf import Letter
from rsq.worker.stories import Stories, pack, unpack

LETTER = Letter(b"1-0", 3, Outcome.DEAD_REJECTED, "rejected", "Reject: \udcff", "in handle", 2, b"mail", 5)


def test_a_story_comes_back_as_it_was(tmp_path: Path) -> None:
    stories = Stories(tmp_path / "letters")
    stories.put(b"1-0", pack(LETTER))
    stories.put(b"2-0", b"another")
    found = unpack(b"1-0", 3, Outcome.DEAD_REJECTED, Stories(tmp_path / "letters").get(b"1-0"))
    assert found is not None
    assert found.kept
    assert (found.error, found.traceback, found.earlier) == (LETTER.error, LETTER.traceback, 2)
    assert (found.reason, found.event, found.most) == ("rejected", b"mail", 5)


def test_the_file_is_for_the_owner_alone_and_goes_with_the_last_story(tmp_path: Path) -> None:
    path = tmp_path / "letters"
    stories = Stories(path)
    stories.drop(b"1-0")
    stories.put(b"1-0", b"one")
    stories.put(b"2-0", b"two")
    assert path.stat().st_mode & 0o777 == 0o600
    stories.drop(b"1-0")
    assert Stories(path).get(b"2-0") == b"two"
    stories.keep_only(())
    assert not path.exists()


def test_the_file_does_not_grow_without_end(tmp_path: Path) -> None:
    path = tmp_path / "letters"
    stories = Stories(path)
    stories.put(b"0-0", b"stays")
    for number in range(1, 200):
        stories.put(b"%d-0" % number, b"x" * 30_000)
        stories.drop(b"%d-0" % number)
    assert path.stat().st_size < 1_200_000
    assert Stories(path).get(b"0-0") == b"stays"


def test_a_file_that_cannot_be_written_stops_nobody(tmp_path: Path) -> None:
    stories = Stories(tmp_path / "missing" / "letters")
    stories.put(b"1-0", b"one")
    assert stories.get(b"1-0") == b"one"
    stories.drop(b"1-0")
    assert stories.get(b"1-0") is None


@given(st.binary(max_size=200))
def test_whatever_is_in_the_file_or_in_redis_is_no_error(data: bytes) -> None:
    found = unpack(b"1-0", 1, Outcome.DEAD_REJECTED, data)
    assert found is None or isinstance(found.reason, str)


def test_a_torn_end_costs_the_last_story_alone(tmp_path: Path) -> None:
    path = tmp_path / "letters"
    Stories(path).put(b"1-0", b"one")
    Stories(path).put(b"2-0", b"two")
    path.write_bytes(path.read_bytes()[:-2] + b"")
    stories = Stories(path)
    assert (stories.get(b"1-0"), stories.get(b"2-0")) == (b"one", None)
    path.write_bytes(b"\xc1 nonsense")
    assert Stories(path).get(b"1-0") is None
