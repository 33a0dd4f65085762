"""Compares two states of the code: makes them ready, runs pairs, and bisects what became worse."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from peftbench.config.options import flag_name
from peftbench.errors import UserError
from peftbench.processes.launches.process import Command
from peftbench.processes.lockstep.bisect import first_worse, origins
from peftbench.processes.lockstep.duel import Duel
from peftbench.processes.lockstep.pair import State
from peftbench.processes.lockstep.places import Place, between
from peftbench.processes.lockstep.states import THIS, Asked, other_state
from peftbench.report import wording
from peftbench.report.numbers import counted

if TYPE_CHECKING:
    from peftbench.config.settings import Settings
    from peftbench.gate.judgement import Judgement
    from peftbench.gate.origin import WorseSince
    from peftbench.processes.launches.launcher import Target


@dataclass(frozen=True, kw_only=True)
class Contest:
    """Compares two states of the code."""

    settings: Settings
    command: Command
    """Command that starts this pytest run again."""
    root: Path
    """Root directory of pytest, inside the repository."""
    cache: Path
    """Folder of work trees and environments."""
    folder: Path
    """Folder for the files of the processes."""
    session: str
    say: Callable[[str], None]

    def judge(self, cases: Sequence[Target]) -> Judgement | None:
        """Compare the two states, and bisect regressions if asked to; None if no pair finished a case.

        Raises:
            UserError: a state cannot be made, or refuses the options of the run.
        """
        settings = self.settings
        places = self._places() if settings.bisect else []
        base, new = self._state("against"), self._state("candidate")
        found = self._duel(base, new, self.folder, cases, strict=settings.strict)
        if found is None or found.comparison is None or not places:
            return found
        worse = {case.id for case in found.comparison.cases if case.verdict == "regressed"}
        suspects = [case for case in cases if case.id in worse]
        return replace(found, origins=self._bisect(base, places, suspects)) if suspects else found

    def _asked(self, name: str) -> Asked | None:
        text = getattr(self.settings, name)
        return Asked(text, flag_name(name)) if text else None

    def _state(self, name: str) -> State:
        asked = self._asked(name)
        return State(name=THIS, command=self.command) if asked is None else self._other(asked)

    def _other(self, asked: Asked) -> State:
        return other_state(asked, self.command, self.root, self.cache, self.say)

    def _duel(
        self, base: State, new: State, folder: Path, cases: Sequence[Target], *, strict: bool = False
    ) -> Judgement | None:
        duel = Duel(base=base, new=new, folder=folder, session=self.session, say=self.say)
        return duel.judge(cases, self.settings.pairs, self.settings.rule, strict=strict)

    def _places(self) -> list[Place]:
        """Return the two states and those between. This may raise UserError, so it comes before measuring."""
        return between(Asked(self.settings.against, flag_name("against")), self._asked("candidate"), self.root)

    def _bisect(self, base: State, places: Sequence[Place], suspects: Sequence[Target]) -> tuple[WorseSince, ...]:
        inner = len(places) - 2
        self.say(f"bisect: {counted(len(suspects), 'case')} worse, {counted(inner, 'state')} between")

        def worse(number: int, ids: Sequence[str]) -> frozenset[str] | None:
            place = places[number]
            chosen = [case for case in suspects if case.id in set(ids)]
            try:
                state = replace(self._other(Asked(place.text)), name=place.name)
                found = self._duel(base, state, self.folder / f"bisect-{number}", chosen)
            except UserError as error:
                self.say(f"bisect: {place.name} is skipped: {error}")
                return None
            if found is None or found.comparison is None:
                self.say(f"bisect: {place.name} is skipped: no case was finished")
                return None
            for case in found.comparison.cases:
                self.say(f"bisect: {place.name}: {case.id} {wording.message(case, found.comparison)}")
            return frozenset(case.id for case in found.comparison.cases if case.verdict == "regressed")

        names = [place.name for place in places]
        found = origins(names, first_worse(len(places), [case.id for case in suspects], worse))
        for origin in found:
            self.say(f"bisect: {origin.case} {origin.sentence}")
        return found
