import json
from typing import Any

import pytest
import torch
from torch import nn

from peftbench.config.settings import Settings
from peftbench.devices.precision import Precision
from peftbench.errors import UserError

CPU, CUDA = torch.device("cpu"), torch.device("cuda", 0)


def pretend_capability(monkeypatch: pytest.MonkeyPatch, major: int, minor: int) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (major, minor) if device == CUDA else None)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "Tesla V100" if device == CUDA else None)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"dtype": "float8"}, "unknown dtype 'float8': did you mean 'float32'"),
        ({"attention": "flash"}, "unknown attention 'flash'"),
        ({"optimizer": "for"}, "unknown optimizer 'for'"),
        ({"autocast": True}, "autocast to float32 does nothing"),
        ({"attention": "flash_attention_2"}, "computes in bfloat16 or float16 only"),
    ],
)
def test_settings_that_cannot_be_meant(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        Precision(**settings)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"dtype": "bfloat16"}, r"dtype bfloat16 needs compute capability 8.0; Tesla V100 \(cuda:0\) has 7.0"),
        ({"tf32": True}, "TF32 needs compute capability 8.0"),
        ({"dtype": "float16", "attention": "flash_attention_2"}, "flash_attention_2 needs compute capability 8.0"),
    ],
)
def test_an_old_gpu_lacks(settings: dict[str, Any], message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    pretend_capability(monkeypatch, 7, 0)
    with pytest.raises(UserError, match=message):
        Precision(**settings).require(CUDA)
    Precision(dtype="float16", autocast=True).require(CUDA)


def test_a_newer_gpu_has_it_all_but_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend_capability(monkeypatch, 9, 0)
    Precision(dtype="bfloat16", tf32=True).require(CUDA)
    monkeypatch.setattr("peftbench.devices.precision.find_spec", lambda name: None)  # noqa: ARG005 - find_spec's signature
    with pytest.raises(UserError, match="needs the package flash-attn"):
        Precision(dtype="bfloat16", attention="flash_attention_2").require(CUDA)


def test_the_cpu_lacks_what_is_cudas() -> None:
    Precision(dtype="bfloat16", autocast=True).require(CPU)
    with pytest.raises(UserError, match="TF32 is a format of CUDA devices; the device is cpu"):
        Precision(tf32=True).require(CPU)
    with pytest.raises(UserError, match="needs a CUDA device; the device is cpu"):
        Precision(dtype="float16", attention="flash_attention_2").require(CPU)


def test_only_float16_weights_are_untrainable() -> None:
    assert Precision(dtype="float16").untrainable
    assert not Precision(dtype="float16", autocast=True).untrainable
    assert not Precision(dtype="bfloat16").untrainable


@pytest.mark.parametrize(
    ("precision", "weights", "output"),
    [
        (Precision(), torch.float32, torch.float32),
        (Precision(dtype="bfloat16"), torch.bfloat16, torch.bfloat16),
        (Precision(dtype="bfloat16", autocast=True), torch.float32, torch.bfloat16),
        (Precision(dtype="float16", autocast=True), torch.float32, torch.float16),
    ],
)
def test_weights_and_operators_have_the_dtypes_meant(
    precision: Precision, weights: torch.dtype, output: torch.dtype
) -> None:
    layer = nn.Linear(4, 4).to(getattr(torch, precision.weights_dtype))
    assert layer.weight.dtype == weights
    with precision.forward_context(CPU):
        assert layer(torch.ones(1, 4, dtype=weights)).dtype == output


def test_a_step_in_float16_is_skipped_until_the_scale_fits() -> None:
    """The first scale, 2**16, overflows float16: the optimizer does nothing, and the scale is halved."""
    precision = Precision(dtype="float16", autocast=True)
    layer = nn.Linear(4, 1)
    before = layer.weight.detach().clone()
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.1, foreach=True)
    scaler = precision.scaler(CPU)
    assert scaler is not None
    for weights in (before, before - 0.1):
        with precision.forward_context(CPU):
            loss = layer(torch.ones(1, 4)).sum()
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
        optimizer.zero_grad()
        assert torch.allclose(layer.weight, weights, atol=1e-3)


def test_no_scaler_where_none_is_needed() -> None:
    assert Precision().scaler(CPU) is None
    assert Precision(dtype="bfloat16", autocast=True).scaler(CPU) is None
    assert Precision(dtype="float16").scaler(CPU) is None


@pytest.mark.parametrize("tf32", [True, False])
def test_tf32_is_switched_and_switched_back(*, tf32: bool) -> None:
    before = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
    with Precision(tf32=tf32).applied():
        assert torch.backends.cuda.matmul.allow_tf32 == tf32
        assert torch.backends.cudnn.allow_tf32 == tf32
    assert (torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32) == before


@pytest.mark.parametrize("name", ["loop", "foreach", "fused"])
def test_an_optimizer_takes_the_arguments(name: str) -> None:
    arguments: dict[str, Any] = dict(Precision(optimizer=name).optimizer_arguments())
    group = torch.optim.AdamW(nn.Linear(2, 2).parameters(), **arguments).param_groups[0]
    assert (bool(group["foreach"]), bool(group["fused"])) == (name == "foreach", name == "fused")


def test_the_description_is_json() -> None:
    assert json.loads(json.dumps(Precision().describe())) == {
        "dtype": "float32",
        "autocast": False,
        "tf32": False,
        "attention": "sdpa",
        "optimizer": "fused",
    }


@pytest.mark.parametrize(("capability", "dtype", "autocast"), [((9, 0), "bfloat16", True), ((7, 0), "float32", False)])
def test_the_default_is_what_people_train_in_where_the_device_has_it(
    capability: tuple[int, int], dtype: str, *, autocast: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: capability)
    found = Precision.of(Settings(), torch.device("cuda", 0))
    assert (found.dtype, found.autocast) == (dtype, autocast)
    assert Precision.of(Settings(), torch.device("cpu")) == Precision.of(Settings()) == Precision()
    named = Precision.of(Settings(dtype="float32"), torch.device("cuda", 0))
    assert (named.dtype, named.autocast) == ("float32", False)
