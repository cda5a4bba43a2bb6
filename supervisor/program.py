"""What the log says of the program that runs: module, path, version."""

from __future__ import annotations

import contextlib
import importlib.metadata
import platform
import sys
from pathlib import Path
from types import ModuleType

from .. import __version__
from .given import take


def code_of(handler: str) -> str:
    """Return which code an imported handler is: its name, the path of its module, its version if it has one.

    Arguments:
        handler: module:attribute.
    """
    name = handler.partition(":")[0]
    module = sys.modules.get(name)
    path = getattr(module, "__file__", None)
    if module is None or not path:
        return handler
    version = ""
    with contextlib.suppress(Exception):  # what is installed may be in any state
        version = _version(name.partition(".")[0], Path(path))
    return f"{handler} of {path}" + (f" ({version})" if version else "")


def surroundings() -> str:
    """Return where and by what it is run."""
    return f"in {take().directory}, by rsq-supervisor {__version__} and Python {platform.python_version()}"


def _version(top: str, path: Path) -> str:
    """Return name and version of a module's distribution; else what its package says of itself."""
    names = [top]
    if {"site-packages", "dist-packages"} & set(path.parts):
        names += importlib.metadata.packages_distributions().get(top, [])
    for name in names:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found = importlib.metadata.distribution(name)
            home = Path(str(found.locate_file("")))
            editable = '"editable": true' in (found.read_text("direct_url.json") or "")
            if editable or path.is_relative_to(home):
                return f"{found.metadata['Name']} {found.version}"
    package: ModuleType | None = sys.modules.get(top)
    version = getattr(package, "__version__", "")
    return f"{top} {version}" if isinstance(version, str) and version else ""
