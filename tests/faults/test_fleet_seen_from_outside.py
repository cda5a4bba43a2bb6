"""What probes, scrapes and `rsq status` say of pools that wait, lead, are paused, or are cut off."""

from __future__ import annotations

import json
import subprocess
import urllib.error
import urllib.request
from collections.abc import Callable
from typing import Any

from support_hosts import Fleet
from support_pool import Pool, numbers, until
from support_proxy import Proxy
from support_rsq import command, environment

from rsq.streams.orders import Order

ORDERS = "rsq:{events}:workers:orders"
HANDLER = """
    def handle(message):
        started(message)
        if message.data["n"] == 0 and message.attempt == 1:
            wait_for("never")
        finished(message)
    """
WEB = ("--lease", "6", "--metrics", "127.0.0.1:0")


def get(pool: Pool, page: str) -> tuple[int, str]:
    """Return the status and the text of a page."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{pool.port()}/{page}", timeout=20) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def scrape(pool: Pool) -> dict[str, float]:
    """Return the metrics of the lease, the lead and the sweep, without the labels of the pool."""
    found = {}
    for line in get(pool, "metrics")[1].splitlines():
        name, _, value = line.rpartition(" ")
        key = name.partition("{")[0]
        if key in ("rsq_leader", "rsq_leader_epoch", "rsq_paused", "rsq_lease_seconds"):
            found[key] = float(value)
        elif key == "rsq_swept_total":
            found["swept " + name.partition('what="')[2].partition('"')[0]] = float(value)
    return found


def status(pool: Pool) -> dict[str, Any]:
    """Return what `rsq status` says of this host's pool."""
    done = subprocess.run(
        command("status", "--runtime-dir", str(pool.runtime), "--json"),
        env=environment(), capture_output=True, text=True, timeout=30, check=True,
    )  # fmt: skip
    (seen,) = json.loads(done.stdout)
    found: dict[str, Any] = seen
    return found


def fleet_status(pool: Pool) -> dict[str, Any]:
    """Return what `rsq status --redis` says of the group."""
    done = subprocess.run(
        command("status", "--redis", pool.server.url, "--stream", "events", "--group", "workers", "--json"),
        env=environment(), capture_output=True, text=True, timeout=30, check=True,
    )  # fmt: skip
    seen: dict[str, Any] = json.loads(done.stdout)
    return seen


def test_leading_following_waiting_and_paused(make_pool: Callable[..., Pool]) -> None:
    """Only who waits for its lease is not ready: a pause is no fault of the pool."""
    leads = make_pool(HANDLER, *WEB, "--instance", "leads")
    follows = make_pool(HANDLER, *WEB, "--instance", "follows")
    waits = make_pool(HANDLER, *WEB, "--instance", "follows")
    leads.start()
    follows.start()
    waits.start(ready=False)
    waits.wait_log("runs already, on ")
    assert get(leads, "readyz") == get(follows, "readyz") == (200, "ready: 1 of 1 slots\n")
    until(lambda: get(waits, "readyz") == (503, "not ready: waiting for the instance lease\n"), "its probe")
    until(lambda: scrape(leads)["rsq_leader"] == 1, "the lead of one")
    epoch = leads.keep("LEADER_EPOCH")
    assert epoch > 0
    until(lambda: scrape(follows)["rsq_leader_epoch"] == epoch, "one that knows who leads")
    seen = {pool: scrape(pool) for pool in (leads, follows, waits)}
    assert [found["rsq_leader"] for found in seen.values()] == [1, 0, 0]
    assert [found["rsq_leader_epoch"] for found in seen.values()] == [epoch, epoch, 0]
    assert [found["rsq_paused"] for found in seen.values()] == [0, 0, 0]
    assert 0 < seen[leads]["rsq_lease_seconds"] <= 4
    assert 0 < seen[follows]["rsq_lease_seconds"] <= 4
    assert seen[waits]["rsq_lease_seconds"] == 0
    said = [status(pool) for pool in (leads, follows, waits)]
    assert [(one["leading"], one["paused"], one["ready"]) for one in said] == [
        (True, False, 1), (False, False, 1), (False, False, 0),
    ]  # fmt: skip
    assert [one["lease_s"] > 0 for one in said] == [True, True, False]
    leads.redis.hset(ORDERS, "pause", Order("jo", 1.0, "").encode())
    until(lambda: scrape(leads)["rsq_paused"] == scrape(follows)["rsq_paused"] == 1, "the pause")
    assert get(leads, "readyz")[0] == get(follows, "readyz")[0] == 200
    assert status(leads)["paused"] is True
    instances = {one["name"]: one for one in fleet_status(leads)["instances"]}
    assert {name: (one["alive"], one["leader"]) for name, one in instances.items()} == {
        "leads": (True, True), "follows": (True, False),
    }  # fmt: skip
    leads.redis.hdel(ORDERS, "pause")
    until(lambda: scrape(leads)["rsq_paused"] == scrape(follows)["rsq_paused"] == 0, "the resume")
    assert follows.stop() == 0
    waits.wait_log("ready: 1 workers")
    assert get(waits, "readyz")[0] == 200
    assert leads.stop() == waits.stop() == 0


def test_what_was_swept_and_who_leads_while_one_is_cut_off(
    make_own_pool: Callable[..., Pool], make_far_pool: Callable[..., Pool], proxy: Proxy
) -> None:
    """Who cannot reach Redis does not claim to lead; what the new leader has done is counted everywhere."""
    near = make_own_pool(HANDLER, *WEB, "--instance", "near")
    far = make_far_pool(HANDLER, *WEB, "--instance", "far")
    fleet = Fleet(near, far)
    far.start()
    fleet.wait_leader("far")
    (entry,) = far.push(numbers(1))
    far.wait_started(entry)
    near.start()
    until(lambda: (scrape(far)["rsq_leader"], scrape(near)["rsq_leader"]) == (1, 0), "the lead of one")
    before = scrape(near)["rsq_leader_epoch"]
    proxy.stall()
    until(lambda: scrape(near)["rsq_leader"] == 1, "the lead of the other")
    assert (scrape(far)["rsq_leader"], scrape(far)["rsq_lease_seconds"]) == (0, 0)
    assert status(far)["leading"] is False
    assert scrape(near)["rsq_leader_epoch"] > before
    near.wait_finished([entry])
    proxy.heal()
    wanted = {"swept taken": 1, "swept suspects": 1, "swept buried": 0, "swept lost": 0}
    for pool in (near, far):
        until(lambda pool=pool: wanted.items() <= scrape(pool).items(), "what was swept")  # type: ignore[misc]
    until(lambda: scrape(near)["rsq_leader_epoch"] == scrape(far)["rsq_leader_epoch"], "one epoch for both")
    assert scrape(far)["rsq_leader_epoch"] > before
    near.wait_settled()
    fleet.stop()
    fleet.assert_exact([entry], restarted={entry: 2})
