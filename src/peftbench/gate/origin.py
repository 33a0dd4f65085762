"""Where a case became worse, as a search over the states between two has found it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a case became worse."""

    case: str
    before: str
    """The last state at which it was not."""
    at: str
    """The first state at which it is."""
    between: tuple[str, ...] = ()
    """States between the two, of which none could be had."""

    @property
    def sentence(self) -> str:
        """For people."""
        hidden = f", or at one of {len(self.between)} states between, which cannot be had" if self.between else ""
        return f"first worse at {self.at}{hidden}; not yet at {self.before}"
