"""How linear layers are quantised: the schemes by the name that users give, each with its library."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Final, cast

from peftbench.errors import UnsupportedError, unknown
from peftbench.libraries import quiet, reason, warnings_only

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

EXTRA: Final = "pip install 'peftbench[quantized]'"
OUTLIERS: Final = 6.0
"""Inputs above this are multiplied in 16 bits, in LLM.int8 and in transformers by default."""


@dataclass(frozen=True, kw_only=True)
class Scheme:
    """A way to store the weights of linear layers in few bits."""

    name: str
    library: str
    summary: str
    quantise: Callable[[PreTrainedModel, Iterable[str]], None]
    """Quantises the linear layers of these names in place; raises UnsupportedError where the device cannot."""

    def apply(self, model: PreTrainedModel, names: Iterable[str]) -> None:
        """Quantise linear layers of a model in place.

        Args:
            model: The plain model, on its device.
            names: Of the layers.

        Raises:
            UnsupportedError: the library is missing or does not load, or the device cannot do it.
        """
        try:
            with quiet(self.library), warnings_only():
                importlib.import_module(self.library)
        except Exception as error:  # a library that is built for another machine fails in its own ways
            why = "" if isinstance(error, ModuleNotFoundError) and error.name == self.library else f" ({reason(error)})"
            raise UnsupportedError(f"quantization={self.name} needs {self.library}{why}: {EXTRA}") from error
        self.quantise(model, names)


def _nf4(model: PreTrainedModel, names: Iterable[str]) -> None:
    import bitsandbytes as bnb

    def layer_of(layer: torch.nn.Linear) -> torch.nn.Module:
        kind = {"quant_type": "nf4", "compress_statistics": True}
        made = bnb.nn.Linear4bit(
            layer.in_features,
            layer.out_features,
            bias=False,
            compute_dtype=layer.weight.dtype,
            device="meta",
            **kind,
        )
        made.weight = bnb.nn.Params4bit(layer.weight.data, requires_grad=False, module=made, **kind)
        # Where a CPU has AVX512-BF16, an evaluation would pack the weights for a kernel that has no backward pass and
        # that PEFT's merge does not understand; and counters would differ from machine to machine.
        made.support_avx512bf16_for_cpu = False
        return cast("torch.nn.Module", made)

    _replace(model, names, layer_of)
    cast("Any", model).is_loaded_in_4bit = True


def _int8(model: PreTrainedModel, names: Iterable[str]) -> None:
    import bitsandbytes as bnb

    def layer_of(layer: torch.nn.Linear) -> torch.nn.Module:
        made = bnb.nn.Linear8bitLt(
            layer.in_features,
            layer.out_features,
            bias=False,
            has_fp16_weights=False,
            threshold=OUTLIERS,
            device="meta",
        )
        # Weights are quantised on their way from the CPU.
        made.weight = bnb.nn.Int8Params(layer.weight.data.cpu(), requires_grad=False, has_fp16_weights=False)
        return cast("torch.nn.Module", made)

    _replace(model, names, layer_of)
    cast("Any", model).is_loaded_in_8bit = True


def _torchao_int8(model: PreTrainedModel, names: Iterable[str]) -> None:
    from torchao.quantization import Int8WeightOnlyConfig

    _torchao(model, names, Int8WeightOnlyConfig(version=2))


def _torchao_int4(model: PreTrainedModel, names: Iterable[str]) -> None:
    import torch
    from torchao.quantization import Int4WeightOnlyConfig

    if model.device.type != "cuda" or model.dtype != torch.bfloat16:
        kind = str(model.dtype).removeprefix("torch.")
        raise UnsupportedError(
            "quantization=torchao-int4 needs a CUDA device and --peftbench-dtype=bfloat16, and the model is on "
            f"{model.device.type} in {kind}: quantization=nf4 has four bits on either"
        )
    _torchao(model, names, Int4WeightOnlyConfig(int4_packing_format="tile_packed_to_4d"))


def _torchao(model: PreTrainedModel, names: Iterable[str], config: object) -> None:
    from torchao.quantization import quantize_
    from transformers import TorchAoConfig
    from transformers.utils.quantization_config import QuantizationMethod

    chosen = frozenset(names)
    quantize_(model, config, filter_fn=lambda _, name: name in chosen)
    # PEFT quantises merged weights anew by what it finds here, as transformers leaves it.
    quantised = cast("Any", model)
    quantised.quantization_method = QuantizationMethod.TORCHAO
    quantised.hf_quantizer = SimpleNamespace(quantization_config=TorchAoConfig(quant_type=config))


SCHEMES: Final[Mapping[str, Scheme]] = {
    scheme.name: scheme
    for scheme in (
        Scheme(
            name="nf4",
            library="bitsandbytes",
            summary="4-bit NormalFloat in blocks of 64, their scales in 8 bits (double quantisation)",
            quantise=_nf4,
        ),
        Scheme(
            name="int8",
            library="bitsandbytes",
            summary="LLM.int8: 8-bit integers with a scale for each row",
            quantise=_int8,
        ),
        Scheme(
            name="torchao-int8",
            library="torchao",
            summary="8-bit integers with a scale for each row, weight-only",
            quantise=_torchao_int8,
        ),
        Scheme(
            name="torchao-int4",
            library="torchao",
            summary="4-bit integers in groups of 128, weight-only",
            quantise=_torchao_int4,
        ),
    )
}
"""Value of `quantization=` -> how it is done."""


def scheme_named(name: str) -> Scheme:
    """Return a scheme.

    Raises:
        UserError: there is none of this name; names the nearest one.
    """
    try:
        return SCHEMES[name]
    except KeyError:
        raise unknown("quantization", name, SCHEMES) from None


def _replace(
    model: PreTrainedModel, names: Iterable[str], layer_of: Callable[[torch.nn.Linear], torch.nn.Module]
) -> None:
    for layer, parent, last in _layers(model, names):
        made = layer_of(layer)
        made.bias = layer.bias
        setattr(parent, last, made.to(layer.weight.device).train(layer.training))


def _layers(model: PreTrainedModel, names: Iterable[str]) -> Iterator[tuple[torch.nn.Linear, torch.nn.Module, str]]:
    for name in names:
        parent, _, last = name.rpartition(".")
        yield cast("torch.nn.Linear", model.get_submodule(name)), model.get_submodule(parent), last
