"""How long a slot waits before its next process. Pure."""

from __future__ import annotations

FIRST_S = 0.25
MAX_S = 30.0


def pause_s(fruitless: int) -> float:
    """Return the seconds to wait after a process that died.

    Arguments:
        fruitless: how many processes in a row have died in this slot without finishing an entry. The
            first one is replaced at once: what crashed it was most likely a message.
    """
    if fruitless <= 1:
        return 0.0
    return float(min(MAX_S, FIRST_S * 2 ** min(fruitless - 2, 30)))
