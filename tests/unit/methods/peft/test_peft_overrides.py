"""Overrides reach PEFT's configuration, or are refused in one line."""

from collections.abc import Callable
from typing import Any, cast

import pytest
from peft import LoraConfig, PeftType
from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING

from peftbench.errors import UnsupportedError, UserError
from peftbench.methods.base import Application
from peftbench.methods.peft import METHODS
from peftbench.methods.peft.overrides import RESERVED, checked, overridable
from peftbench.records.ids import Scalar

BY_NAME = {method.name: method for method in METHODS}

Encoder = Callable[..., Any]
Apply = Callable[..., Application]


def adapted(model: Any) -> set[str]:  # noqa: ANN401
    """Return the names of the modules that have a LoRA."""
    names = {name.partition(".lora_A")[0] for name in model.state_dict() if "lora_A" in name}
    return {name.removeprefix("base_model.model.") for name in names}


def test_overrides_reach_the_configuration(encoder: Encoder, application: Apply) -> None:
    config = BY_NAME["lora"].configuration(encoder(), application(r=4, lora_dropout=1, use_rslora=True, bias="all"))
    assert (config.r, config.lora_dropout, config.use_rslora, config.bias) == (4, 1.0, True, "all")
    assert config.lora_alpha == 16


@pytest.mark.parametrize(
    ("target_modules", "last_names"),
    [
        ("query", {"query"}),
        ("query+key", {"query", "key"}),
        (r".*\.(key|value)", {"key", "value"}),
        ("all-linear", {"query", "key", "value", "dense"}),
    ],
)
def test_target_modules_are_names_a_pattern_or_all(
    target_modules: str, last_names: set[str], encoder: Encoder, application: Apply
) -> None:
    model = BY_NAME["lora"].apply(encoder(model_type="xlm-roberta"), application(target_modules=target_modules))
    names = adapted(model)
    assert {name.rpartition(".")[2] for name in names} == last_names
    assert all(name.startswith("roberta.") for name in names)  # not the head, whose layers are linear as well


def test_whole_numbers_are_joined_too(encoder: Encoder, application: Apply) -> None:
    config = BY_NAME["trainable-tokens"].configuration(encoder(), application(token_indices="1+5"))  # noqa: S106 no secret
    assert config.token_indices == [1, 5]


@pytest.mark.parametrize(
    ("method", "overrides", "message"),
    [
        ("lora", {"rr": 8}, r"^unknown option of lora 'rr': did you mean 'r'\? known: .*target_modules"),
        ("lora", {"task_type": "SEQ_CLS"}, "^unknown option of lora 'task_type'"),
        ("lora", {"r": "big"}, r"^lora\(r=big\): 'big' is not a whole number$"),
        ("lora", {"r": 1.5}, r"^lora\(r=1.5\): 1.5 is not a whole number$"),
        ("lora", {"r": True}, r"^lora\(r=True\): True is not a whole number$"),
        ("lora", {"use_dora": 1}, r"^lora\(use_dora=1\): 1 is not true or false$"),
        ("lora", {"bias": "some"}, r"^lora\(bias=some\): 'some' is not one of none, all, lora_only$"),
        ("lora", {"target_modules": "encoder.+"}, "^target_modules=encoder.* matches nothing in bert"),
        ("lora", {"r": 33}, r"^lora\(r=33\): must be from 1 to 32, the smallest dimension of the adapted layers$"),
        ("lora", {"r": 0}, r"^lora\(r=0\): must be from 1 to 32"),
        ("adalora", {"init_r": 64}, r"^adalora\(init_r=64\): must be from 1 to 32"),
        ("c3a", {"block_size": 5}, r"^c3a\(block_size=5\): must divide the dimensions .*: one of 1, 2, 4, 8, 16, 32$"),
        ("oft", {"oft_block_size": 12}, r"^oft\(oft_block_size=12\): must divide"),
        ("vblora", {"topk": 0}, "^PEFT cannot apply vblora: ValueError: `topk` 0 should be a positive integer value$"),
        ("adalora", {"init_r": 4, "target_r": 4}, r"^adalora\(init_r=4,target_r=4\): .*init_r must be above target_r$"),
        ("adalora", {"deltaT": 0}, r"deltaT=0.*no step is left to take ranks away in"),
        ("adalora", {"tinit": 10, "tfinal": 10}, r"^adalora\(tinit=10,tfinal=10,.*total_step=20\): no step is left"),
        ("adalora", {"r": 16}, r"^adalora\(r=16\): PEFT says: .*`r` is not used in AdaLora and will be ignored"),
    ],
)
def test_what_does_not_fit_is_refused_in_one_line(
    method: str, overrides: dict[str, Scalar], message: str, encoder: Encoder, application: Apply
) -> None:
    with pytest.raises(UserError, match=message) as caught:
        BY_NAME[method].apply(encoder(), application(**overrides))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("overrides", "reason"),
    [
        ({"init_lora_weights": "loftq"}, "loftq starts from a quantised backbone"),
        ({"use_qalora": True}, "qalora pools the inputs"),
        ({"alora_invocation_tokens": "1+2"}, "an invocation .aLoRA. is for causal language models only"),
    ],
)
def test_no_other_variant_is_measured_under_the_name_of_one_that_cannot_be(
    overrides: dict[str, Scalar], reason: str, encoder: Encoder, application: Apply
) -> None:
    with pytest.raises(UnsupportedError, match=f"^{reason}"):
        BY_NAME["lora"].apply(encoder(), application(**overrides))


def test_a_value_that_stands_for_many_takes_each_of_them(encoder: Encoder, application: Apply) -> None:
    model: Any = BY_NAME["lora"].apply(encoder(), application(init_lora_weights="pissa_niter_4"))
    assert model.peft_config["default"].init_lora_weights == "pissa_niter_4"
    with pytest.raises(UserError, match=r"'pissa_niter_x' is not true or false or one of .*pissa_niter_\[number"):
        BY_NAME["lora"].apply(encoder(), application(init_lora_weights="pissa_niter_x"))


@pytest.mark.parametrize(
    ("overrides", "ranks"),
    [({}, (12, 8)), ({"init_r": 6}, (6, 4)), ({"target_r": 16}, (24, 16)), ({"init_r": 9, "target_r": 8}, (9, 8))],
)
def test_the_rank_of_adalora_that_is_not_given_keeps_its_proportion(
    overrides: dict[str, Scalar], ranks: tuple[int, int], encoder: Encoder, application: Apply
) -> None:
    config = cast("Any", BY_NAME["adalora"].apply(encoder(), application(**overrides))).peft_config["default"]
    assert (config.init_r, config.target_r) == ranks


def test_of_layers_that_are_named_ia3_knows_which_are_inside(encoder: Encoder, application: Apply) -> None:
    for named, inside in (("key", set()), ("key+output.dense", {"output.dense"})):
        model: Any = BY_NAME["ia3"].apply(encoder(), application(target_modules=named))
        assert model.peft_config["default"].feedforward_modules == inside


def test_without_overrides_a_fault_is_the_methods_own(encoder: Encoder, application: Apply) -> None:
    with pytest.raises(UnsupportedError, match=r"^PEFT cannot apply trainable-tokens: "):
        BY_NAME["trainable-tokens"].apply(encoder(vocab_size=100), application())


@pytest.mark.parametrize("tuner", [tuner for tuner in PeftType if tuner in PEFT_TYPE_TO_CONFIG_MAPPING])
def test_the_options_of_every_configuration_can_be_told(tuner: PeftType) -> None:
    options = overridable(PEFT_TYPE_TO_CONFIG_MAPPING[tuner])
    assert options
    assert not options.keys() & RESERVED


def test_options_that_no_scalar_can_be_are_not_offered() -> None:
    assert not {"rank_pattern", "eva_config", "runtime_config"} & overridable(LoraConfig).keys()
    assert checked("lora", LoraConfig, {"layers_to_transform": 0}) == {"layers_to_transform": [0]}
