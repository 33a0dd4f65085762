"""The state at which a case became worse, as a bisection found it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class WorseSince:
    """The state at which a case became worse."""

    case: str
    before: str
    """Last state at which the case was not worse."""
    at: str
    """First state at which the case is worse."""
    between: tuple[str, ...] = ()
    """States between the two. None of them could be made."""

    @property
    def sentence(self) -> str:
        """The origin as text for people."""
        hidden = f", or at one of {len(self.between)} states between, which cannot be had" if self.between else ""
        return f"first worse at {self.at}{hidden}; not yet at {self.before}"
