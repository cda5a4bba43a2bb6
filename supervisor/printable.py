"""Bytes and text from outside, made safe to print.

What a producer wrote must not move the cursor, change colours or turn the writing direction on the terminal
of who looks at it.
"""

import json


def printable(value: str | bytes, *, keep: str = "") -> str:
    r"""The text with everything that is not a visible character or a space written as an escape.

    Arguments:
        value: bytes are read as UTF-8; those that are not appear as `\xff`.
        keep: characters to leave as they are, such as a newline in a traceback.
    """
    text = value.decode("utf-8", "backslashreplace") if isinstance(value, bytes) else value
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c in keep else c.encode("unicode_escape").decode() for c in text)


def json_text(value: object, *, indent: int | None = None) -> str:
    """The value as JSON in printable ASCII: it passes through every terminal and every encoding."""
    return json.dumps(value, indent=indent, default=str).replace("\x7f", "\\u007f")


def one_line(value: str | bytes, limit: int | None = None) -> str:
    """The text in one line, white space folded, cut to `limit` characters with an ellipsis."""
    text = value.decode("utf-8", "backslashreplace") if isinstance(value, bytes) else value
    if limit is not None:
        text = text[: 4 * limit]  # escapes only make it longer: the rest cannot show
    text = printable(" ".join(text.split()))
    return text if limit is None or len(text) <= limit else text[: limit - 1] + "…"
