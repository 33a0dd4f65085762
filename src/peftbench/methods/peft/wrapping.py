"""What PEFT wraps around a model: its configuration, the trained head, and how the wrapper is switched off."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any, cast

from peftbench.errors import UnsupportedError
from peftbench.methods.base import WRAPPER, head_names
from peftbench.methods.peft.library import faults_as
from peftbench.tasks.base import Head

if TYPE_CHECKING:
    import torch
    from peft import PeftConfig
    from transformers import PreTrainedModel

    from peftbench.tasks.base import Task


def config_class(tuner: str) -> type[PeftConfig]:
    """Return the configuration class of a tuner; UnsupportedError where the installed PEFT has no such tuner."""
    import peft
    from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING

    try:
        return cast("type[PeftConfig]", PEFT_TYPE_TO_CONFIG_MAPPING[peft.PeftType[tuner]])
    except KeyError:
        raise UnsupportedError(f"the installed PEFT {peft.__version__} has no tuner {tuner}") from None


def peft_task_type(method: str, model: PreTrainedModel, task: Task, *, needed: bool) -> str | None:
    """Return PEFT's task type; none for question answering, for PEFT's model of that swallows token_type_ids.

    Args:
        method: The method's name.
        model: The plain model.
        task: What it learns.
        needed: Whether the tuner works in PEFT's models for one task only, not in its general one.

    Raises:
        UnsupportedError: the tuner needs PEFT's model for question answering, and the model has token types.
    """
    if task.head is not Head.QUESTION_ANSWERING:
        return task.peft_task_type
    if needed and getattr(model.config, "type_vocab_size", 1) > 1:
        raise UnsupportedError(
            f"PEFT cannot do question answering with {method} on {model.config.model_type}: "
            "its model for it swallows token_type_ids"
        )
    return task.peft_task_type if needed else None


def with_head(config: PeftConfig, model: PreTrainedModel) -> PeftConfig:
    """Make PEFT train and save the head; it reads this field of every configuration, though not all declare it.

    It takes each module whose name ends so: where the backbone has such as well, the name is given from its start.
    """
    heads = head_names(model)
    trained = [name for name, child in model.named_children() if name in heads and [*child.parameters()]]
    others = [name for name, _ in model.named_modules() if name not in heads]
    start = WRAPPER if config.is_prompt_learning else f"{WRAPPER}model."
    config.modules_to_save = [
        f"{start}{head}" if any(name.endswith(head) for name in others) else head for head in trained
    ] or None
    return config


def is_prompt(model: Any) -> bool:  # noqa: ANN401 PEFT's model
    """Tell whether a PEFT model learns a prompt, and adds no layer."""
    return any(config.is_prompt_learning for config in model.peft_config.values())


def none_idle(model: torch.nn.Module) -> Iterator[torch.nn.Parameter]:
    """Yield nothing: an output depends on each parameter that PEFT trains."""
    del model
    yield from ()


def tell_task(model: torch.nn.Module) -> None:
    """Give each call of a PEFT model `task_ids`: 0 for every sequence of the batch."""

    def add(module: torch.nn.Module, args: Any, kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]]:  # noqa: ANN401
        del module
        ids = kwargs["input_ids"]
        return args, {"task_ids": ids.new_zeros(ids.numel() // ids.shape[-1]), **kwargs}

    model.register_forward_pre_hook(add, with_kwargs=True)


def decoder_of(model: torch.nn.Module) -> torch.nn.Module:
    """Return the module that `generate` calls with each token: within PEFT's model the model that it wraps."""
    base = getattr(model, "get_base_model", None)
    return cast("torch.nn.Module", base()) if base else model


def virtual_tokens(model: torch.nn.Module) -> int:
    """Return the number of trained tokens that PEFT puts before the input, each of which takes a place in a cache.

    There are none while the adapter is disabled.
    """
    peft_model = cast("Any", model)
    if not getattr(model, "has_active_enabled_adapter", False):
        return 0
    return int(peft_model.active_peft_config.num_virtual_tokens) if is_prompt(peft_model) else 0


@contextmanager
def disabled_with_head(model: torch.nn.Module, name: str) -> Iterator[None]:
    """Within the context the adapter does nothing, and the trained head stays."""
    from peft.utils.other import ModulesToSaveWrapper

    with ExitStack() as stack:
        with faults_as(UnsupportedError, f"disable {name}"):
            stack.enter_context(cast("Any", model).disable_adapter())
        for module in model.modules():
            if isinstance(module, ModulesToSaveWrapper):
                module.enable_adapters(enabled=True)
        yield
