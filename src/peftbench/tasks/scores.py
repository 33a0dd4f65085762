"""Predictions and references -> scores between 0 and 1: plain functions on plain data."""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Sequence
from statistics import fmean

_ARTICLES = re.compile(r"\b(a|an|the)\b")
_PUNCTUATION = str.maketrans("", "", string.punctuation)


def class_scores(predictions: Sequence[int], references: Sequence[int]) -> dict[str, float]:
    """Return `accuracy` and `macro_f1` (the mean over the classes that occur) of one class an example."""
    from sklearn.metrics import accuracy_score, f1_score

    return {
        "accuracy": float(accuracy_score(references, predictions)),
        "macro_f1": float(f1_score(references, predictions, average="macro", zero_division=0)),
    }


def entity_scores(predictions: Sequence[Sequence[str]], references: Sequence[Sequence[str]]) -> dict[str, float]:
    """Return `precision`, `recall` and `f1` of whole entities, given a BIO tag a word (as seqeval, CoNLL-2003)."""
    from seqeval.metrics import f1_score, precision_score, recall_score

    tags = [list(row) for row in references], [list(row) for row in predictions]
    return {
        "precision": float(precision_score(*tags, zero_division=0)),
        "recall": float(recall_score(*tags, zero_division=0)),
        "f1": float(f1_score(*tags, zero_division=0)),
    }


def answer_scores(predictions: Sequence[str], references: Sequence[Sequence[str]]) -> dict[str, float]:
    """Return `exact_match` and `f1` of answers as SQuAD's script does, but of 1: the best over each one's references.

    A question without a reference has no answer: the empty prediction is right.
    """
    pairs = [(answer, known or [""]) for answer, known in zip(predictions, references, strict=True)]
    return {
        "exact_match": fmean(max(normalize(answer) == normalize(text) for text in known) for answer, known in pairs),
        "f1": fmean(max(word_f1(answer, text) for text in known) for answer, known in pairs),
    }


def normalize(answer: str) -> str:
    """Lower-case; drop punctuation, then articles; single blanks (the order of SQuAD's script)."""
    return " ".join(_ARTICLES.sub(" ", answer.lower().translate(_PUNCTUATION)).split())


def word_f1(prediction: str, reference: str) -> float:
    """Return the harmonic mean of precision and recall of the words, repeated words counted."""
    predicted, true = normalize(prediction).split(), normalize(reference).split()
    if not predicted or not true:
        return float(predicted == true)
    common = (Counter(predicted) & Counter(true)).total()
    return 2 * common / (len(predicted) + len(true))
