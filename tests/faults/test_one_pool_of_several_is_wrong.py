"""One pool of several cannot be right, or stops being so."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable

import pytest
from support_pool import numbers, until
from support_several import Several

GOOD = """
    [[pool]]
    stream = "orders"
    """
# The second table -> what the one line says.
WRONG = {
    'stream = "mails"\nhandler = "app:none"': "pool mails/workers: there is no 'none' in app",
    'stream = "mails"\nhandler = "nowhere:handle"': "pool mails/workers: there is no module 'nowhere'",
    'stream = "mails"\nwokers = 2': "[[pool]] 2: there is no setting 'wokers'",
    'stream = "mails"\nbatch-max = "many"': "'many' is not a valid integer range",
    'stream = "mails"\nworkers = "many"': "pool mails/workers: --workers is a number up to 4096 or a range",
    'stream = "mails"\ntimeout = 5\nsoft-timeout = 10': "pool mails/workers: --soft-timeout must be shorter",
    'stream = "mails"\nmetrics = "127.0.0.1:1"': "metrics is one for all pools: write it above the tables",
    'stream = "orders"': "pool orders/workers: it is there twice",
    'stream = "mails"\ndlq = "orders"\n[[pool]]\nstream="orders"\ngroup="g"\ndlq="mails"': (
        "dead letters would go round for ever: "
    ),
    'stream = "wrong"': "pool wrong/workers: stream wrong: ",
    'stream = "mails"\nredis = "http://h"': "pool mails/workers: Redis URL http://h: expected redis://",
}


def test_one_line_says_which_and_nothing_is_read(make_several: Callable[..., Several]) -> None:
    """Exit code 78 before anything is read, whatever the other pools are."""
    pools = make_several(GOOD)
    ids = pools.push("orders", numbers(3))
    pools.redis.set("wrong", "no stream")
    for table, words in WRONG.items():
        pools.settle(GOOD + f"\n[[pool]]\n{table}\n")
        code, said = pools.say()
        assert code == 78, (table, said)
        (line,) = said.splitlines()
        assert line.startswith("rsq-supervisor: error: "), line
        assert words in line
        assert pools.redis.xinfo_groups("orders") == []
    pools.settle(GOOD + '\n[[pool]]\nstream = "mails"\n')
    pools.start("--stop-when-empty")
    assert pools.wait() == 0
    pools.assert_exact("orders", ids)


def test_a_pool_that_never_boots_ends_all(make_several: Callable[..., Several]) -> None:
    """At the first start, with its exit code: what the others have begun is drained."""
    toml = GOOD + '[[pool]]\nstream = "mails"\nhandler = "broken:plain"\n'
    pools = make_several(toml)
    (pools.folder / "broken.py").write_text(
        "import os\ndef worker_start(): os._exit(1)\ndef plain(message): pass\n"
    )
    ids = pools.push("orders", numbers(100))
    pools.start()
    assert pools.wait() == 70
    assert "mails/workers: no slot could boot" in pools.log()
    assert "pool mails/workers: it never ran: ending all, with its exit code" in pools.log()
    until(lambda: not pools.strays(), "the end of everybody")
    pools.settle(GOOD)
    pools.start("--stop-when-empty")
    assert pools.wait() == 0
    pools.assert_exact("orders", ids)


@pytest.mark.parametrize("code", ["handler", "boot"])
def test_the_others_go_on_once_all_have_run(make_several: Callable[..., Several], code: str) -> None:
    """Its master is started again and again, ever more rarely, until it is mended."""
    toml = GOOD + '[[pool]]\nstream = "mails"\nhandler = "mails:plain"\n'
    pools = make_several(toml)
    module = pools.folder / "mails.py"
    module.write_text("from app import *\n")
    pools.start(ready=2)
    module.write_text(
        "def other(message): pass\n"
        if code == "handler"
        else "import os\nfrom app import *\ndef worker_start(): os._exit(1)\n"
    )
    os.kill(pools.master("mails"), signal.SIGKILL)
    pools.wait_log("pool mails/workers: its master died: exit " + ("78" if code == "handler" else "70"), 2)
    workers = pools.workers("orders")
    ids = pools.push("orders", numbers(50))
    letters = pools.push("mails", numbers(50))
    pools.wait_finished("orders", ids)
    assert pools.workers("orders") == workers
    assert pools.get("readyz")[0] == 503
    assert pools.get("healthz")[0] == 200, "a pool that cannot run is no reason to restart the others"
    module.write_text("from app import *\n")
    pools.wait_finished("mails", letters)
    pools.wait_settled("orders", "mails")
    assert pools.stop() == 0
    pools.assert_exact("orders", ids)
    pools.assert_exact("mails", letters)
