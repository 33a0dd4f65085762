"""Text for people: without what would break a line or command a terminal, and without credentials in addresses."""

from __future__ import annotations

import re
from typing import Final

MASK: Final = "***"
_USER: Final = re.compile(r"(?<=://)[^\s/?#]*@")
"""What stands before the host: a name and a password, or a token."""
_QUERY: Final = re.compile(r"(?P<address>://[^\s?#'\"`]*\?)[^\s#'\"`]+")
"""What follows the path: signatures and tokens, as of a storage's links."""


def printable(text: str) -> str:
    """Return a text with what cannot be printed escaped: names come from files, subjects from commits."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def masked(text: str) -> str:
    """Return a text without the credentials of its addresses: `https://user:token@host/` is `https://***@host/`."""
    if "://" not in text:
        return text
    return _QUERY.sub(rf"\g<address>{MASK}", _USER.sub(f"{MASK}@", text))
