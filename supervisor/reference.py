"""The configuration reference, made from the options themselves: `python -m rsq.supervisor.reference`."""

from __future__ import annotations

from typing import Any

from .cli import command

HEAD = """# Configuration

<!-- made by `make docs` from supervisor/cli.py: do not edit -->

    rsq-supervisor [OPTIONS] MODULE:HANDLER

Every setting is an option, an environment variable and a key of the TOML file that `--config` (or
`RSQ_CONFIG`) names. An option wins over the variable, the variable over the file, the file over the default.
In a file with `[[pool]]` tables (see [several pools](pools.md)) what stands in a table goes before what
stands above the tables. A wrong value, an unknown option and an unknown key are one line on standard error
and exit code 78, before anything is read from Redis.

| option | variable | TOML key | default | meaning |
| --- | --- | --- | --- | --- |
"""


def markdown() -> str:
    """Return the whole page."""
    return HEAD + "".join(_row(parameter) for parameter in command.params if _row(parameter))


def _row(parameter: Any) -> str:
    name = parameter.name or ""
    if parameter.param_type_name == "argument":
        text = "The function to call: module and attribute."
        return f"| `{parameter.metavar}` | `{parameter.envvar}` | `{name}` | required | {text} |\n"
    if parameter.envvar is None:
        return ""
    options = "` / `".join((*parameter.opts, *parameter.secondary_opts))
    value = "" if parameter.is_flag else f" {parameter.metavar or parameter.type.name.upper().split()[0]}"
    key = "" if name in ("config", "pool") else f"`{name.replace('_', '-')}`"
    text = (parameter.help or "").replace("|", "\\|")
    if hasattr(parameter.type, "choices"):
        value = " " + "\\|".join(parameter.type.choices)
    return f"| `{options}{value}` | `{parameter.envvar}` | {key} | {_default(parameter)} | {text} |\n"


def _default(parameter: Any) -> str:
    if isinstance(parameter.show_default, str):
        return parameter.show_default
    if parameter.is_flag:
        return "yes" if parameter.default is True else "no"
    number = parameter.default
    if isinstance(number, float) and number.is_integer():
        number = int(number)
    return "" if number is None or type(number).__name__ == "Sentinel" else f"`{number}`"


if __name__ == "__main__":
    print(markdown(), end="")  # noqa: T201
