"""Rows of text for a language model: which tokens are learned, and that packed examples do not see each other."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from peftbench.models.building import build_model, load_config
from peftbench.models.presets import PRESETS, resolve
from peftbench.models.vocabulary import vocabulary
from peftbench.tasks.causal import TASKS
from peftbench.tasks.encoding import RowError
from peftbench.tasks.packing import packs

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

(SFT,) = TASKS
ROW = {"prompt": "the queen made", "completion": " some tarts"}
CHAT = {
    "messages": [
        {"role": "user", "content": "queen"},
        {"role": "assistant", "content": "hearts tarts"},
        {"role": "user", "content": "summer"},
        {"role": "assistant", "content": "day"},
    ]
}
PLAIN = (
    "{% for m in messages %}{{ m.role[0] }} : {{ m.content }} ; {% endfor %}"
    "{% if add_generation_prompt %}a : {% endif %}"
)
MARKED = (
    "{% for m in messages %}{{ m.role[0] }} : {% if m.role == 'assistant' %}{% generation %}{{ m.content }} ;"
    "{% endgeneration %}{% else %}{{ m.content }} ;{% endif %} {% endfor %}"
    "{% if add_generation_prompt %}a : {% endif %}"
)


def learned(row: dict[str, Any], tokenizer: PreTrainedTokenizerFast, seq_len: int = 64) -> list[str]:
    (feature,) = SFT.encode([row], tokenizer, seq_len)
    assert len(feature["input_ids"]) == len(feature["labels"]) == len(feature["token_type_ids"]) <= seq_len
    pairs = zip(feature["input_ids"], feature["labels"], strict=True)
    kept = [token for token, label in pairs if label != -100]
    assert kept == [label for label in feature["labels"] if label != -100]
    return list(map(str, tokenizer.convert_ids_to_tokens(kept)))


def test_the_completion_and_its_end_are_learned(unadorned: PreTrainedTokenizerFast) -> None:
    assert learned(ROW, unadorned) == ["some", "tarts", "[SEP]"]
    assert learned(ROW, unadorned, seq_len=4) == ["some"]
    assert learned({**ROW, "completion": ""}, unadorned) == ["[SEP]"]
    assert learned({"text": "the queen made"}, unadorned) == ["the", "queen", "made", "[SEP]"]


def test_a_token_across_the_border_is_learned(unadorned: PreTrainedTokenizerFast) -> None:
    assert learned({"prompt": "the qu", "completion": "een made"}, unadorned) == ["queen", "made", "[SEP]"]


@pytest.mark.parametrize("template", [PLAIN, MARKED], ids=["compared", "marked"])
def test_all_that_the_assistant_says_is_learned(template: str, unadorned: PreTrainedTokenizerFast) -> None:
    unadorned.chat_template = template
    assert learned(CHAT, unadorned) == ["hearts", "tarts", ";", "day", ";"]
    (one,) = SFT.exchanges([CHAT], unadorned, 64)  # type: ignore[attr-defined] # the task's own
    assert unadorned.decode(one.prompt) == "u : queen ; a : hearts tarts ; u : summer ; a :"
    assert one.answer == "day"


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        ({"label": 3}, "has neither of the forms of task 'sft': prompt, completion; messages; text"),
        ({"prompt": "a"}, "lacks the field 'completion'"),
        ({"prompt": "a", "completion": 3}, "completion must be text, not 3"),
        ({"prompt": "", "completion": ""}, "completion is empty"),
        ({"text": ""}, "text is empty"),
        ({"messages": []}, "messages must be a list of objects with role and content, not []"),
        ({"messages": [{"role": "user"}]}, "message 1 must have role and content, both text, not {'role': 'user'}"),
        ({"messages": CHAT["messages"][:1]}, "no message has the role 'assistant': there is nothing to learn"),
        ({"messages": CHAT["messages"][1:]}, "the first message is the assistant's: it must answer something"),
    ],
)
def test_a_row_without_a_form_says_what_it_lacks(row: dict[str, Any], problem: str) -> None:
    assert SFT.problem(row) == problem
    sound: list[dict[str, Any]] = [ROW, CHAT, {"text": "a"}, {"prompt": "", "completion": "a"}]
    assert not any(map(SFT.problem, sound))


@pytest.mark.parametrize(
    ("row", "template", "problem"),
    [
        (CHAT, None, "the tokenizer has no chat template, which messages need"),
        (
            CHAT,
            "{{ raise_exception('no\nsystem') }}",
            "refuses the messages: no system: mend it, or give prompt and completion",
        ),
        (
            CHAT,
            "{% if false %}{% generation %}{% endgeneration %}{% endif %}queen",
            "the chat template marks nothing of what",
        ),
        # What it writes last is the first token, which nothing predicts.
        (
            {"messages": CHAT["messages"][:2]},
            "{{ 'queen' if messages[1:] else 'hearts' }}",
            "the chat template marks nothing of what",
        ),
        # It drops what was said before, so the parts cannot be told by comparing.
        (CHAT, "{{ messages[-1].content }} ;", "does not tell apart what the assistant says in message 2"),
        ({**ROW, "prompt": "queen " * 5}, None, "its prompt has 5 tokens, and nothing of its completion is left in 5"),
        ({"text": "queen"}, "", "'queen' has no token that could be learned"),
    ],
)
def test_a_row_that_cannot_be_tokenised_says_why_in_one_line(
    row: dict[str, Any], template: str | None, problem: str, unadorned: PreTrainedTokenizerFast
) -> None:
    unadorned.chat_template = template
    if row == {"text": "queen"}:
        unadorned.eos_token = None
    with pytest.raises(RowError) as error:
        SFT.encode([ROW, row], unadorned, 5)
    assert problem in str(error.value)
    assert "\n" not in str(error.value)
    assert error.value.number == 1


def test_packs_hold_every_example_once_and_are_full() -> None:
    lengths = [7, 3, 5, 2, 8, 4, 1]
    found = packs(lengths, 8)
    assert sorted(number for pack in found for number in pack) == list(range(7))
    assert all(sum(lengths[number] for number in pack) <= 8 for pack in found)
    assert found == [[0, 6], [1, 2], [3, 5], [4]]


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_packed_examples_have_the_loss_and_the_gradients_of_single_ones(attention: str) -> None:
    import torch

    source = resolve("tiny-llama", {preset.name: preset for preset in PRESETS})
    words = vocabulary(load_config(source))
    model = build_model(source, SFT, seed=0, attention=attention)
    features = [*SFT.synthetic(4, words, 16, seed=0), *SFT.synthetic(4, words, 24, seed=1)]
    joined = SFT.packed(features, 48)
    batch = SFT.collate(joined, words, pad_to=48)
    assert len(joined) < len(features)
    assert "attention_mask" not in batch
    assert batch["position_ids"].shape == batch["labels"].shape == (len(joined), 48)
    assert SFT.tokens(batch) == sum(len(feature["input_ids"]) for feature in features)

    def gradients() -> dict[str, torch.Tensor]:
        found = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
        model.zero_grad(set_to_none=True)
        return found

    packed_loss = model(**batch).loss
    packed_loss.backward()
    packed = gradients()
    counts = [sum(label != -100 for label in feature["labels"]) for feature in features]
    single_loss = torch.tensor(0.0)
    for count, feature in zip(counts, features, strict=True):
        loss = model(**SFT.collate([feature], words)).loss * count / sum(counts)
        loss.backward()
        single_loss += loss.detach()
    torch.testing.assert_close(packed_loss.detach(), single_loss)
    single = gradients()
    assert packed.keys() == single.keys() != set()
    for name, gradient in packed.items():
        torch.testing.assert_close(gradient, single[name], rtol=1e-4, atol=1e-6)
