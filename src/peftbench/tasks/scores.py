"""Scores between 0 and 1 of predictions, given references: plain functions on plain data."""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from statistics import fmean
from types import MappingProxyType
from typing import Final

_ARTICLES = re.compile(r"\b(a|an|the)\b")
_NUMBER = re.compile(r"-?\d[\d,]*(?:\.\d+)?")
_PUNCTUATION = str.maketrans("", "", string.punctuation)


def class_scores(predictions: Sequence[int], references: Sequence[int]) -> dict[str, float]:
    """Return `accuracy` and `macro_f1` (the mean over the classes that occur), given one class for each example."""
    from sklearn.metrics import accuracy_score, f1_score

    return {
        "accuracy": float(accuracy_score(references, predictions)),
        "macro_f1": float(f1_score(references, predictions, average="macro", zero_division=0)),
    }


def entity_scores(predictions: Sequence[Sequence[str]], references: Sequence[Sequence[str]]) -> dict[str, float]:
    """Return `precision`, `recall` and `f1` of whole entities, given the BIO tag of each word (seqeval, CoNLL-2003)."""
    from seqeval.metrics import f1_score, precision_score, recall_score

    tags = [list(row) for row in references], [list(row) for row in predictions]
    return {
        "precision": float(precision_score(*tags, zero_division=0)),
        "recall": float(recall_score(*tags, zero_division=0)),
        "f1": float(f1_score(*tags, zero_division=0)),
    }


def answer_scores(predictions: Sequence[str], references: Sequence[Sequence[str]]) -> dict[str, float]:
    """Return `exact_match` and `f1` of answers, as SQuAD's script but between 0 and 1.

    The best of a question's references counts. A question without a reference has no answer, so an empty prediction is
    right.
    """
    pairs = [(answer, known or [""]) for answer, known in zip(predictions, references, strict=True)]
    return {
        "exact_match": fmean(max(normalize(answer) == normalize(text) for text in known) for answer, known in pairs),
        "f1": fmean(max(word_f1(answer, text) for text in known) for answer, known in pairs),
    }


def normalize(answer: str) -> str:
    """Return the answer in lower case, without punctuation and articles, with single blanks (as SQuAD's script)."""
    return " ".join(_ARTICLES.sub(" ", answer.lower().translate(_PUNCTUATION)).split())


def word_f1(prediction: str, reference: str) -> float:
    """Return the harmonic mean of precision and recall of the words. A repeated word counts each time."""
    predicted, true = normalize(prediction).split(), normalize(reference).split()
    if not predicted or not true:
        return float(predicted == true)
    common = (Counter(predicted) & Counter(true)).total()
    return 2 * common / (len(predicted) + len(true))


def whole_answer(text: str) -> str:
    """Return an answer without the blanks around it."""
    return text.strip()


def last_number(text: str) -> str | None:
    """Return the last number of an answer, as GSM8K is scored; None if there is none.

    Commas within it do not count, nor zeros that change nothing: `$1,250.00` and `1250` are one number.
    """
    found = _NUMBER.findall(text)
    if not found:
        return None
    number: str = found[-1].replace(",", "")
    return number.rstrip("0").rstrip(".") if "." in number else number


READINGS: Final[Mapping[str, Callable[[str], str | None]]] = MappingProxyType(
    {"whole": whole_answer, "last-number": last_number}
)
"""How an answer is read before it is compared: all of it, or the last number in it. None: there is nothing to read."""
