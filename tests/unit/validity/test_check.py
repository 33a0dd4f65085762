"""The validity pass against methods that work, and against methods that are broken on purpose."""

from __future__ import annotations

import copy
import resource
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from peftbench.devices.precision import Precision
from peftbench.errors import UnsupportedError, ValidityError
from peftbench.measure.counters.checkpoint_size import checkpoint_size
from peftbench.methods.base import Application, Method
from peftbench.methods.basic import METHODS as BASIC
from peftbench.tasks.classification import TASKS
from peftbench.validity.check import Validity, check
from peftbench.workloads.subject import Subject

if TYPE_CHECKING:
    from transformers import PreTrainedModel

SIZES: Mapping[str, int] = {
    "vocab_size": 100,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "max_position_embeddings": 32,
}
PLAIN_QUERY = "bert.encoder.layer.0.attention.self.query"
QUERY = f"base_model.model.{PLAIN_QUERY}"


@dataclass(frozen=True, kw_only=True)
class Lora(Method):
    name: str = "lora"
    family: str = "test"
    summary: str = "LoRA as PEFT has it"
    source: str = "peft"
    mergeable: bool = True

    def apply(self, model: PreTrainedModel, application: Application) -> nn.Module:
        from peft import LoraConfig, get_peft_model

        del application
        configuration = LoraConfig(task_type="SEQ_CLS", r=4, target_modules=["query", "value"])
        applied = cast("nn.Module", get_peft_model(model, configuration))
        self.spoil(applied)
        return applied

    def spoil(self, applied: nn.Module) -> None:
        """What a broken method does to a sound one."""

    def save(self, model: nn.Module, folder: Path) -> None:
        cast("Any", model).save_pretrained(folder)

    def load(self, model: PreTrainedModel, application: Application, folder: Path) -> nn.Module:
        from peft import PeftModel

        del application
        return cast("nn.Module", PeftModel.from_pretrained(model, folder))

    def merge(self, model: nn.Module) -> nn.Module:
        return cast("nn.Module", cast("Any", model).merge_and_unload())


@dataclass(frozen=True, kw_only=True)
class Spoiled(Lora):
    """LoRA with one part replaced."""

    spoils: Callable[[nn.Module], object] = lambda _: None
    hook: Callable[[nn.Module], Callable[[int], None]] | None = None
    regulariser: Callable[[nn.Module], torch.Tensor] | None = None
    saves: Callable[[Path], object] = lambda _: None
    merges: Callable[[nn.Module], nn.Module] = lambda merged: merged

    def spoil(self, applied: nn.Module) -> None:
        self.spoils(applied)

    def step_hook(self, model: nn.Module) -> Callable[[int], None] | None:
        return self.hook(model) if self.hook else None

    def auxiliary_loss(self, model: nn.Module) -> torch.Tensor | None:
        return self.regulariser(model) if self.regulariser else None

    def save(self, model: nn.Module, folder: Path) -> None:
        super().save(model, folder)
        self.saves(folder)

    def merge(self, model: nn.Module) -> nn.Module:
        return self.merges(super().merge(model))


@pytest.fixture(scope="module")
def bert() -> PreTrainedModel:
    from transformers import BertConfig, BertForSequenceClassification

    torch.manual_seed(0)
    return cast("PreTrainedModel", BertForSequenceClassification(BertConfig(**SIZES, num_labels=3)))


def subject(plain: PreTrainedModel, method: Method, **settings: Any) -> Subject:  # noqa: ANN401 (of Subject)
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(0, 100, (2, 6, 12), generator=generator)
    batches = [{"input_ids": i, "attention_mask": torch.ones_like(i), "labels": torch.arange(6) % 3} for i in ids]
    return Subject(
        method=method,
        application=Application(task=TASKS[0]),
        batches=batches,
        fresh_model=lambda: copy.deepcopy(plain),
        **settings,
    )


def proof(plain: PreTrainedModel, method: Method) -> Validity:
    return check(subject(plain, method))


def refuse(_: Path) -> None:
    raise UnsupportedError("lora has no files")


def tensor(model: nn.Module, name: str) -> torch.Tensor:
    return {**dict(model.named_parameters()), **dict(model.named_buffers())}[name]


def test_a_sound_method_proves_everything(bert: PreTrainedModel) -> None:
    state = torch.random.get_rng_state()
    validity = proof(bert, Lora())
    assert validity.steps == 2
    assert validity.notes == ()
    assert validity.facts[:4] == (
        "loss and gradients are finite in 2 steps",
        "10 trained tensors received gradients and changed in 2 steps",
        "43 frozen tensors stayed as they were, bit by bit",
        "two evaluations of the same batch are equal",
    )
    assert validity.facts[4].endswith("reloaded: the output is equal, bit by bit")
    assert validity.facts[5].startswith("merged: ")
    assert torch.equal(torch.random.get_rng_state(), state)


def test_the_checkpoint_is_as_large_as_its_files(bert: PreTrainedModel, tmp_path: Path) -> None:
    head = next(method for method in BASIC if method.name == "head")
    validity = proof(bert, head)
    head.save(subject(bert, head).applied_model(), tmp_path)
    assert validity.checkpoint == checkpoint_size(tmp_path)
    assert validity.metrics()["checkpoint_bytes"].value == sum(file.stat().st_size for file in tmp_path.iterdir())
    assert validity.metrics()["validity_s"].unit == "s"


@pytest.mark.parametrize("name", ["full", "head", "bitfit"])
def test_methods_that_add_nothing_are_sound(bert: PreTrainedModel, name: str) -> None:
    validity = proof(bert, next(method for method in BASIC if method.name == name))
    assert validity.facts[-1] == "does not claim to be mergeable"


@pytest.mark.parametrize(
    "head",
    [
        "AutoModelForSequenceClassification",
        "AutoModelForTokenClassification",
        "AutoModelForQuestionAnswering",
        "AutoModelForMultipleChoice",
    ],
)
def test_xlmr_is_sound_under_every_head(head: str) -> None:
    import transformers

    torch.manual_seed(0)
    labels_count = 2 if head == "AutoModelForQuestionAnswering" else 3
    config = transformers.XLMRobertaConfig(**SIZES, num_labels=labels_count, type_vocab_size=1)
    plain = getattr(transformers, head).from_config(config)
    full = subject(plain, BASIC[0])
    labels: Mapping[str, Mapping[str, torch.Tensor]] = {
        "AutoModelForTokenClassification": {"labels": torch.ones(6, 12, dtype=torch.long)},
        "AutoModelForQuestionAnswering": {"start_positions": torch.arange(6), "end_positions": torch.arange(6)},
        "AutoModelForMultipleChoice": {"labels": torch.arange(6) % 2},
    }
    for batch in full.batches:
        batch.update(labels.get(head, {}))
        if head == "AutoModelForMultipleChoice":
            batch.update({name: torch.stack([batch[name], batch[name].flip(0)], 1) for name in list(batch)[:2]})
        if head == "AutoModelForQuestionAnswering":
            del batch["labels"]
    assert check(full).steps >= 2


# --- what is trained


def freeze_all(model: nn.Module) -> None:
    model.requires_grad_(False)  # noqa: FBT003 (torch's own way)


def freeze_head(model: nn.Module) -> None:
    for name, parameter in model.named_parameters():
        if "classifier.modules_to_save" in name:
            parameter.requires_grad_(False)  # noqa: FBT003 (torch's own way)


def train_base(model: nn.Module) -> None:
    tensor(model, f"{QUERY}.base_layer.weight").requires_grad_()


def freeze_adapter(model: nn.Module) -> None:
    for name, parameter in model.named_parameters():
        if "lora_" in name:
            parameter.requires_grad_(False)  # noqa: FBT003 (torch's own way)


def add_unused(model: nn.Module) -> None:
    model.get_submodule(QUERY).register_parameter("unused", nn.Parameter(torch.ones(2)))


@pytest.mark.parametrize(
    ("spoils", "reason"),
    [
        (freeze_all, "nothing requires a gradient"),
        (freeze_head, "the task head is not trained: classifier.weight and 1 more frozen"),
        (train_base, f"weights of the backbone are trained beside the method's own: {PLAIN_QUERY}.base_layer.weight"),
        (
            freeze_adapter,
            f"none of the method's own parameters is trained: {PLAIN_QUERY}.lora_A.default.weight and 7 more frozen",
        ),
        (add_unused, f"no gradient reaches {PLAIN_QUERY}.unused in 12 steps"),
    ],
)
def test_wrong_weights_are_found(bert: PreTrainedModel, spoils: Callable[[nn.Module], None], reason: str) -> None:
    with pytest.raises(ValidityError) as caught:
        proof(bert, Spoiled(spoils=spoils))
    assert str(caught.value) == reason


def cut_off(model: nn.Module) -> None:
    """Let the loss depend on nothing that is trained, as on a text where only what reads images is."""

    def forget(module: nn.Module, arguments: object, output: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        del module, arguments
        output["loss"] = output["loss"].detach()
        return output

    model.register_forward_hook(forget)


def test_a_loss_that_depends_on_nothing_that_is_trained_is_a_reason(bert: PreTrainedModel) -> None:
    with pytest.raises(ValidityError, match=r"^no gradient reaches .*: the loss does not depend on it$"):
        proof(bert, Spoiled(spoils=cut_off))


def test_a_method_may_say_that_it_trains_the_backbone_too(bert: PreTrainedModel) -> None:
    assert proof(bert, Spoiled(spoils=train_base, saves=refuse, trains_backbone=True, mergeable=False)).steps == 2


def test_what_the_plain_model_does_not_use_may_stand_still(bert: PreTrainedModel) -> None:
    plain = copy.deepcopy(bert)
    plain.get_submodule("bert").register_parameter("unused", nn.Parameter(torch.ones(2)))
    assert proof(plain, BASIC[0]).notes == ("bert.unused did not change: the plain model's loss does not depend on it",)


class RandomDepth(nn.Module):
    """A linear layer with a scale that training nearly always skips."""

    def __init__(self, layer: nn.Linear) -> None:
        super().__init__()
        self.layer = layer
        self.scale = nn.Parameter(torch.ones(1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        output = cast("torch.Tensor", self.layer(x))
        return output if self.training else output * self.scale


class NoiseOnly(nn.Module):
    """A layer that is never quiet."""

    def __init__(self, layer: nn.Linear) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        output = cast("torch.Tensor", self.layer(x))
        return output + torch.randn_like(output)


class Wobbling(NoiseOnly):
    """A layer whose output differs from call to call by rounding."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        output = cast("torch.Tensor", self.layer(x))
        return output + 1e-7 * torch.randn_like(output)


class Undefined(NoiseOnly):
    """A layer that works in training only."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        output = cast("torch.Tensor", self.layer(x))
        return output if self.training else output * float("nan")


def pooler_in(kind: Callable[[nn.Linear], nn.Module]) -> Callable[[nn.Module], None]:
    def spoil(model: nn.Module) -> None:
        pooler = model.get_submodule("base_model.model.bert.pooler")
        pooler.register_module("dense", kind(cast("nn.Linear", pooler.dense)))

    return spoil


def test_a_layer_that_training_skips_gets_its_gradient_in_evaluation_mode(bert: PreTrainedModel) -> None:
    method = RandomDepthLora(spoils=pooler_in(RandomDepth), mergeable=False)
    assert proof(bert, method).steps == 9


@dataclass(frozen=True, kw_only=True)
class RandomDepthLora(Spoiled):
    """Reloading wraps the pooler as well."""

    def save(self, model: nn.Module, folder: Path) -> None:
        super().save(model, folder)
        scale = tensor(model, "base_model.model.bert.pooler.dense.scale")
        save_file({"scale": scale.detach()}, folder / "scale.safetensors")

    def load(self, model: PreTrainedModel, application: Application, folder: Path) -> nn.Module:
        loaded = super().load(model, application, folder)
        self.spoil(loaded)
        with torch.no_grad():
            scale = load_file(folder / "scale.safetensors")["scale"]
            tensor(loaded, "base_model.model.bert.pooler.dense.scale").copy_(scale)
        return loaded


# --- loss and gradients


def not_a_number(model: nn.Module) -> torch.Tensor:
    return next(p for p in model.parameters() if p.requires_grad).sum() * float("nan")


def steep(model: nn.Module) -> torch.Tensor:
    return (next(p for p in model.parameters() if p.requires_grad) * 0).sum().sqrt()


@pytest.mark.parametrize(
    ("regulariser", "reason"),
    [
        (not_a_number, "the loss is nan in step 1"),
        (
            steep,
            f"the gradient is not finite in step 1: {PLAIN_QUERY}.lora_A.default.weight",
        ),
    ],
)
def test_a_loss_or_gradient_that_is_not_finite_is_found(
    bert: PreTrainedModel, regulariser: Callable[[nn.Module], torch.Tensor], reason: str
) -> None:
    with pytest.raises(ValidityError) as caught:
        proof(bert, Spoiled(regulariser=regulariser))
    assert str(caught.value) == reason


# --- what changes


def hooked(act: Callable[[nn.Module], object]) -> Callable[[nn.Module], Callable[[int], None]]:
    return lambda model: lambda _step: cast("None", act(model))


def move_buffer(model: nn.Module) -> None:
    tensor(model, "base_model.model.bert.embeddings.position_ids").copy_(torch.arange(31, -1, -1))


def move_weight(model: nn.Module) -> None:
    with torch.no_grad():
        tensor(model, "base_model.model.bert.embeddings.word_embeddings.weight")[7, 3] += 1e-6


def remove_pooler(model: nn.Module) -> None:
    model.get_submodule("base_model.model.bert").register_module("pooler", nn.Flatten(0))


def reset_head(model: nn.Module) -> None:
    with torch.no_grad():
        plain = tensor(model, "base_model.model.classifier.original_module.weight")
        tensor(model, "base_model.model.classifier.modules_to_save.default.weight").copy_(plain)


@pytest.mark.parametrize(
    ("act", "reason"),
    [
        (move_buffer, "training changed what is frozen: bert.embeddings.position_ids"),
        (move_weight, "training changed what is frozen: bert.embeddings.word_embeddings.weight"),
        (reset_head, "classifier.modules_to_save.default.weight did not change in 2 steps"),
    ],
)
def test_wrong_changes_are_found(bert: PreTrainedModel, act: Callable[[nn.Module], None], reason: str) -> None:
    with pytest.raises(ValidityError) as caught:
        proof(bert, Spoiled(hook=hooked(act)))
    assert str(caught.value) == reason


def test_a_gradient_that_adamw_does_not_feel_is_told_and_is_no_fault(bert: PreTrainedModel) -> None:
    def attenuate(model: nn.Module) -> None:  # as an encoder without layer norms does
        cast("Any", tensor(model, f"{QUERY}.lora_A.default.weight")).register_hook(lambda gradient: 1e-14 * gradient)

    found = proof(bert, Spoiled(spoils=attenuate))
    assert found.notes == (
        f"{QUERY}.lora_A.default.weight did not change: its gradient is too small for AdamW to move it",
    )


def test_a_tensor_that_training_removes_is_found(bert: PreTrainedModel) -> None:
    def rename(model: nn.Module) -> None:
        pooler = model.get_submodule("base_model.model.bert.pooler")
        if hasattr(pooler, "dense"):
            dense = pooler.dense
            del pooler.dense
            pooler.register_module("renamed", cast("nn.Module", dense))
            pooler.forward = lambda hidden: torch.tanh(cast("nn.Module", dense)(hidden[:, 0]))

    with pytest.raises(ValidityError, match=r"^training removed bert\.pooler\.dense\.bias and 1 more$"):
        proof(bert, Spoiled(hook=hooked(rename)))


def test_state_of_the_methods_own_may_move(bert: PreTrainedModel) -> None:
    def add_state(model: nn.Module) -> None:
        model.get_submodule(QUERY).register_buffer("steps_seen", torch.zeros(1))

    def move_state(model: nn.Module) -> None:
        tensor(model, f"{QUERY}.steps_seen").add_(1)

    assert proof(bert, Spoiled(spoils=add_state, hook=hooked(move_state))).steps == 2


def test_hook_and_regulariser_are_used_as_in_training(bert: PreTrainedModel) -> None:
    seen: list[tuple[int, bool]] = []

    def hook(model: nn.Module) -> Callable[[int], None]:
        weight = tensor(model, f"{QUERY}.lora_B.default.weight")
        return lambda step: seen.append((step, weight.grad is not None))

    def regulariser(model: nn.Module) -> torch.Tensor:
        seen.append((-1, model.training))
        return torch.zeros(())

    proof(bert, Spoiled(hook=hook, regulariser=regulariser))
    assert seen == [(-1, True), (0, True), (-1, True), (1, True)]


# --- outputs


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        (NoiseOnly, "two evaluations of the same batch differ"),
        (Undefined, "the output in evaluation mode is not finite"),
    ],
)
def test_outputs_that_cannot_be_relied_on_are_found(
    bert: PreTrainedModel, kind: Callable[[nn.Linear], nn.Module], reason: str
) -> None:
    with pytest.raises(ValidityError) as caught:
        proof(bert, Spoiled(spoils=pooler_in(kind)))
    assert str(caught.value) == reason


def test_only_a_method_that_rounds_its_weights_in_each_pass_may_differ_by_rounding(bert: PreTrainedModel) -> None:
    facts = proof(bert, Spoiled(spoils=pooler_in(Wobbling), projects="it scales them", mergeable=False)).facts
    assert "two evaluations are equal within rounding: it scales them" in facts
    for kind, projects in ((Wobbling, ""), (NoiseOnly, "it scales them")):
        with pytest.raises(ValidityError, match="two evaluations of the same batch differ"):
            proof(bert, Spoiled(spoils=pooler_in(kind), projects=projects))


def losing(part: str) -> Callable[[Path], None]:
    def lose(folder: Path) -> None:
        file = folder / "adapter_model.safetensors"
        kept = {name: value for name, value in load_file(file).items() if part not in name}
        save_file(kept, file, metadata={"format": "pt"})

    return lose


@pytest.mark.parametrize(
    ("part", "reason"),
    [
        ("layer.1.attention.self.query.lora_B", "the reloaded model's output differs by "),
        ("layer.1.attention.self.value.lora_A", "the reloaded model's output differs by "),
        ("classifier.bias", "failed in saving and reloading: KeyError: "),
    ],
)
@pytest.mark.filterwarnings("ignore:Found missing adapter keys")
def test_a_tensor_that_saving_loses_is_found(bert: PreTrainedModel, part: str, reason: str) -> None:
    with pytest.raises(ValidityError) as caught:
        proof(bert, Spoiled(saves=losing(part)))
    assert str(caught.value).startswith(reason)


def test_a_checkpoint_that_cannot_be_read_is_found(bert: PreTrainedModel) -> None:
    def cut(folder: Path) -> None:
        (folder / "adapter_model.safetensors").write_bytes(b"no tensors")

    with pytest.raises(ValidityError, match=r"^failed in saving and reloading: SafetensorError: "):
        proof(bert, Spoiled(saves=cut))


def test_a_method_that_cannot_save_says_so(bert: PreTrainedModel) -> None:
    validity = proof(bert, Spoiled(saves=refuse))
    assert validity.checkpoint is None
    assert validity.notes == ("saving and reloading not available: lora has no files",)
    assert validity.metrics()["checkpoint_bytes"].reason


def full(folder: Path) -> None:
    raise OSError(28, "No space left on device", str(folder))


def test_a_full_temporary_disk_is_no_fault_of_the_method(bert: PreTrainedModel) -> None:
    with pytest.raises(OSError, match="No space left"):
        proof(bert, Spoiled(saves=full))


def test_a_file_that_the_system_does_not_let_grow_is_no_fault_of_the_method(bert: PreTrainedModel) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2048, hard))  # a disk that is nearly full, as far as a writer can tell
    try:
        with pytest.raises(Exception, match="File too large") as caught:
            proof(bert, Spoiled())
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert not isinstance(caught.value, ValidityError)


@pytest.mark.parametrize("part", ["query", "value"])
def test_a_merge_that_forgets_a_weight_is_found(bert: PreTrainedModel, part: str) -> None:
    def forget(merged: nn.Module) -> nn.Module:
        name = f"bert.encoder.layer.1.attention.self.{part}.weight"
        with torch.no_grad():
            tensor(merged, name).copy_(tensor(bert, name))
        return merged

    reason = r"^the merged model's output differs by \S+ of its scale, 1e-05 is allowed$"
    with pytest.raises(ValidityError, match=reason):
        proof(bert, Spoiled(merges=forget))


def test_a_merge_that_leaves_adapter_code_is_found(bert: PreTrainedModel) -> None:
    @dataclass(frozen=True, kw_only=True)
    class Idle(Lora):
        def merge(self, model: nn.Module) -> nn.Module:
            return model

    reason = r"^the merged model still has parameters of the method: bert\.encoder\..*base_layer\.weight and 15 more$"
    with pytest.raises(ValidityError, match=reason):
        proof(bert, Idle())


def test_a_merge_that_fails_is_told(bert: PreTrainedModel) -> None:
    def fail(_: nn.Module) -> nn.Module:
        raise AttributeError("no such weight\nin line 3")

    validity = proof(bert, Spoiled(merges=fail))
    assert validity.notes == ("merge not available: failed in merging: AttributeError: no such weight",)


def test_memory_that_runs_out_is_not_the_methods_fault(bert: PreTrainedModel) -> None:
    def exhaust(_: nn.Module) -> nn.Module:
        raise torch.OutOfMemoryError("CUDA out of memory")

    with pytest.raises(torch.OutOfMemoryError):
        proof(bert, Spoiled(merges=exhaust))


# --- precision


def test_autocast_is_applied_and_its_rounding_allowed(bert: PreTrainedModel) -> None:
    validity = check(subject(bert, Lora(), precision=Precision(dtype="bfloat16", autocast=True)))
    assert validity.tolerance == 5e-2


def test_weights_that_cannot_be_trained_are_not_trained(bert: PreTrainedModel) -> None:
    half = copy.deepcopy(bert).to(torch.float16)
    validity = check(subject(half, BASIC[0], precision=Precision(dtype="float16")))
    assert validity.steps == 0
    assert validity.notes[0].startswith("training not checked: float16 weights cannot be trained")


def test_coarse_weights_move_all_the_same(bert: PreTrainedModel) -> None:
    coarse = copy.deepcopy(bert).to(torch.bfloat16)
    assert check(subject(coarse, BASIC[0], precision=Precision(dtype="bfloat16"))).steps == 2
