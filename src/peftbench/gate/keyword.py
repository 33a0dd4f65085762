"""Reads pytest's `-k` expressions on case ids: `and`, `or`, `not`, parentheses, and parts of ids."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Final

from peftbench.errors import UserError, shown

Predicate = Callable[[str], bool]

_TOKEN: Final = re.compile(r"(?P<word>[\w:+\-.\[\]\\/]+)|(?P<bracket>[()])|(?P<space>\s+)|(?P<other>.)")
"""One token of an expression. A word may have the same characters as in pytest."""
_BINDING: Final = {"or": 1, "and": 2, "not": 3}
"""How strongly each operator binds."""


def matcher(expression: str) -> Predicate:
    """Return a function that tells whether an id matches. An empty expression matches all ids; case is ignored.

    Raises:
        UserError: the expression cannot be read; the message gives the column.
    """
    if not expression.strip():
        return lambda _: True
    steps = tuple(_postfix(expression))
    return lambda name: _holds(steps, name.lower())


def _postfix(expression: str) -> list[tuple[str, str]]:
    """Return the expression in postfix order: kind and text of each step, with an operator after its operands.

    `not` binds most, `or` least. There is no recursion, so that deep expressions do not exhaust the stack.
    """
    steps: list[tuple[str, str]] = []
    waiting: list[str] = []  # operators and opening brackets without their right side so far
    depth, operand = 0, True

    def settle(least: int) -> None:
        while waiting and waiting[-1] != "(" and _BINDING[waiting[-1]] >= least:
            steps.append(("operator", waiting.pop()))

    for match in [match for match in _TOKEN.finditer(expression) if not match["space"]]:
        token = match.group()
        if operand and token in ("not", "("):
            waiting.append(token)
            depth += token == "("
        elif operand and match["word"] and token not in _BINDING:
            steps.append(("word", token.lower()))
            settle(_BINDING["not"])
            operand = False
        elif not operand and token in ("and", "or"):
            settle(_BINDING[token])
            waiting.append(token)
            operand = True
        elif not operand and token == ")" and depth:
            settle(0)
            waiting.pop()
            depth -= 1
            settle(_BINDING["not"])
        else:
            raise _error(expression, _expected(operand, depth), match.start(), f"found {token!r}")
    if operand or depth:
        raise _error(expression, _expected(operand, depth), len(expression), "found the end")
    settle(0)
    return steps


def _expected(operand: bool, depth: int) -> str:  # noqa: FBT001 - the parser's state
    if operand:
        return "expected a word, `not` or ("
    return "expected )" if depth else "expected `and`, `or` or the end"


def _error(expression: str, problem: str, at: int, found: str) -> UserError:
    return UserError(f"-k {shown(expression)}: column {at + 1}: {problem}, {found}")


def _holds(steps: Iterable[tuple[str, str]], name: str) -> bool:
    found: list[bool] = []
    for kind, text in steps:
        if kind == "word":
            found.append(text in name)
        elif text == "not":
            found.append(not found.pop())
        else:
            right, left = found.pop(), found.pop()
            found.append(left and right if text == "and" else left or right)
    return found.pop()
