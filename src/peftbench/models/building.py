"""Model source -> configuration, tokenizer and model with its task head."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final, cast

from peftbench.devices.seeding import seeded
from peftbench.errors import UnsupportedError, UserError
from peftbench.methods.base import head_names, is_head
from peftbench.models.reporting import reported
from peftbench.models.vocabulary import vocabulary_size
from peftbench.tasks.base import Head, Task

if TYPE_CHECKING:
    import torch
    from transformers import PretrainedConfig, PreTrainedModel

    from peftbench.models.presets import ModelSource

_NO_ADAPTER: Final = "no-adapter"
"""Where transformers is told to look for an adapter: it would load one that lies beside the model, unasked."""


def load_config(source: ModelSource) -> PretrainedConfig:
    """Return the configuration of a model, without its task head.

    Raises:
        UserError: it cannot be found, or is none that transformers knows.
    """
    from transformers import AutoConfig

    with reported("configuration of model", source):
        if source.preset:
            return AutoConfig.for_model(source.preset.model_type, **source.preset.config)
        return AutoConfig.from_pretrained(source.location, trust_remote_code=False)


def check_attention(source: ModelSource, config: PretrainedConfig, task: Task, attention: str) -> None:
    """Check that the model with the head of `task` can compute its attention so; a head that is not there can.

    Raises:
        UserError: scaled-dot-product attention is asked for, and transformers lacks it for this architecture.
    """
    import transformers

    heads = getattr(transformers, task.head)._model_mapping  # noqa: SLF001 - there is no public question
    model_class = heads.get(type(config), None)
    if attention == "sdpa" and not getattr(model_class, "_supports_sdpa", True):
        raise UserError(
            f"model {source.name!r} has no scaled-dot-product attention in transformers: "
            "give --peftbench-attention=eager"
        )


def build_model(
    source: ModelSource,
    task: Task,
    *,
    seed: int,
    dtype: str = "float32",
    attention: str | None = None,
    device: torch.device | None = None,
) -> PreTrainedModel:
    """Return the model with the head of `task`, in training mode (dropout as its configuration has it).

    What is not in a checkpoint, the head above all, is drawn from `seed`; the caller's random state stays as it is.
    A preset is random altogether.

    Args:
        source: where the model comes from.
        task: fixes the head and its classes.
        seed: of the random weights.
        dtype: of the weights: `float32`, `bfloat16` or `float16`.
        attention: transformers' `attn_implementation`: `eager`, `sdpa`, ...; None: its default.
        device: where a preset's weights are drawn, and stay; None: the CPU. A checkpoint is read onto the CPU.

    Raises:
        UserError: the checkpoint cannot be read, or holds another backbone than its configuration says.
        UnsupportedError: transformers has no such head for this architecture.
    """
    import torch

    auto_class, config = _with_head(source, task)
    options = {"dtype": getattr(torch, dtype), "attn_implementation": attention, "trust_remote_code": False}
    where = torch.device("cpu") if device is None else device
    with seeded(seed, where), reported("model", source):
        model = (
            _drawn(auto_class, config, options, where)
            if source.preset
            else _pretrained(auto_class, source, config, options)
        )
    if task.head is Head.CAUSAL_LM:
        model.config.use_cache = False  # a cache of keys and values is for generation, whose workloads ask for it
    return model.train()


def set_padding(model: PreTrainedModel, pad: int) -> None:
    """Tell a model the id with which its batches are padded: classes are read off the last token before it.

    Done to the built model: in a configuration that one is built from, it would also keep the id's embedding at zero.
    """
    for config in (model.config, model.config.get_text_config()):
        config.pad_token_id = pad


def checkpoint_layers(model: PreTrainedModel) -> None:
    """Let training keep no activations within a layer, and compute them again for the backward pass.

    Raises:
        UnsupportedError: transformers cannot do that with this architecture.
    """
    if not model.supports_gradient_checkpointing:
        raise UnsupportedError(f"transformers has no gradient checkpointing for model type {model.config.model_type!r}")
    options = {"use_reentrant": False}
    if hasattr(model, "activation_checkpointing_enable"):  # its name in later releases of transformers
        model.activation_checkpointing_enable(activation_checkpointing_kwargs=options)
    else:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs=options)


def build_unloaded(source: ModelSource, task: Task, *, device: str = "meta") -> PreTrainedModel:
    """Return the model with the head of `task` as its configuration describes it; no weights are read.

    Args:
        source: where the model comes from.
        task: fixes the head and its classes.
        device: `meta`: names and shapes alone, which costs nothing; `cpu`: random weights.

    Raises:
        UserError: the configuration cannot be read.
        UnsupportedError: transformers has no such head for this architecture.
    """
    import torch

    auto_class, config = _with_head(source, task)
    with seeded(0), torch.device(device), reported("model", source):
        return auto_class.from_config(config, trust_remote_code=False)


def _with_head(source: ModelSource, task: Task) -> tuple[Any, PretrainedConfig]:
    """Return transformers' auto class for the head of `task`, and the model's configuration with its classes."""
    import transformers

    config = load_config(source)
    auto_class = getattr(transformers, task.head)
    encodes = task.head is Head.CAUSAL_LM and (config.is_encoder_decoder or _is_encoder(config))
    if encodes or type(config) not in auto_class._model_mapping:  # noqa: SLF001 - there is no public question
        why = "an encoder is not trained as a causal language model:" if encodes else "transformers has"
        raise UnsupportedError(f"{why} no {task.head} for model type {config.model_type!r} ({source.name})")
    _configure_head(config, task)
    _drop_foreign_padding(config)
    return auto_class, config


def _is_encoder(config: PretrainedConfig) -> bool:
    """Tell whether tokens see those after them: of BERT's kin, unless it was configured to be a decoder."""
    import transformers

    masked = type(config) in transformers.AutoModelForMaskedLM._model_mapping  # noqa: SLF001 - as above
    return masked and not getattr(config, "is_decoder", True)


def _drop_foreign_padding(config: PretrainedConfig) -> None:
    """Forget a padding id that the embeddings have not: torch refuses to build them, or keeps another id's at zero."""
    for part in {id(part): part for part in (config, config.get_text_config())}.values():
        pad, size = getattr(part, "pad_token_id", None), vocabulary_size(part)
        if isinstance(pad, int) and size is not None and not 0 <= pad < size:
            part.pad_token_id = None


def _configure_head(config: PretrainedConfig, task: Task) -> None:
    """Give the configuration the task's classes, whatever a checkpoint was trained on before."""
    # A span needs two outputs, its start and its end; multiple choice does not look at the number.
    config.num_labels = len(task.labels) or 2
    if task.labels:
        config.id2label = dict(enumerate(task.labels))
        config.label2id = {label: number for number, label in enumerate(task.labels)}
    if task.head == Head.SEQUENCE_CLASSIFICATION:
        config.problem_type = "single_label_classification"


def _drawn(
    auto_class: Any,  # noqa: ANN401 - an auto class of transformers, which is not typed here
    config: PretrainedConfig,
    options: dict[str, Any],
    device: torch.device,
) -> PreTrainedModel:
    """Return a model whose weights are drawn on the device, in their dtype: none is ever in memory twice.

    They are drawn by the model's own rules, as those are that a checkpoint lacks. Buffers (positions, rotations) are
    computed when the model is built: not every release of transformers computes them again with the weights.
    """
    import torch
    from accelerate import init_empty_weights

    with init_empty_weights(include_buffers=False):
        model = auto_class.from_config(config, **options)
    model._apply(lambda one: torch.empty_like(one, device=device) if one.is_meta else one.to(device))  # noqa: SLF001
    for module in model.modules():
        module._is_hf_initialized = False  # noqa: SLF001 - rules were followed above, without memory to fill
    model.tie_weights()  # what shared its memory has been given some of its own
    with torch.no_grad():
        model.initialize_weights()
    model.tie_weights()
    return cast("PreTrainedModel", model)


def _pretrained(
    auto_class: Any,  # noqa: ANN401 - an auto class of transformers, which is not typed here
    source: ModelSource,
    config: PretrainedConfig,
    options: dict[str, Any],
) -> PreTrainedModel:
    model, report = auto_class.from_pretrained(
        source.location,
        config=config,
        use_safetensors=True,
        ignore_mismatched_sizes=True,  # a head of another task is replaced; a backbone is refused below
        output_loading_info=True,
        key_mapping=_other_prefixes(auto_class._model_mapping[type(config)], config),  # noqa: SLF001 - see above
        adapter_kwargs={"subfolder": _NO_ADAPTER},
        **options,
    )
    drawn = {*report["missing_keys"], *(key for key, *_ in report["mismatched_keys"])}
    # A checkpoint of a masked language model has no pooler: transformers draws one, as fine-tuning always did.
    heads = head_names(model)
    body = sorted(key for key in drawn if not is_head(key, heads) and ".pooler." not in key)
    if body:
        raise UserError(
            f"checkpoint {source.name!r} does not hold the backbone that its config.json describes: "
            f"{len(body)} weights are missing or of another shape, {body[0]} among them"
        )
    return model


def _other_prefixes(model_class: Any, config: PretrainedConfig) -> dict[str, str] | None:  # noqa: ANN401 - as above
    """Return what other classes of an architecture call the backbone, each with what `model_class` calls it.

    Llama's class for spans says `transformer`, all others `model`, and so do checkpoints.
    """
    import transformers

    names = ("AutoModel", *Head)
    classes = (getattr(transformers, name)._model_mapping.get(type(config), None) for name in names)  # noqa: SLF001
    flat = [one for found in classes if found for one in (found if isinstance(found, tuple) else (found,))]
    ours = model_class.base_model_prefix
    theirs = {one.base_model_prefix for one in flat} - {ours, ""}
    return {rf"^{re.escape(prefix)}\.": f"{ours}." for prefix in sorted(theirs)} or None
