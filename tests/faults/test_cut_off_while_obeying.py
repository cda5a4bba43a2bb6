"""The connection of a keeper breaks just when it has carried out an order to drain."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from support_pool import Pool, until
from support_proxy import Proxy
from support_servers import Server

ORDERS, ORDER = "rsq:{events}:workers:orders", "drain:test"
HANDLER = "def handle(message): pass\n"


def test_the_order_is_carried_out(
    make_far_pool: Callable[..., Pool], own_server: Server, proxy: Proxy
) -> None:
    """Whether or not the server has heard that it is: the pool ends, and the order is gone."""
    pool = make_far_pool(HANDLER, "--lease", "6")
    pool.start()
    heard, listening = threading.Event(), threading.Event()

    def listen() -> None:
        admin: Any = own_server.client()
        with admin.monitor() as monitor:
            listening.set()
            for said in monitor.listen():
                if said["command"].upper().startswith("HDEL"):
                    proxy.cut()
                    heard.set()
                    return

    threading.Thread(target=listen, daemon=True).start()
    assert listening.wait(30)
    proxy.slow(delay_s=0.15)
    pool.redis.hset(ORDERS, ORDER, "{}")
    pool.redis.rpush("rsq:{events}:workers:inbox:test", "orders")
    assert heard.wait(30)
    proxy.heal()
    assert pool.wait() == 0
    assert "drained by order" in pool.log()
    until(lambda: not pool.redis.hexists(ORDERS, ORDER), "the end of the order")
