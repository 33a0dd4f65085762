"""pytest's `-k` expressions on case ids: `and`, `or`, `not`, parentheses, and words that are parts of an id."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final

from peftbench.errors import UserError

Predicate = Callable[[str], bool]

_TOKEN: Final = re.compile(r"(?P<word>[\w:+\-.\[\]\\/]+)|(?P<bracket>[()])|(?P<space>\s+)|(?P<other>.)")
"""The characters of a word are those of pytest."""


def matcher(expression: str) -> Predicate:
    """Return what tells whether an id matches; an empty expression matches all. Case does not count.

    Raises:
        UserError: the expression cannot be read; says where.
    """
    if not expression.strip():
        return lambda _: True
    parser = _Parser(expression)
    found = parser.alternatives()
    if parser.token:
        raise parser.error("expected `and`, `or` or the end")
    return lambda name: found(name.lower())


class _Parser:
    """Recursive descent: `or` binds less than `and`, and `and` less than `not`."""

    def __init__(self, expression: str) -> None:
        self._expression = expression
        self._tokens = [match for match in _TOKEN.finditer(expression) if not match["space"]]
        self._next = 0

    @property
    def token(self) -> str:
        """The present token, '' at the end."""
        return self._tokens[self._next].group() if self._next < len(self._tokens) else ""

    def error(self, problem: str) -> UserError:
        """Return the error of the present token."""
        column = self._tokens[self._next].start() + 1 if self.token else len(self._expression) + 1
        found = f"found {self.token!r}" if self.token else "found the end"
        return UserError(f"-k {self._expression!r}: column {column}: {problem}, {found}")

    def advance(self) -> str:
        """Return the present token, and move on to the next one."""
        token = self.token
        self._next += 1
        return token

    def alternatives(self) -> Predicate:
        left = self.conjunction()
        while self.token == "or":
            self.advance()
            left = _or(left, self.conjunction())
        return left

    def conjunction(self) -> Predicate:
        left = self.negation()
        while self.token == "and":
            self.advance()
            left = _and(left, self.negation())
        return left

    def negation(self) -> Predicate:
        if self.token == "not":
            self.advance()
            return _not(self.negation())
        if self.token == "(":
            self.advance()
            inner = self.alternatives()
            if self.token != ")":
                raise self.error("expected )")
            self.advance()
            return inner
        if self.token in ("", "and", "or") or not self._tokens[self._next]["word"]:
            raise self.error("expected a word, `not` or (")
        return _contains(self.advance().lower())


def _or(left: Predicate, right: Predicate) -> Predicate:
    return lambda name: left(name) or right(name)


def _and(left: Predicate, right: Predicate) -> Predicate:
    return lambda name: left(name) and right(name)


def _not(inner: Predicate) -> Predicate:
    return lambda name: not inner(name)


def _contains(word: str) -> Predicate:
    return lambda name: word in name
