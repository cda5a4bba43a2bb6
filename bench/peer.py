"""A peer: its environment, a server that it has filled, and one worker of it under account."""

from __future__ import annotations

import contextlib
import importlib
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import redis

from . import rig, tree
from .adapters import NAMES
from .adapters.account import Account
from .ledger import Ledger, ledger

HERE = Path(__file__).resolve().parent
ENVIRONMENTS = Path("build/peers")
QUIET_S = 12.0  # longer than the shortest time after which a peer takes what a dead worker held
START_S = 60.0  # before the first message is handled
LATE_S = 0.2  # so long is waited for a message that is handled once too often


@dataclass(frozen=True)
class PeerCost(rig.Cost):
    """What a run took, from its first handled message to its last: of all processes, and of the server."""

    server_s: float
    commands: int


class Peer:
    """One peer, by the name of its adapter."""

    def __init__(self, name: str) -> None:
        """Load the adapter, which imports nothing of the peer itself."""
        adapter: Any = importlib.import_module(f".adapters.{name}", __package__)
        self.name = name
        self.title = name.replace("_", "-")
        self.settings: dict[str, str] = adapter.SETTINGS
        self.messages: dict[str, int] = adapter.MESSAGES
        self.cannot: str = adapter.CANNOT
        self.quick: str = getattr(adapter, "QUICK", "default")  # the setting that waits least
        self._packages: tuple[str, ...] = adapter.PACKAGES
        self._alone: bool = getattr(adapter, "ALONE", False)
        self._python = (
            ENVIRONMENTS.resolve() / name / "bin" / "python" if self._alone else Path(sys.executable)
        )

    def install(self) -> None:
        """Make the environment of a peer that cannot share ours; of any other, nothing.

        Raises:
            subprocess.CalledProcessError: it cannot be made, without a network for instance.
        """
        if self._alone and not self._python.exists():
            folder = self._python.parent.parent
            subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
            pip = [str(self._python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
            subprocess.run([*pip, *self._packages], check=True)

    def versions(self) -> str:
        """Return what is installed in which version, empty without the peer."""
        code = (
            "import importlib.metadata as m, sys\n"
            "print(', '.join(f'{name} {m.version(name)}' for name in sys.argv[1:]))"
        )
        if not self._python.exists():
            return ""
        done = subprocess.run(
            [self._python, "-c", code, *self._packages], capture_output=True, text=True, check=False
        )
        return done.stdout.strip()

    def command(self, *words: str) -> list[str]:
        """Return the command line that runs a part of the adapter."""
        return [str(self._python), "-P", "-m", "adapters", *words]

    def environment(self, account: Path, handler: str) -> dict[str, str]:
        """Return the variables for a process that handles messages."""
        paths = [str(HERE), *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
        return {
            **os.environ,
            "PYTHONPATH": os.pathsep.join(str(Path(path).resolve()) for path in paths),
            "RSQ_BENCH_ACCOUNT": str(account),
            "RSQ_BENCH_HANDLER": handler,
        }

    def fill(self, messages: int, folder: Path) -> Path:
        """Let the peer's own producer push so many messages; return a snapshot of the server then."""
        found = folder / f"{self.name}-{messages}.rdb"
        if not found.exists():
            account = folder / "unused"
            Account(account, 1)
            with rig.server(tcp=True) as url:
                words = self.command("send", self.name, url, str(messages))
                subprocess.run(words, env=self.environment(account, "tally"), check=True, cwd=folder)
                client: Any = redis.Redis.from_url(url)
                client.save()
                found.write_bytes((Path(client.config_get("dir")["dir"]) / "dump.rdb").read_bytes())
        return found

    @contextmanager
    def worker(
        self, url: str, setting: str, account: Path, handler: str, starts: Path | None = None
    ) -> Iterator[int]:
        """Run one worker, pinned, and end all its processes afterwards; yield its process id.

        Arguments:
            starts: start the worker again when it ends, and write a line for each start into this file.
        """
        command = self.command("work", self.name, url, setting)
        if starts is not None:
            command = ["sh", "-c", 'while echo >> "$0"; do "$@"; done', str(starts), *command]
        _, core = rig.cores()
        with (
            tempfile.TemporaryDirectory(prefix="rsq-bench-") as folder,
            Path(folder, "log").open("wb") as log,
        ):
            process = subprocess.Popen(
                command,
                env=self.environment(account, handler),
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                preexec_fn=lambda: rig.pin(core),
            )
            try:
                yield process.pid
            except rig.Void as void:
                last = Path(folder, "log").read_text(errors="replace").strip().splitlines()[-8:]
                raise rig.Void("\n".join([f"{self.name}, {setting}: {void}", *last])) from void
            finally:
                tree.end(process.pid)
                process.wait()

    def cost(self, setting: str, messages: int, folder: Path, limit_s: float = 60.0) -> PeerCost:
        """Let one worker handle a filled queue.

        Arguments:
            folder: where snapshots of filled servers are kept from run to run.
            limit_s: a run that takes longer, from its first message on, is void.

        Raises:
            rig.Void: a message was not handled, or more than once, or too few were measured.
        """
        path = folder / f"{self.name}.account"
        account = Account(path, messages)
        with (
            rig.server(tcp=True, data=self.fill(messages, folder)) as url,
            self.worker(url, setting, path, "tally") as pid,
        ):
            client: Any = redis.Redis.from_url(url)
            wait(lambda: account.handled > 0, account, START_S)
            first, used, server, at = account.handled, tree.used_s(pid), counted(client), time.monotonic()
            wait(lambda: account.handled == messages, account, limit_s)
            until, after = time.monotonic(), counted(client)
            used = tree.used_s(pid) - used
            time.sleep(LATE_S)
            check_exactly_once(account)
        if first > messages / 2:
            raise rig.Void(f"{self.name}, {setting}: {messages} messages are too few to be measured")
        return PeerCost(messages - first, used, until - at, after[0] - server[0], int(after[1] - server[1]))

    def waits(self, messages: int, rate: float, folder: Path) -> list[float]:
        """Send so many messages a second to one idle worker; return the seconds that each waited.

        Raises:
            rig.Void: a message was not handled, or more than once.
        """
        path = folder / f"{self.name}.account"
        account = Account(path, messages)
        core, _ = rig.cores()
        with rig.server(tcp=True) as url, self.worker(url, self.quick, path, "timed"):
            sender = subprocess.Popen(
                self.command("pace", self.name, url, str(messages), str(rate)),
                env=self.environment(path, "timed"),
                preexec_fn=lambda: rig.pin(core),
                cwd=folder,
            )
            try:
                wait(lambda: account.handled == messages, account, 30 + messages / rate)
                time.sleep(LATE_S)
                check_exactly_once(account)
            finally:
                sender.kill()
                sender.wait()
        return [begun - sent for begun, sent in zip(account.begun, account.sent, strict=True)]

    def crashes(self, messages: int, folder: Path, limit_s: float) -> Ledger:
        """Let one worker handle a filled queue in which some messages kill the process that handles them.

        Arguments:
            limit_s: a run that takes longer is void.

        Raises:
            rig.Void: it did.
        """
        path, starts = folder / f"{self.name}.account", folder / f"{self.name}.starts"
        account = Account(path, messages)
        starts.unlink(missing_ok=True)
        with (
            rig.server(tcp=True, data=self.fill(messages, folder)) as url,
            self.worker(url, "default", path, "deadly", starts),
        ):
            done, quiet = 0, time.monotonic() + limit_s
            deadline = quiet
            while time.monotonic() < quiet:
                if time.monotonic() > deadline:
                    raise rig.Void(f"after {limit_s:.0f} s there was still something to do")
                time.sleep(0.05)
                if (now := sum(account.times) + sum(account.buried)) != done:
                    done, quiet = now, time.monotonic() + QUIET_S
            words = self.command("letters", self.name, url)
            subprocess.run(words, env=self.environment(path, "tally"), check=True, cwd=folder)
        return ledger(account, len(starts.read_text().splitlines()) - 1)


def wait(true: Callable[[], bool], account: Account, limit_s: float) -> None:
    """Wait until something is true of an account.

    Raises:
        rig.Void: it does not become true.
    """
    deadline = time.monotonic() + limit_s
    while not true():
        if time.monotonic() > deadline:
            raise rig.Void(f"{account.handled} of {account.messages} messages handled in {limit_s:.0f} s")
        time.sleep(0.002)


def check_exactly_once(account: Account) -> None:
    """Make sure that every message was handled once.

    Raises:
        rig.Void: one was not, or more often.
    """
    times = bytes(account.times)
    if times.count(1) != account.messages:
        more = account.messages - times.count(0) - times.count(1)
        raise rig.Void(f"{times.count(0)} messages never handled, {more} more than once")


def counted(client: Any) -> tuple[float, float]:
    """Return the CPU seconds of a server and the commands that it has carried out."""
    cpu, stats = client.info("cpu"), client.info("stats")
    return cpu["used_cpu_user"] + cpu["used_cpu_sys"], float(stats["total_commands_processed"])


def contestants(*more: str) -> tuple[list[Peer], list[str]]:
    """Return the peers that can run here, with notes: their versions, and which cannot."""
    found, notes = [], []
    for name in (*NAMES, *more):
        peer = Peer(name)
        with contextlib.suppress(OSError, subprocess.CalledProcessError):
            peer.install()
        if versions := peer.versions():
            found.append(peer)
            notes.append(f"{peer.title}: {versions}")
        else:
            notes.append(f"{peer.title} is not installed and was not measured")
    return found, notes
