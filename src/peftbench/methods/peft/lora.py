"""LoRA and its variants: other initialisations, other forward passes, other optimizers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Final

from peftbench.methods.peft.contexts import invocation, no_invocation_elsewhere
from peftbench.methods.peft.decoders import ONLY_LANGUAGE_MODELS
from peftbench.methods.peft.lora_method import LoftqMethod, LoraMethod
from peftbench.records.ids import Scalar

if TYPE_CHECKING:
    import torch
    from peft import PeftModel

    from peftbench.methods.optimization import Optimization

_PAPER: Final[Mapping[str, Scalar]] = {"r": 8, "lora_alpha": 16, "lora_dropout": 0.0}
"""The configuration that the paper's comparison uses for LoRA; the variants share it."""

LORA_PLUS_RATIO: Final = 16.0
"""Learning rate of B over that of A, as LoRA+ recommends (section 5)."""


def _lora_fa(model: PeftModel, optimization: Optimization) -> torch.optim.Optimizer:
    from peft.optimizers import create_lorafa_optimizer

    config = model.peft_config[model.active_adapter]
    created: torch.optim.Optimizer = create_lorafa_optimizer(
        model=model,
        lr=optimization.learning_rate,
        weight_decay=optimization.weight_decay,
        **{"r": config.r, "lora_alpha": config.lora_alpha, **optimization.further},
    )
    return created


def _lora_plus(model: PeftModel, optimization: Optimization) -> torch.optim.Optimizer:
    import torch
    from peft.optimizers import create_loraplus_optimizer

    created: torch.optim.Optimizer = create_loraplus_optimizer(
        model,
        torch.optim.AdamW,
        lr=optimization.learning_rate,
        loraplus_weight_decay=optimization.weight_decay,
        **{"loraplus_lr_ratio": LORA_PLUS_RATIO, **optimization.implementation, **optimization.further},
    )
    return created


def _riemannian(model: PeftModel, optimization: Optimization) -> torch.optim.Optimizer:
    import torch
    from peft.optimizers import create_riemannian_optimizer

    created: torch.optim.Optimizer = create_riemannian_optimizer(
        model,
        torch.optim.AdamW,
        lr=optimization.learning_rate,
        weight_decay=optimization.weight_decay,
        **optimization.implementation,
        **optimization.further,
    )
    return created


def _other_variant(overrides: Mapping[str, object]) -> str:
    """Return why overrides make LoRA one of the variants that cannot be measured here, or ''.

    PEFT would take them, start from something else or adapt as plain LoRA does, and the time be of that.
    """
    if overrides.get("init_lora_weights") == "loftq":
        return "loftq starts from a quantised backbone: it is a method of its own"
    name = ""
    if overrides.get("use_qalora"):
        name = "qalora"
    return f"{name} {EXCLUDED_VARIANTS[str(name)]}" if name else ""


_LORA: Final = LoraMethod(
    name="lora",
    family="paper peft",
    summary="low-rank update B A of query and value",
    source="peft.LoraConfig, arXiv 2106.09685",
    tuner="LORA",
    defaults=_PAPER,
    read=no_invocation_elsewhere,
    variant=_other_variant,
)

_variant = partial(replace, _LORA, family="peft")


def _initialised(how: str) -> Mapping[str, Scalar]:
    return {**_PAPER, "init_lora_weights": how}


METHODS: Final = (
    _LORA,
    _variant(
        name="dora",
        summary="LoRA on the direction of the weights, their magnitude trained apart",
        source="peft.LoraConfig(use_dora), arXiv 2402.09353",
        defaults={**_PAPER, "use_dora": True},
    ),
    _variant(
        name="rslora",
        summary="LoRA scaled by alpha / sqrt(r)",
        source="peft.LoraConfig(use_rslora), arXiv 2312.03732",
        defaults={**_PAPER, "use_rslora": True},
    ),
    _variant(
        name="pissa",
        summary="LoRA that starts from the principal singular vectors of the weights",
        source="peft.LoraConfig(init_lora_weights=pissa), arXiv 2404.02948",
        defaults=_initialised("pissa"),
        keeps_base=False,
    ),
    _variant(
        name="olora",
        summary="LoRA that starts from a QR decomposition of the weights",
        source="peft.LoraConfig(init_lora_weights=olora), arXiv 2406.01775",
        defaults=_initialised("olora"),
        keeps_base=False,
    ),
    _variant(
        name="mica",
        summary="LoRA with B fixed to the minor singular vectors, only A is trained",
        source="peft.LoraConfig(init_lora_weights=mica), arXiv 2604.01694",
        defaults=_initialised("mica"),
    ),
    _variant(
        name="lora-orthogonal",
        summary="LoRA with A and B orthogonal at the start",
        source="peft.LoraConfig(init_lora_weights=orthogonal)",
        defaults=_initialised("orthogonal"),
    ),
    _variant(
        name="eva",
        summary="LoRA that starts from the singular vectors of the layers' inputs on the task's batches",
        source="peft.LoraConfig(init_lora_weights=eva), arXiv 2410.07170",
        defaults=_initialised("eva"),
    ),
    _variant(
        name="corda",
        summary="LoRA that starts from the weights' principal part, as the task's batches use them",
        source="peft.LoraConfig(init_lora_weights=corda), arXiv 2406.05223",
        defaults=_initialised("corda"),
        keeps_base=False,
    ),
    _variant(
        name="lora-ga",
        summary="LoRA that starts from the singular vectors of the gradients on the task's batches",
        source="peft.LoraConfig(init_lora_weights=lora_ga), arXiv 2407.05000",
        defaults=_initialised("lora_ga"),
        keeps_base=False,
    ),
    _variant(
        name="qlora",
        summary="LoRA on a backbone in 4-bit NormalFloat (bitsandbytes)",
        source="peft.LoraConfig, peft.prepare_model_for_kbit_training, arXiv 2305.14314",
        quantization="nf4",
    ),
    LoftqMethod(
        name="loftq",
        family="peft",
        summary="QLoRA whose LoRA starts from what quantising the weights lost",
        source="peft.replace_lora_weights_loftq, arXiv 2310.08659",
        tuner="LORA",
        defaults=_PAPER,
        variant=_other_variant,
        quantization="nf4",
    ),
    _variant(
        name="alora",
        summary="LoRA that works from an invocation in the prompt on, so that the cache before it can be shared",
        source="peft.LoraConfig(alora_invocation_tokens), arXiv 2504.12397",
        read=invocation,
        refuses=ONLY_LANGUAGE_MODELS,
        mergeable=False,
    ),
    _variant(
        name="kasa",
        summary="LoRA in singular-value form on weights without their smallest singular values",
        source="peft.LoraConfig(kasa_config), arXiv 2412.06071",
        fit=lambda _: {"kasa_config": {}},
        regulariser="_get_kasa_loss",
        keeps_base=False,
    ),
    _variant(
        name="velora",
        summary="LoRA that keeps compressed activations for the backward pass of A",
        source="peft.LoraConfig(velora_config), arXiv 2405.17991",
        fit=lambda layers: {"velora_config": {"num_groups": layers.divisor(64)}},
    ),
    _variant(
        name="monteclora",
        summary="LoRA with Monte Carlo samples around A",
        source="peft.LoraConfig(monteclora_config)",
        fit=lambda _: {"monteclora_config": {}},
        regulariser="_get_monteclora_loss",
    ),
    _variant(
        name="bd-lora",
        summary="LoRA with a block-diagonal B",
        source="peft.LoraConfig(use_bdlora), arXiv 2510.23346",
        fit=lambda layers: {
            # The empty text is in every layer's name.
            "use_bdlora": {"target_modules_bd_b": [""], "nblocks": layers.divisor(2)}
        },
    ),
    _variant(
        name="lora-fa",
        summary="LoRA with A frozen, by its own optimizer",
        source="peft.optimizers.create_lorafa_optimizer, arXiv 2308.03303",
        frozen="lora_A",
        own_optimizer=_lora_fa,
    ),
    _variant(
        name="lora-plus",
        summary="LoRA with a learning rate 16 times higher for B",
        source="peft.optimizers.create_loraplus_optimizer, arXiv 2402.12354",
        own_optimizer=_lora_plus,
    ),
    _variant(
        name="lora-riemannian",
        summary="LoRA with gradients preconditioned by the other factor",
        source="peft.optimizers.create_riemannian_optimizer, arXiv 2402.02347",
        own_optimizer=_riemannian,
    ),
)

EXCLUDED_VARIANTS: Final[Mapping[str, str]] = {
    "arrow": "routes between LoRAs that were trained before",
    "qalora": "pools the inputs of layers quantised by GPTQ; on plain layers PEFT trains a plain LoRA",
}
"""Variants of LoRA that PEFT has and this catalogue has not -> why."""
