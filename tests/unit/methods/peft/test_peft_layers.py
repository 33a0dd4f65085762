"""The layers that a method adapts are found in the model's own structure."""

from collections.abc import Callable
from typing import Any

import pytest

from peftbench.errors import UnsupportedError, UserError
from peftbench.methods.base import Application
from peftbench.methods.peft import METHODS, targets
from peftbench.methods.peft.layers import Layers

Encoder = Callable[..., Any]
Apply = Callable[..., Application]


@pytest.mark.parametrize(
    ("model_type", "changes", "names"),
    [
        ("bert", {}, ["query", "value"]),
        ("xlm-roberta", {}, ["query", "value"]),
        ("deberta-v2", {"pooler_hidden_size": 32}, ["query_proj", "value_proj"]),
        ("distilbert", {"dim": 32, "n_layers": 1, "n_heads": 4, "hidden_dim": 64}, ["q_lin", "v_lin"]),
        ("deberta", {"pooler_hidden_size": 32}, ["in_proj"]),  # known to PEFT
    ],
)
def test_query_and_value_are_found_by_name(
    model_type: str, changes: dict[str, Any], names: list[str], encoder: Encoder
) -> None:
    assert targets.queries_and_values(encoder(model_type=model_type, **changes), "LORA").settings == {
        "target_modules": names
    }


@pytest.mark.parametrize("model_type", ["bert", "xlm-roberta"])
def test_ia3_scales_keys_values_and_the_feed_forward(model_type: str, encoder: Encoder) -> None:
    assert targets.keys_values_and_feed_forward(encoder(model_type=model_type), "IA3").settings == {
        "target_modules": ["key", "value", "output.dense"],
        "feedforward_modules": ["output.dense"],
    }


def test_ia3_scales_what_goes_into_both_output_layers_of_a_block(encoder: Encoder, application: Apply) -> None:
    (ia3,) = (method for method in METHODS if method.name == "ia3")
    model = ia3.apply(encoder(), application())
    scales = {name: p.numel() for name, p in model.named_parameters() if "ia3_l" in name}
    assert sorted(scales.values()) == [
        32,
        32,
        32,
        64,
    ]  # keys, values, the attention's result; the feed-forward's inside
    assert sum("attention.output.dense" in name for name in scales) == 1
    assert "in BERT's blocks the attention's result too" in ia3.summary


def test_norms_are_found_by_kind_outside_the_head(encoder: Encoder) -> None:
    assert targets.norms(encoder(), "LN_TUNING").settings == {"target_modules": ["LayerNorm"]}
    modern = encoder(model_type="modernbert", pad_token_id=0, global_attn_every_n_layers=1)
    assert "norm" in {name.rpartition(".")[2] for name, _ in modern.head.named_modules()}
    assert targets.norms(modern, "LN_TUNING").settings["target_modules"] == ["final_norm", "mlp_norm", "norm"]


def test_what_is_called_like_a_norm_and_is_none_is_left_out(encoder: Encoder) -> None:
    modern = encoder(model_type="modernbert", pad_token_id=0, num_hidden_layers=2)
    found = targets.norms(modern, "LN_TUNING").settings["target_modules"]
    assert "model.layers.1.attn_norm" in found
    assert "model.layers.0.attn_norm" not in found


def test_an_attention_that_nobody_knows_is_told_by_the_shape_and_place_of_its_layers(encoder: Encoder) -> None:
    found = targets.queries_and_values(encoder(model_type="modernbert", pad_token_id=0), "LORA")
    assert found.settings == {"target_modules": ["Wqkv"]}
    assert found.remark.startswith("PEFT has no default layers for modernbert: Wqkv are adapted, told by the shape")


def test_an_attention_without_linear_layers_is_unsupported_and_the_others_are_named(encoder: Encoder) -> None:
    with pytest.raises(UnsupportedError, match=r"^cannot tell the attention's layers.*fnet.*called dense"):
        targets.queries_and_values(encoder(model_type="fnet"), "LORA")


def test_a_backbone_without_past_key_values_takes_no_prefix(encoder: Encoder) -> None:
    assert targets.key_value_prefix(encoder(), "PREFIX_TUNING").settings == {}
    distilled = encoder(model_type="distilbert", dim=32, n_layers=1, n_heads=4, hidden_dim=64)
    with pytest.raises(UnsupportedError, match="distilbert takes no past_key_values"):
        targets.key_value_prefix(distilled, "PREFIX_TUNING")


@pytest.mark.parametrize(
    ("target_modules", "count", "smallest", "common"),
    [
        (["query", "value"], 2, 32, 32),
        (["output.dense"], 2, 32, 16),  # of the attention and of the feed-forward
        ("all-linear", 7, 32, 16),  # the head's layer is not among them
        (r".*intermediate\.dense", 1, 32, 16),
        (["LayerNorm"], 3, 0, 0),
    ],
)
def test_layers_match_as_in_peft(
    target_modules: str | list[str], count: int, smallest: int, common: int, encoder: Encoder
) -> None:
    assert Layers.of(encoder(intermediate_size=48), target_modules) == Layers(count, smallest, common)


@pytest.mark.parametrize("target_modules", ["nothing.*", ["classifier"], ["quer"]])
def test_a_pattern_that_matches_nothing_names_what_exists(target_modules: str | list[str], encoder: Encoder) -> None:
    with pytest.raises(
        UserError, match="matches nothing in bert, whose linear layers are called dense, key, query, value"
    ):
        Layers.of(encoder(), target_modules)


@pytest.mark.parametrize(
    ("pattern", "said"),
    [
        ("*.x", "nothing to repeat"),
        ("a{99999999999999}", "the repetition number is too large"),
        ("(" * 480 + "a" + ")" * 480, "maximum recursion depth exceeded"),
    ],
)
def test_a_broken_pattern_is_the_users_mistake(encoder: Encoder, pattern: str, said: str) -> None:
    with pytest.raises(UserError, match=r"^target_modules='.{,130}' is no regular expression: ") as error:
        Layers.of(encoder(), pattern)
    assert said in str(error.value)


def test_defaults_shrink_to_fit_small_layers() -> None:
    base, small = Layers(24, 768, 768), Layers(2, 24, 24)
    assert (base.rank(32), small.rank(32), small.rank(32, share=4)) == (32, 12, 6)
    assert (base.divisor(256), small.divisor(256), small.divisor(10)) == (256, 24, 8)
    assert small.divisors(24) == [1, 2, 3, 4, 6, 8, 12, 24]
