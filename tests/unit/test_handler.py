"""The user's contract: a handler is found, or one clear line says why not."""

from __future__ import annotations

import asyncio
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from rsq.streams.entry import Message
from rsq.worker.handler import Handler, load
from rsq.worker.signature import HandlerError
from rsq.worker.verdict import SoftTimeout

MESSAGE = Message([b"1-0", []], None)
Write = Callable[..., None]


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Write]:
    """Return a function that writes a module into the working directory."""
    monkeypatch.chdir(tmp_path)
    before, path = set(sys.modules), list(sys.path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)

    def write(source: str, name: str = "shop_app") -> None:
        (tmp_path / f"{name}.py").write_text(textwrap.dedent(source))

    yield write
    for name in set(sys.modules) - before:
        if name.startswith("shop_"):
            del sys.modules[name]
    sys.path[:] = path


def _error(name: str) -> str:
    with pytest.raises(HandlerError) as caught:
        load(name)
    words = str(caught.value)
    assert "\n" not in words
    return words


def test_a_function_of_the_working_directory(write: Write) -> None:
    write("def handle(message): return message.id")
    handler = load("shop_app:handle")
    assert (handler.name, handler.routes[0].is_async) == ("shop_app:handle", False)
    assert handler.callable(handler.routes[0], 0.0)(MESSAGE) == "1-0"


def test_a_dotted_attribute(write: Write) -> None:
    write("""
        class Mailer:
            def handle(self, message): return "mailed"
        class tasks:
            mailer = Mailer()
        """)
    assert load("shop_app:tasks.mailer.handle").routes[0].function(MESSAGE) == "mailed"


@pytest.mark.parametrize(
    "source",
    [
        "handle = lambda message: None",
        "def handle(message, retries=3, *, loud=False): pass",
        "def handle(*args, **kwargs): pass",
        "class Handle:\n    def __call__(self, message): pass\nhandle = Handle()",
        "import functools\nhandle = functools.partial(print, 'got', end='')",
        "handle = print",
    ],
)
def test_whatever_can_be_called_with_one_message(write: Write, source: str) -> None:
    write(source)
    assert callable(load("shop_app:handle").routes[0].function)


@pytest.mark.parametrize("name", ["shop_app", "shop_app:", ":handle", "", "shop_app.handle"])
def test_a_name_that_names_no_handler(name: str) -> None:
    assert "write MODULE:FUNCTION" in _error(name)


def test_no_such_module(write: Write, tmp_path: Path) -> None:
    assert _error("shop_none:handle") == (
        f"there is no module 'shop_none'; searched {tmp_path} and the Python path"
    )
    assert "there is no module 'shop_none.tasks'" in _error("shop_none.tasks:handle")


def test_a_module_that_misses_another_one_is_not_called_missing(write: Write, tmp_path: Path) -> None:
    """The line names the missing one and where it was wanted."""
    write("x = 1\nimport shop_database")
    words = _error("shop_app:handle")
    assert "module 'shop_app' does not import: ModuleNotFoundError: No module named 'shop_database'" in words
    assert f"({tmp_path}/shop_app.py:2)" in words


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("def handle(message)\n    pass", "SyntaxError"),
        ("raise RuntimeError('two\\nlines')", "RuntimeError: two lines"),
        ("raise SystemExit(0)", "SystemExit: 0"),
        ("raise KeyboardInterrupt", "KeyboardInterrupt"),
        ("1 / 0", "ZeroDivisionError"),
        ("from shop_app import nothing", "ImportError"),
    ],
)
def test_a_module_that_does_not_import(write: Write, source: str, words: str) -> None:
    write(source)
    found = _error("shop_app:handle")
    assert "does not import" in found
    assert words in found


def test_no_such_attribute(write: Write, tmp_path: Path) -> None:
    write("class tasks: pass")
    assert _error("shop_app:handle") == f"there is no 'handle' in shop_app ({tmp_path}/shop_app.py)"
    assert "there is no 'tasks.handle' in shop_app" in _error("shop_app:tasks.handle")


@pytest.mark.parametrize("value", ["3", "'text'", "None", "{}"])
def test_not_callable(write: Write, value: str) -> None:
    write(f"handle = {value}")
    kind = type(eval(value)).__name__
    assert (
        _error("shop_app:handle") == f"shop_app:handle is of type {kind}, not a function that takes a message"
    )


@pytest.mark.parametrize(
    "source",
    [
        "def handle(): pass",
        "def handle(message, database): pass",
        "def handle(*, message): pass",
        "class Tasks:\n    def handle(self, message): pass\nhandle = Tasks.handle",
        "async def handle(): pass",
    ],
)
def test_wrong_arguments(write: Write, source: str) -> None:
    write(source)
    assert "shop_app:handle must take one argument, the message:" in _error("shop_app:handle")


# Async


def _async(write: Write, body: str) -> Handler:
    write(f"import asyncio\nseen = []\n{textwrap.dedent(body)}")
    handler = load("shop_app:handle")
    assert handler.routes[0].is_async
    return handler


def _seen() -> list[Any]:
    seen: list[Any] = sys.modules["shop_app"].seen
    return seen


def test_an_async_handler_is_run_to_its_end_on_one_loop(write: Write) -> None:
    handler = _async(
        write,
        """
        async def handle(message):
            await asyncio.sleep(0)
            seen.append(asyncio.get_running_loop())
        """,
    )
    call = handler.callable(handler.routes[0], 0.0)
    call(MESSAGE)
    call(MESSAGE)
    handler.stop()
    first, second = _seen()
    assert first is second
    assert first.is_closed()


def test_an_object_with_an_async_call_is_async(write: Write) -> None:
    handler = _async(
        write,
        """
        class Handle:
            async def __call__(self, message):
                seen.append(message.id)
        handle = Handle()
        """,
    )
    handler.callable(handler.routes[0], 0.0)(MESSAGE)
    handler.stop()
    assert _seen() == ["1-0"]


def test_the_soft_limit_of_an_async_handler(write: Write) -> None:
    """Its own TimeoutError is not taken for ours."""
    handler = _async(
        write,
        """
        async def handle(message):
            if message.attempt == 1:
                await asyncio.sleep(60)
            raise TimeoutError("the database's")
        """,
    )
    call = handler.callable(handler.routes[0], 0.01)
    with pytest.raises(SoftTimeout, match=r"longer than 0.01 s"):
        call(MESSAGE)
    with pytest.raises(TimeoutError, match="the database's"):
        call(Message([b"1-0", []], None, 2))
    handler.stop()


def test_an_error_of_an_async_handler_is_its_own(write: Write) -> None:
    handler = _async(
        write,
        """
        async def handle(message):
            raise asyncio.CancelledError if message.attempt == 1 else KeyError("x")
        """,
    )
    with pytest.raises(asyncio.CancelledError):
        handler.callable(handler.routes[0], 0.0)(MESSAGE)
    with pytest.raises(KeyError):
        handler.callable(handler.routes[0], 0.0)(Message([b"1-0", []], None, 2))
    handler.stop()


# Hooks


def test_hooks_by_name_and_by_decorator(write: Write) -> None:
    """Starts in the order of the module, stops in the reverse order."""
    write("""
        from rsq.worker.handler import worker_start as at_start, worker_stop as at_stop
        seen = []
        def handle(message): pass
        def worker_start(): seen.append("start by name")
        @at_start
        def connect(): seen.append("connect")
        @at_stop
        def disconnect(): seen.append("disconnect")
        def worker_stop(): seen.append("stop by name")
        """)
    handler = load("shop_app:handle")
    handler.start()
    assert _seen() == ["start by name", "connect"]
    handler.stop()
    assert _seen()[2:] == ["stop by name", "disconnect"]


def test_hooks_that_were_only_imported_to_be_used_are_no_hooks(write: Write) -> None:
    """`from rsq import worker_start` must not call our decorator; a marked hook of another module counts."""
    write(
        """
        from rsq.worker.handler import worker_start, worker_stop
        seen = []
        @worker_start
        def connect(): seen.append("connect")
        """,
        "shop_hooks",
    )
    write("""
        from shop_hooks import connect, seen, worker_start, worker_stop
        def handle(message): pass
        """)
    handler = load("shop_app:handle")
    handler.start()
    handler.stop()
    assert _seen() == ["connect"]


def test_async_hooks_run_on_the_handlers_loop(write: Write) -> None:
    handler = _async(
        write,
        """
        async def worker_start(): seen.append(asyncio.get_running_loop())
        async def handle(message): seen.append(asyncio.get_running_loop())
        async def worker_stop(): seen.append(asyncio.get_running_loop())
        """,
    )
    handler.start()
    handler.callable(handler.routes[0], 0.0)(MESSAGE)
    handler.stop()
    assert len(_seen()) == 3
    assert len(set(_seen())) == 1


# Routers


def test_a_router(write: Write) -> None:
    write("""
        from rsq import Router
        app = Router()
        @app.on("a", "b", max_attempts=7)
        def first(message): return "first"
        @app.default
        async def other(message): return "other"
        def worker_start(): app.started = True
        """)
    handler = load("shop_app:app")
    assert [(route.events, route.is_async) for route in handler.routes] == [(("a", "b"), False), ((), True)]
    handler.start()
    assert sys.modules["shop_app"].app.started
    handler.stop()


def test_a_router_that_cannot_be_used(write: Write, tmp_path: Path) -> None:
    write("""
        from rsq import Router
        empty = Router()
        twice = Router()
        @twice.on("a")
        def one(message): pass
        @twice.on("a")
        def two(message): pass
        """)
    assert _error("shop_app:empty") == (
        "shop_app:empty has no handlers: decorate some with .on(EVENT) or .default"
    )
    assert _error("shop_app:twice") == "shop_app:twice: event 'a' has two handlers, one and two"
    write("from rsq import Router\napp = Router()\n@app.on\ndef one(message): pass", "shop_bare")
    assert _error("shop_bare:app") == (
        f".on needs the name of an event: write .on('order.created') ({tmp_path}/shop_bare.py:3)"
    )
