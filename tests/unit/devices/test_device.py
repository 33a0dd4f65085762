from types import SimpleNamespace

import pytest
import torch

from peftbench.devices.device import choose_gpus, device_named, visible_gpus
from peftbench.errors import UserError


def pretend_gpus(monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: count > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
    monkeypatch.delenv("CUDA_LAUNCH_BLOCKING", raising=False)


def test_the_cpu_is_always_there() -> None:
    assert device_named("cpu") == torch.device("cpu")


@pytest.mark.parametrize("name", ["gpu", "cuda:x", "meta", "mps"])
def test_what_is_no_device_of_ours_is_refused(name: str) -> None:
    with pytest.raises(UserError, match=f"device '{name}': allowed are cpu, cuda and cuda:N"):
        device_named(name)


def test_a_pytorch_without_cuda_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.version, "cuda", None)
    with pytest.raises(UserError, match=r"this PyTorch \(.*\) is built without CUDA"):
        device_named("cuda")


def test_a_machine_without_a_gpu_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend_gpus(monkeypatch, 0)
    with pytest.raises(UserError, match="PyTorch sees no CUDA device"):
        device_named("cuda")


def test_plain_cuda_is_the_first_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend_gpus(monkeypatch, 2)
    assert device_named("cuda") == torch.device("cuda", 0)
    assert device_named("cuda:1") == torch.device("cuda", 1)


def test_a_gpu_beyond_the_last_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend_gpus(monkeypatch, 2)
    with pytest.raises(UserError, match="'cuda:2': PyTorch sees 2 CUDA device"):
        device_named("cuda:2")


@pytest.mark.parametrize(("value", "refused"), [("", False), ("0", False), ("1", True)])
def test_blocking_launches_are_refused(value: str, refused: bool, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: FBT001 - a parameter
    pretend_gpus(monkeypatch, 1)
    monkeypatch.setenv("CUDA_LAUNCH_BLOCKING", value)
    if refused:
        with pytest.raises(UserError, match="CUDA_LAUNCH_BLOCKING is set"):
            device_named("cuda")
    else:
        assert device_named("cuda").type == "cuda"


def test_gpus_are_named_as_cuda_visible_devices_takes_them(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend_gpus(monkeypatch, 2)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda index: SimpleNamespace(uuid=f"aaaa-{index}"))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1,0")
    assert visible_gpus() == ("GPU-aaaa-0", "GPU-aaaa-1")
    pretend_gpus(monkeypatch, 1)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "MIG-bbbb")
    assert visible_gpus() == ("MIG-bbbb",)


@pytest.mark.parametrize(
    ("words", "chosen"),
    [
        (["all"], ("GPU-aaaa-0", "GPU-aaaa-1")),
        (["1"], ("GPU-aaaa-1",)),
        (["1", "0"], ("GPU-aaaa-1", "GPU-aaaa-0")),
        (["GPU-elsewhere", "MIG-x"], ("GPU-elsewhere", "MIG-x")),
    ],
)
def test_gpus_are_chosen_by_index_or_uuid(
    words: list[str], chosen: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    pretend_gpus(monkeypatch, 2)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda index: SimpleNamespace(uuid=f"aaaa-{index}"))
    assert choose_gpus(words) == chosen
    with pytest.raises(UserError, match="names a GPU twice"):
        choose_gpus([*words, words[-1]])
    with pytest.raises(UserError, match="no GPU '2'; there are all, indices 0 to 1, and UUIDs"):
        choose_gpus(["2"])
