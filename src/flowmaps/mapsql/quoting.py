"""Write names and texts into SQL, so that nothing in them ends them or is taken for a substitution token. Pure."""

from __future__ import annotations

from flowmaps.errors import InvalidMapConfig

MAX_NAME_BYTES = 63


def quoted_name(name: str) -> str:
    """Return *name* as a quoted identifier in which nothing can be taken for a substitution token."""
    if "\0" in name or not name or len(name.encode("utf-8", "replace")) > MAX_NAME_BYTES:
        raise InvalidMapConfig(f"Invalid column name, it must have 1 to {MAX_NAME_BYTES} bytes")
    doubled = name.replace('"', '""')
    if "!" not in name:
        return f'"{doubled}"'
    return 'U&"{}"'.format(doubled.replace("\\", "\\\\").replace("!", "\\0021"))


def quoted_text(text: str) -> str:
    """Return *text* as a literal in which nothing can be taken for a substitution token."""
    if "\0" in text:
        raise InvalidMapConfig("A text must not hold a NUL character")
    doubled = text.replace("'", "''")
    if "!" not in text and "\\" not in text:
        return f"'{doubled}'"
    return "E'{}'".format(doubled.replace("\\", "\\\\").replace("!", "\\x21"))
