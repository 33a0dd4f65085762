"""LoRA and its variants: other initialisations, other forward passes, other optimizers."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from peftbench.errors import UserError
from peftbench.methods.peft.contexts import invocation, no_invocation_elsewhere
from peftbench.methods.peft.decoders import ONLY_LANGUAGE_MODELS
from peftbench.methods.peft.library import faults_as
from peftbench.methods.peft.method import PeftMethod
from peftbench.methods.peft.overrides import culprit_of
from peftbench.methods.peft.starts import STARTS, start_of
from peftbench.methods.preparation import preparing
from peftbench.records.ids import Scalar

if TYPE_CHECKING:
    import torch
    from peft import PeftConfig, PeftModel
    from transformers import PreTrainedModel

    from peftbench.methods.base import Application
    from peftbench.methods.optimization import Optimization
    from peftbench.methods.peft.layers import Layers

_PAPER: Final[Mapping[str, Scalar]] = {"r": 8, "lora_alpha": 16, "lora_dropout": 0.0}
"""The configuration that the paper's comparison uses for LoRA; the variants share it."""

LORA_PLUS_RATIO: Final = 16.0
"""Learning rate of B over that of A, as LoRA+ recommends (section 5)."""


@dataclass(frozen=True, kw_only=True)
class LoraMethod(PeftMethod):
    """LoRA or a variant of it, which may start from data."""

    def settle(self, settings: Mapping[str, Any], given: Collection[str], layers: Layers) -> Mapping[str, Any]:
        """Add the configuration of a start from data."""
        start = STARTS.get(str(settings.get("init_lora_weights")))
        settled = PeftMethod.settle(self, settings, given, layers)
        return {**start.settings(), **settled} if start else settled

    def remarks(self, model: PreTrainedModel, application: Application) -> tuple[str, ...]:
        """Return as well the tokens from which on aLoRA works, where they were read off the data."""
        tokens = self.read(application).get("alora_invocation_tokens", ())
        active = f"works from the last of the tokens {'+'.join(map(str, tokens))} on, which all prompts have"
        return (*PeftMethod.remarks(self, model, application), *([active] if tokens else ()))

    def prepare(self, model: PreTrainedModel, config: PeftConfig, application: Application) -> None:
        """Run the plain model on the batches if its start comes from data; raises UserError if there are none."""
        PeftMethod.prepare(self, model, config, application)
        if start := start_of(config):
            self._require_batches(application)
            with preparing(model), self._running(application):
                start.before(model, config, application.batches)

    def start(self, model: PeftModel, application: Application) -> None:
        """Run PEFT's new model on the batches if its start comes from data."""
        if start := start_of(model.peft_config[model.active_adapter]):
            with preparing(model), self._running(application):
                start.after(model, application.batches)

    def _running(self, application: Application) -> AbstractContextManager[None]:
        return faults_as(culprit_of(application), f"prepare {self.name}", running=True)

    def _require_batches(self, application: Application) -> None:
        if not application.batches:
            raise UserError(f"{self.name} starts from data: give batches=..., a few batches of the task with labels")


def _lora_fa(model: PeftModel, optimization: Optimization) -> torch.optim.Optimizer:
    from peft.optimizers import create_lorafa_optimizer

    config = model.peft_config[model.active_adapter]
    created: torch.optim.Optimizer = create_lorafa_optimizer(
        model=model,
        r=config.r,
        lora_alpha=config.lora_alpha,
        lr=optimization.learning_rate,
        weight_decay=optimization.weight_decay,
    )
    return created


def _lora_plus(model: PeftModel, optimization: Optimization) -> torch.optim.Optimizer:
    import torch
    from peft.optimizers import create_loraplus_optimizer

    created: torch.optim.Optimizer = create_loraplus_optimizer(
        model,
        torch.optim.AdamW,
        lr=optimization.learning_rate,
        loraplus_lr_ratio=LORA_PLUS_RATIO,
        loraplus_weight_decay=optimization.weight_decay,
        **optimization.implementation,
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
    )
    return created


def _other_variant(overrides: Mapping[str, object]) -> str:
    """Return why overrides make LoRA one of the variants that cannot be measured here, or ''.

    PEFT would take them, start from something else or adapt as plain LoRA does, and the time be of that.
    """
    start = overrides.get("init_lora_weights")
    name = start if start in EXCLUDED_VARIANTS else ""
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
    "loftq": "starts from quantised weights, which PEFT makes on an accelerator only",
    "qalora": "pools the inputs of layers quantised by GPTQ; on plain layers PEFT trains a plain LoRA",
    "qlora": "is LoRA on weights quantised by bitsandbytes, which is no dependency; so are AWQ, AQLM, HQQ and EETQ",
}
"""Variants of LoRA that PEFT has and this catalogue has not -> why."""
