"""Trainings of a language model, and the scores of its completions against hand-written ones."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from peftbench.devices.precision import Precision
from peftbench.errors import UnsupportedError, UserError
from peftbench.matrix.cases import parse_method
from peftbench.matrix.catalogue import Catalogue
from peftbench.records.ids import Case
from peftbench.studies.training import completions, single
from peftbench.studies.training.evaluate import evaluate
from peftbench.studies.training.task_data import TaskData
from peftbench.workloads.base import Workbench

OpenBench = Callable[..., Workbench]


@pytest.fixture
def open_decoder(open_bench: OpenBench, tiny_decoder: Path, tiny_completions: Path) -> OpenBench:
    def open_(**changes: object) -> Workbench:
        return open_bench("sft", **{"model": str(tiny_decoder), "data": str(tiny_completions), **changes})

    return open_


def test_a_batch_has_examples_of_similar_length_and_no_more_tokens_than_fit() -> None:
    lengths = [5, 30, 4, 4, 9]
    assert list(completions.batches(lengths, 12)) == [[2, 3], [0], [4], [1]]
    assert list(completions.batches(lengths, 12, most=1)) == [[2], [3], [0], [4], [1]]


def test_scores_are_those_of_a_loop_over_single_rows(open_decoder: OpenBench, monkeypatch: pytest.MonkeyPatch) -> None:
    backend = open_decoder(metric="exact_match").backend
    loaded = TaskData.load(backend, "sft")
    assert loaded.metric == "exact_match"
    monkeypatch.setattr(completions, "LOGITS", 20 * backend.vocabulary.size)  # several batches
    model: Any = backend.new_model(loaded.task, 3)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(4.0)  # so that it is sure of something
    questions = loaded.validation.streamed.args[1]  # type: ignore[union-attr] # a partial
    assert evaluate(model, loaded.validation, collate=loaded.collate, precision=Precision()) == pytest.approx(
        _by_hand(model.eval(), loaded, questions)
    )


@torch.no_grad()
def _by_hand(model: Any, loaded: TaskData, questions: completions.Questions) -> dict[str, float]:  # noqa: ANN401
    loss = right = count = matches = 0.0
    for feature, prompt, expected in zip(
        loaded.validation.features, questions.prompts, questions.expected, strict=True
    ):
        ids = torch.tensor([feature["input_ids"]])
        predicted = model(input_ids=ids).logits[0].log_softmax(-1)
        for place in range(len(prompt), ids.shape[1]):
            loss -= float(predicted[place - 1, ids[0, place]])
            right += int(predicted[place - 1].argmax() == ids[0, place])
            count += 1
        said = list(prompt)
        for _ in range(questions.most_tokens):
            said.append(int(model(input_ids=torch.tensor([said])).logits[0, -1].argmax()))
            if said[-1] == questions.tokenizer.eos_token_id:
                break
        answer = questions.tokenizer.decode(said[len(prompt) :], skip_special_tokens=True)
        matches += answer.strip() == expected
    perplexity = math.exp(loss / count)
    rows = len(questions.prompts)
    scores = {"token_accuracy": right / count, "completion_loss": loss / count}
    return {**scores, "perplexity": perplexity, "exact_match": matches / rows}


@pytest.mark.parametrize("packing", [False, True])
def test_a_training_learns_to_answer(
    packing: bool,  # noqa: FBT001 - a parameter of the test
    open_decoder: OpenBench,
    training_case: Callable[..., Case],
) -> None:
    bench = open_decoder(
        metric="exact_match", epochs=48 if packing else 16, eval_every=12, packing=packing, stop="budget", seq_len=24
    )
    found = single.train_once(training_case("full", "sft", lr=1e-2), bench, None)
    assert found.metrics["quality"].value == found.metrics["exact_match"].value == 1.0
    assert found.metrics["perplexity"].value == pytest.approx(math.exp(found.metrics["completion_loss"].value or 0))
    assert found.metrics["completion_loss"].unit == "nat"
    assert found.metrics["completion_loss"].better == "lower"
    assert found.curve[0].scores["perplexity"] > 1.5
    assert found.curve[-1].scores["perplexity"] < 1.2
    assert found.metrics["trainable_head"].value == 0


def test_a_prompt_is_answered_and_judged_by_tokens_with_an_adapter(
    open_decoder: OpenBench, training_case: Callable[..., Case]
) -> None:
    bench = open_decoder(epochs=1, eval_every=6)
    for method in ("lora", "prompt-tuning"):
        found = single.train_once(training_case(method, "sft"), bench, None)
        assert found.metrics["quality"].value == found.metrics["token_accuracy"].value
        assert "exact_match" not in found.metrics
    answering = open_decoder(epochs=0.1, eval_every=1, metric="exact_match")
    assert single.train_once(training_case("prompt-tuning", "sft"), answering, None).metrics["exact_match"].value == 0


def test_a_training_refuses_what_adapts_a_sequence_as_a_whole_where_examples_share_one_or_there_is_no_room(
    open_decoder: OpenBench, training_case: Callable[..., Case]
) -> None:
    bench, room = open_decoder(packing=True, seq_len=24), open_decoder(seq_len=50, pad_to_length=True)
    for method in ("prompt-tuning", "cpt", "alora(alora_invocation_tokens=5)"):
        with pytest.raises(UnsupportedError, match=r"not (before|from) each packed example"):
            single.train_once(training_case(method, "sft"), bench, None)
    with pytest.raises(UnsupportedError, match="puts 20 tokens before 50, and the model has positions for 64"):
        single.train_once(training_case("prompt-tuning", "sft"), room, None)


@pytest.mark.parametrize(
    ("row", "answers", "problem"),
    [
        ({"text": "the queen"}, "whole", "has no prompt to be answered: exact_match needs prompt and completion"),
        ({"prompt": "a", "completion": "b"}, "last-number", "its answer holds nothing that --peftbench-answers=last"),
    ],
)
def test_an_answer_that_cannot_be_compared_is_named_by_file_and_line(
    row: dict[str, str], answers: str, problem: str, open_decoder: OpenBench, tmp_path: Path
) -> None:
    (tmp_path / "sft").mkdir()
    for split in ("train", "validation"):
        rows = [{"prompt": "the", "completion": "1"}, row]
        (tmp_path / "sft" / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    bench = open_decoder(data=str(tmp_path), metric="exact_match", answers=answers)
    with pytest.raises(UserError) as error:
        TaskData.load(bench.backend, "sft")
    assert str(error.value).startswith(f"{tmp_path / 'sft' / 'validation.jsonl'}, line 2: {problem}")


def test_a_language_model_is_not_trained_with_other_tasks_on_one_encoder(
    open_decoder: OpenBench, catalogue: Catalogue
) -> None:
    study, bench = catalogue.workload("multitask"), open_decoder()
    cases = [Case(parse_method("full"), task, 8) for task in ("nli", "sft")]
    with pytest.raises(UserError, match="multitask gives each task a head on one encoder, and sft has none of its own"):
        study.check(bench.backend, study.expand(cases, bench.backend.settings))
