"""Whether the path of a message has become slower than the figures beside this file say.

python -m rsq.bench.regress --accept     measure, and take over what was found

Instructions are counted, not seconds, where valgrind is installed: they hardly differ from run to run, on
however busy a machine. Elsewhere it is CPU time. Either is compared as a ratio to the raw loop, found in the
same way: another build of Python or of a library changes both.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import shutil
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

import redis

from . import rig
from .answer import Answer, Figure, Scale, ratios

QUESTION = "Is the path of a message longer than it was?"
METHOD = (
    "A worker without a pool and the raw loop, each over a preloaded stream, under valgrind: instructions of"
    " a long run less those of a short one, by the messages between. Start and drain cancel out. The ratio"
    " of both is compared with the figure committed in bench/regress.json."
)
METHOD_TIME = (
    "There is no valgrind here, so CPU seconds are compared: a pool's worker against the raw loop, as in"
    " `throughput`, with the figure committed in bench/regress.json."
)
COMMITTED = Path(__file__).with_name("regress.json")
SHORT, LONG, MESSAGES = 10_000, 40_000, 200_000
MARGINS = {"instructions": 1.02, "CPU seconds": 1.15}
HERE = "{} {}.{} {}".format(platform.python_implementation(), *sys.version_info[:2], platform.machine())
_EPOCH_MS, _EACH_MS = 1_700_000_000_000, 20
_COUNT = re.compile(r"I\s+refs:\s+([\d,]+)")


def answer(scale: Scale) -> Answer:
    """Measure, and compare with what is committed for this Python and processor."""
    has_valgrind = shutil.which("valgrind") is not None
    what = "instructions" if has_valgrind else "CPU seconds"
    ours, raw = instructions() if has_valgrind else seconds(scale)
    found = ratios(ours, raw)
    figures = [Figure(f"{what} against the raw loop", found, "times")]
    notes = []
    before = committed().get(HERE, {}).get(what)
    if before is None:
        words = f"Nothing is committed for {HERE}: python -m rsq.bench.regress --accept."
    else:
        now = statistics.median(found)
        changed = tuple(one / before for one in found)
        figures.append(Figure("that, against what is committed", changed, "times", at_most=MARGINS[what]))
        words = f"The path changed by {now / before - 1:+.1%}: committed is {before:g} times the raw loop."
    notes.append(words)
    unit = "instructions a message" if has_valgrind else "us a message"
    figures += [Figure("the worker", ours, unit), Figure("the raw loop", raw, unit)]
    method = METHOD if has_valgrind else METHOD_TIME
    return Answer("regress", QUESTION, method, tuple(figures), notes=tuple(notes))


def committed() -> dict[str, dict[str, float]]:
    """Return by Python and processor what a message may cost, as ratios to the raw loop."""
    found: dict[str, dict[str, float]] = json.loads(COMMITTED.read_text())
    return found


def instructions() -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return instructions per message of the worker and of the raw loop.

    Counted once, and always with the same numbers of messages: then it is the same to a thousandth.
    """
    with rig.server() as url:
        found = []
        for words in (("alone", url, "{}"), ("raw", "ahead", url)):
            short, long = (counted(url, words, messages) for messages in (SHORT, LONG))
            found.append((long - short) / (LONG - SHORT))
    return (found[0],), (found[1],)


def counted(url: str, words: tuple[str, ...], messages: int) -> int:
    """Return how many instructions a module of this folder needs from its start to its end.

    Arguments:
        url: of the server, which is filled before.
        words: the module's name, then its arguments; `{}` is the number of messages.
        messages: to preload.

    Raises:
        rig.Void: it did not handle all messages.
    """
    preload(url, messages)
    module, *arguments = (word.format(messages) for word in words)
    command = [
        "valgrind", "--tool=cachegrind", "--cache-sim=no", "--cachegrind-out-file=/dev/null",
        sys.executable, "-m", f"rsq.bench.{module}", *arguments,
    ]  # fmt: skip
    environment = {**os.environ, "PYTHONHASHSEED": "0"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    rig.check_all_acknowledged(url, messages)
    said = _COUNT.search(done.stderr)
    assert said, done.stderr
    return int(said[1].replace(",", ""))


def preload(url: str, messages: int) -> None:
    """Fill the stream with messages whose ids, and so their lengths, are the same every time."""
    client: Any = redis.Redis.from_url(url)
    client.flushall()
    pipe = client.pipeline(transaction=False)
    body = json.dumps(rig.PAYLOAD, separators=(",", ":"))
    for at in range(messages):
        pipe.xadd(rig.STREAM, {"data": body}, id=f"{_EPOCH_MS + at // _EACH_MS}-{at % _EACH_MS}")
    pipe.execute()
    client.xgroup_create(rig.STREAM, rig.GROUP, "0")


def seconds(scale: Scale) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return CPU microseconds per message of a pool's worker and of the raw loop, in turn."""
    messages = scale.messages(MESSAGES)
    ours, raw = [], []
    with rig.server() as url:
        for _ in range(scale.runs):
            rig.preload(url, messages)
            ours.append(rig.pool_cost(url, messages).us)
            rig.preload(url, messages)
            raw.append(rig.measured(["-m", "rsq.bench.raw", "ahead", url]).us)
    return tuple(ours), tuple(raw)


def main() -> int:
    """Take over what is found."""
    parser = argparse.ArgumentParser(prog="python -m rsq.bench.regress", description=QUESTION)
    parser.add_argument("--accept", action="store_true", required=True, help="commit what is found now")
    parser.parse_args()
    found = answer(Scale())
    (figure,) = [one for one in found.figures if one.what.endswith("against the raw loop")]
    what = figure.what.removesuffix(" against the raw loop")
    figures = committed()
    figures.setdefault(HERE, {})[what] = round(figure.median, 3)
    COMMITTED.write_text(json.dumps(figures, indent=1, sort_keys=True) + "\n")
    print(f"{HERE}: {what} are {figure.median:.3f} times those of the raw loop; written to {COMMITTED}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
