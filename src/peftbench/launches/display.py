from __future__ import annotations


def message(verdict):
    return f"{verdict.id} {verdict.verdict} {verdict.time}"


def suite_message(verdict):
    return str(verdict)


def terminal(judgement, width, color):
    return str(judgement.comparison)


def write(outcome, settings):
    pass
