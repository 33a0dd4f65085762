"""What a round of generation answers, whatever state its adapter is in, and how large its cache is."""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace
from typing import Any, cast

import pytest
import torch
from tests.unit.workloads.conftest import MakeSubject

from peftbench.config.settings import Settings
from peftbench.devices.execution import Execution
from peftbench.errors import UnsupportedError
from peftbench.matrix.cases import parse_method
from peftbench.matrix.catalogue import Catalogue
from peftbench.measure.counters.counting import count
from peftbench.records.ids import Case
from peftbench.workloads.backend import Backend
from peftbench.workloads.generation.base import Generation
from peftbench.workloads.generation.inputs import rows_of
from peftbench.workloads.generation.rewinding_cache import RewindingCache, filled_cache
from peftbench.workloads.generation.rounds import WORKLOADS
from peftbench.workloads.subject import Subject

BY_NAME = {workload.name: cast("Generation", workload) for workload in WORKLOADS}
LORA = "lora(init_lora_weights=false)"
"""LoRA that changes the answers before it is trained."""
TOKEN_BYTES = 2 * 2 * 2 * 32 * 4
"""Bytes of one token of one row in the cache of tiny-llama: keys and values, 2 layers, 2 heads of 32, float32."""
ROWS, PROMPT, NEW = 2, 12, 5


@pytest.fixture(scope="module")
def lora(subject_of: MakeSubject) -> Subject:
    return subject_of(LORA, "sft", model="tiny-llama")


def workload(name: str, adapter: str = "active") -> Generation:
    lengths = {"prefill": {"prompt": PROMPT}, "decode": {"cache": PROMPT}, "generate": {"prompt": PROMPT, "new": NEW}}
    changes: dict[str, Any] = {**lengths[name], "adapter": adapter}
    return replace(BY_NAME[name], **changes)


@torch.no_grad()
def answers(model: Any, prompt: torch.Tensor, new: int) -> torch.Tensor:  # noqa: ANN401 - a model of transformers
    """Return greedy answers, computed without a cache, [rows, new]."""
    tokens = prompt
    for _ in range(new):
        chosen = model(input_ids=tokens, use_cache=False).logits[:, -1].argmax(-1, keepdim=True)
        tokens = torch.cat((tokens, chosen), dim=1)
    return tokens[:, prompt.shape[1] :]


def plain_or_adapted(subject: Subject, adapter: str) -> torch.nn.Module:
    return subject.fresh_model().eval() if adapter == "disabled" else subject.applied_model().eval()


@pytest.mark.parametrize("adapter", ["active", "merged", "disabled"])
@pytest.mark.parametrize("name", ["prefill", "decode", "generate"])
def test_each_round_answers_as_the_model_does_without_a_cache(name: str, adapter: str, lora: Subject) -> None:
    expected = plain_or_adapted(lora, adapter)
    own = sum("lora_" in key for key in dict(lora.applied_model().named_parameters()))
    held = {"prefill": PROMPT, "decode": PROMPT + 1, "generate": PROMPT + NEW - 1}[name]
    with closing(workload(name, adapter).trial(lora)) as trial:
        assert sum("lora_" in key for key in dict(trial.model.named_parameters())) == (
            0 if adapter == "merged" else own
        )
        for number in (0, 1, 2, 5):
            batch = lora.batches[0 if name == "decode" else number % 4]
            found = cast("torch.Tensor", trial.run(number, lambda: None))
            if name == "generate":
                prompt = rows_of(batch, PROMPT)
                assert torch.equal(found, torch.cat((prompt, answers(expected, prompt, NEW)), dim=1))
            else:
                prompt = rows_of(batch, PROMPT + (name == "decode"))
                assert torch.equal(found[:, None], answers(expected, prompt, 1))
        assert trial.metrics["cache_bytes"].value == ROWS * held * TOKEN_BYTES
        assert trial.cache_bytes == (0 if name == "generate" else ROWS * held * TOKEN_BYTES)


def test_the_states_of_an_adapter_have_other_answers_than_the_plain_model(lora: Subject) -> None:
    prompt = rows_of(lora.batches[0], PROMPT)
    adapted, plain = (answers(plain_or_adapted(lora, state), prompt, NEW) for state in ("active", "disabled"))
    assert not torch.equal(adapted, plain)


def test_a_disabled_adapter_is_active_again_when_its_trial_is_closed(lora: Subject) -> None:
    from peft.tuners.tuners_utils import BaseTunerLayer

    trial = workload("decode", "disabled").trial(lora)
    layers = [module for module in trial.model.modules() if isinstance(module, BaseTunerLayer)]
    assert layers
    assert all(layer.disable_adapters for layer in layers)
    trial.close()
    assert not any(layer.disable_adapters for layer in layers)


def test_the_counters_of_a_token_are_exact_and_do_not_depend_on_the_rounds_before(lora: Subject) -> None:
    with closing(workload("decode").trial(lora)) as trial:
        trial.run(0, lambda: None)
        first, second = (count(lambda: trial.run(4, lambda: None), trial.model, heads=frozenset()) for _ in range(2))
    assert first == second
    # Two FLOPs for each weight of a matrix product and row. The embeddings are tied: read once, multiplied once.
    model = lora.applied_model()
    weights = sum(p.numel() for p in model.parameters() if p.dim() == 2)
    attention = 2 * 2 * 2 * 128 * (PROMPT + 1)  # of each row: 2 layers, scores and sums over 128 units
    assert first.operators.flops == ROWS * (2 * weights + attention)


@pytest.mark.parametrize("compiled", [False, True])
def test_generate_is_compiled_in_its_first_round_and_only_if_asked_for(
    subject_of: MakeSubject, monkeypatch: pytest.MonkeyPatch, *, compiled: bool
) -> None:
    modes: list[object] = []

    def compile_nothing(function: object, **options: object) -> object:
        modes.append(options["mode"])
        return function

    monkeypatch.setattr(torch, "compile", compile_nothing)
    monkeypatch.setenv("TOKENIZERS_PARALLELISM", "false")  # `generate` sets it
    with closing(
        workload("generate").trial(
            subject_of("full", "sft", model="tiny-llama", execution="compile" if compiled else "eager")
        )
    ) as trial:
        assert modes == []
        for number in range(2):
            trial.run(number, lambda: None)
    assert modes == (["default"] if compiled else [])


def test_rows_are_repeated_to_a_length_and_hold_no_padding() -> None:
    batch = {"input_ids": torch.tensor([[5, 6, 7], [8, 9, 0]]), "attention_mask": torch.tensor([[1, 1, 1], [1, 1, 0]])}
    assert rows_of(batch, 5).tolist() == [[5, 6, 7, 5, 6], [8, 9, 8, 9, 8]]
    assert rows_of(batch, 2).tolist() == [[5, 6], [8, 9]]


def test_a_case_for_each_length_and_each_state_of_an_adapter() -> None:
    settings = Settings(prompt_tokens=(16, 64), new_tokens=(8,), cache_tokens=(32,))
    cases = [Case(parse_method(method), "sft", 1) for method in ("full", "lora")]
    assert [case.id for case in BY_NAME["generate"].expand(cases, settings)] == [
        f"{method}-sft-bs1-prompt{prompt}-new8{state}"
        for prompt in (16, 64)
        for method, state in (("full", ""), ("lora", ""), ("lora", "-adaptermerged"), ("lora", "-adapterdisabled"))
    ]
    assert [case.id for case in BY_NAME["decode"].expand(cases[:1], settings)] == ["full-sft-bs1-cache32"]


def test_cases_that_cannot_be_measured_say_why() -> None:
    catalogue = Catalogue.load()
    backend = Backend.open(Settings(model="tiny", device="cpu"), catalogue, [catalogue.task("nli")])
    decode = BY_NAME["decode"]
    reason = decode.unsupported_case(Case(parse_method("lora"), "nli", 1).with_variant(cache=8), backend)
    assert reason == "decode needs a task whose answers are generated, such as sft; those of nli are not"
    merged = Case(parse_method("houlsby"), "sft", 1).with_variant(cache=8, adapter="merged")
    assert decode.unsupported_case(merged, backend).startswith("houlsby cannot be merged")


def test_generation_is_never_eager_under_the_name_of_a_graph(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Execution, "require", lambda *_: None)
    catalogue = Catalogue.load()
    settings = Settings(model="tiny-llama", device="cpu", execution="graph")
    backend = Backend.open(settings, catalogue, [catalogue.task("sft")])
    for generation in BY_NAME.values():
        reason = generation.unsupported_case(Case(parse_method("lora"), "sft", 1), backend)
        assert reason.startswith(f"{generation.name} is not captured in a CUDA graph; give --peftbench-execution=eager")


def test_trained_tokens_of_a_prompt_take_places_in_the_cache(subject_of: MakeSubject) -> None:
    subject = subject_of("prompt-tuning", "sft", model="tiny-llama")
    sizes = {}
    for adapter in ("active", "disabled"):
        with closing(workload("decode", adapter).trial(subject)) as trial:
            sizes[adapter] = trial.cache_bytes
            if adapter == "active":
                # PEFT's forward puts the prompt before all tokens.
                expected = answers(subject.applied_model().eval(), rows_of(subject.batches[0], PROMPT + 1), 1)
                assert torch.equal(cast("torch.Tensor", trial.run(0, lambda: None))[:, None], expected)
    assert sizes["active"] - sizes["disabled"] == 20 * ROWS * TOKEN_BYTES
    with pytest.raises(UnsupportedError) as error:
        replace(workload("decode"), cache=492).trial(subject)  # type: ignore[call-arg] # a field of Decode
    assert str(error.value) == (
        "decode needs 513 positions, 20 of them trained tokens of the method, and the model has 512: "
        "give shorter --peftbench-cache-tokens"
    )


@pytest.mark.parametrize(
    ("name", "method", "reason"),
    [
        ("prefill", "shadow", "shadow puts a cache of its own in the place of the static one that is measured"),
        (
            "decode",
            "prefix-peft",
            "prefix-peft puts a cache of its own in the place of the static one that is measured",
        ),
        ("generate", "prompt-tuning", "PEFT cannot generate with prompt-tuning on llama: KeyError: 'cache_position'"),
    ],
)
def test_what_peft_cannot_do_with_a_static_cache_is_a_reason(
    name: str, method: str, reason: str, subject_of: MakeSubject
) -> None:
    with pytest.raises(UnsupportedError) as error:
        workload(name).trial(subject_of(method, "sft", model="tiny-llama"))
    assert str(error.value) == reason


def test_a_full_sliding_window_cannot_be_put_back_and_a_part_of_it_can() -> None:
    from transformers import MistralConfig, MistralForCausalLM

    config = MistralConfig(
        vocab_size=50,
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        intermediate_size=16,
        sliding_window=6,
    )
    model = MistralForCausalLM(config).eval()
    tokens = torch.arange(10)[None] + 3
    with torch.no_grad():
        cache, _ = filled_cache(model, tokens[:, :4], 10, name="full")
        found = RewindingCache.of(cache, start=4, adds=1)
        logits = []
        for _ in range(3):
            found.rewind()
            logits.append(model(input_ids=tokens[:, 4:5], past_key_values=cache, use_cache=True).logits)
        expected = model(input_ids=tokens[:, :5], use_cache=False).logits[:, -1:]
    assert torch.equal(logits[0], logits[2])
    torch.testing.assert_close(logits[0], expected)
    with pytest.raises(UnsupportedError, match="a sliding window of 6 tokens is full at 7 tokens"):
        RewindingCache.of(cache, start=6, adds=1)
