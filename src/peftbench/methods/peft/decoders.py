"""PEFT's tuners for decoders alone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Final

from peftbench.methods.peft.contexts import example_as_context
from peftbench.methods.peft.method import PeftMethod
from peftbench.methods.peft.prompts import NO_TASK_TYPE
from peftbench.methods.peft.targets import Targets, no_layers
from peftbench.tasks.base import Head

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

ADAPTED_ATTENTIONS: Final = ("gpt2", "llama", "mistral")
"""Architectures whose attention PEFT's adaption prompt can wrap."""
ADAPTION_TOKENS: Final = 10
"""Tokens of the prompt in each layer, as LLaMA-Adapter has them."""
ONLY_LANGUAGE_MODELS: Final[Mapping[Head, str]] = {
    head: "it is for causal language models only" for head in Head if head is not Head.CAUSAL_LM
}


def _every_attention(model: PreTrainedModel, tuner: str) -> Targets:
    """Put a prompt into every layer; PEFT has no default. LLaMA-Adapter leaves out the two lowest of 32."""
    del tuner
    return Targets({"adapter_layers": model.config.get_text_config().num_hidden_layers})


def _last_update(model: torch.nn.Module) -> Iterator[torch.nn.Parameter]:
    """Yield what advances the shadow behind the last layer: no layer is left that would read it."""
    from peft.tuners.shadow.layers import ShadowLayer

    *_, last = (module for module in model.modules() if isinstance(module, ShadowLayer))
    yield from last.shadow_update_transform.parameters()
    yield from last.shadow_update_gate.parameters()


METHODS: Final = (
    PeftMethod(
        name="adaption-prompt",
        family="peft",
        tuner="ADAPTION_PROMPT",
        summary="LLaMA-Adapter: trained prompts in each attention, behind gates that start at zero",
        source="peft.AdaptionPromptConfig, arXiv 2303.16199",
        targets=_every_attention,
        defaults={"adapter_len": ADAPTION_TOKENS},
        architectures=ADAPTED_ATTENTIONS,
        refuses=NO_TASK_TYPE,
        ranks=(),
        mergeable=False,
        needs_task_type=True,
    ),
    PeftMethod(
        name="cpt",
        family="peft",
        tuner="CPT",
        summary="an example of the task as context before the input, whose embeddings are trained within bounds",
        source="peft.CPTConfig, arXiv 2410.17222",
        targets=no_layers,
        read=example_as_context,
        refuses=ONLY_LANGUAGE_MODELS,
        ranks=(),
        mergeable=False,
        projects="PEFT scales what is trained back within its bounds in each forward pass",
        needs_task_type=True,
        resumes=False,
    ),
    PeftMethod(
        name="shadow",
        family="peft",
        tuner="SHADOW",
        summary="a small decoder beside the layers, whose state is injected into each of them",
        source="peft.ShadowConfig",
        targets=no_layers,
        refuses=ONLY_LANGUAGE_MODELS,
        mergeable=False,
        needs_task_type=True,
        idle=_last_update,
    ),
)
