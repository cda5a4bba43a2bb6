"""SIGHUP after the stream, the group or the instance was changed in the settings."""

from __future__ import annotations

import signal
from collections.abc import Callable

import pytest
from support_pool import Pool, numbers


@pytest.mark.parametrize("key", ["stream", "group"])
def test_it_is_refused(make_pool: Callable[..., Pool], key: str) -> None:
    """It would be another pool: the old settings go on, the log says what changed. Other keys are taken."""
    pool = make_pool("""
        def handle(message):
            started(message)
            finished(message)
        """)
    config = pool.folder / "pool.toml"
    config.write_text("")
    pool.options += ["--config", str(config)]
    ids = pool.push(numbers(5))
    pool.start()
    config.write_text(f'{key} = "other"\n')
    pool.signal(signal.SIGHUP)
    pool.wait_log("reload refused, the old code goes on: ")
    assert f"the {key} changed from" in pool.log()
    assert "that needs a restart" in pool.log()
    config.write_text("timeout = 5\n")
    pool.signal(signal.SIGHUP)
    pool.wait_log("reloaded: every slot runs the new code")
    ids += pool.push(numbers(5))
    pool.wait_finished(ids)
    pool.wait_settled()
    assert pool.stop() == 0
    pool.assert_exact(ids)
