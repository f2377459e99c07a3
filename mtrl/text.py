"""How text that may come from anywhere is shown."""

from unicodedata import category

_LONGEST = 5000


def printable(text: object) -> str:
    """Return ``text`` as one line that is safe to show, whoever wrote it.

    Line breaks and tabs become spaces; every other character that is not seen (a terminal obeys some of them, some
    turn the reading order) and half a character of a damaged file name is a question mark; far too long a text is cut.
    """
    found = str(text)
    found = found if len(found) <= _LONGEST else f"{found[:_LONGEST]}..."
    seen = (c if c.isprintable() or category(c) == "Zs" else " " if c.isspace() else "?" for c in found)
    return "".join(seen)
