"""Credentials in addresses are not shown and not stored: `https://user:token@host/` becomes `https://***@host/`."""

from __future__ import annotations

import re
from typing import Final

MASK: Final = "***"
_USER: Final = re.compile(r"(?<=://)[^\s/?#]*@")
"""What stands before the host: a name and a password, or a token."""
_QUERY: Final = re.compile(r"(?P<address>://[^\s?#'\"`]*\?)[^\s#'\"`]+")
"""What follows the path: signatures and tokens, as of a storage's links."""


def masked(text: str) -> str:
    """Return a text without the credentials of the addresses in it."""
    if "://" not in text:
        return text
    return _QUERY.sub(rf"\g<address>{MASK}", _USER.sub(f"{MASK}@", text))
