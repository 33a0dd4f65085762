"""What holds for each of the paper's methods."""

from __future__ import annotations

import copy
import re
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
import torch
from transformers import XLMRobertaConfig, XLMRobertaForSequenceClassification

from peftbench.errors import UnsupportedError, UserError
from peftbench.methods.base import head_names, is_head
from peftbench.records.ids import Scalar

if TYPE_CHECKING:
    from pathlib import Path

    from tests.unit.methods.conftest import Lab

    from peftbench.tasks.base import Batch

XLM_R_BASE = {
    "houlsby": 1_789_056,
    "pfeiffer": 894_528,
    "houlsby-parallel": 1_789_056,
    "pfeiffer-parallel": 894_528,
    "par-bn": 7_091_712,
    "compacter": 57_088,
    "compacter++": 28_576,
    "prefix": 9_872_384,
    "adapterdrop": 894_528,
    "adapterfusion": 21_252_096,
}
"""Trainable parameters of the body, 12 layers of 768."""


def test_trainable_parameters_on_xlm_r_base(paper: str, lab: Lab) -> None:
    with torch.device("meta"):
        model = XLMRobertaForSequenceClassification(XLMRobertaConfig())
    heads = head_names(model)
    applied = lab.methods[paper].apply(model, lab.application())
    body = [parameter.numel() for name, parameter in lab.trained(applied).items() if not is_head(name, heads)]
    assert sum(body) == XLM_R_BASE[paper]
    assert {parameter.device.type for parameter in applied.parameters()} == {"meta"}


def test_only_the_added_modules_and_the_head_learn(paper: str, lab: Lab, batch: Batch) -> None:
    backbone = {name for name, _ in lab.encoder().named_parameters() if not name.startswith("classifier.")}
    model = lab.apply_fitting(paper).train()
    lab.perturb(model)
    assert not {name.replace(".inner", "") for name in lab.trained(model)} & backbone
    assert {"classifier.weight", "classifier.bias"} <= set(lab.trained(model))
    model(**batch).loss.backward()
    for name, parameter in model.named_parameters():
        assert (parameter.grad is not None) == parameter.requires_grad, name
        if parameter.grad is not None:
            assert parameter.grad.isfinite().all(), name
            assert parameter.grad.any(), name


def test_the_seed_alone_decides_the_start(paper: str, lab: Lab) -> None:
    torch.manual_seed(1)
    state = torch.get_rng_state()
    first = lab.apply_fitting(paper, seed=3).state_dict()
    assert torch.equal(torch.get_rng_state(), state), "the global random state is left alone"
    torch.manual_seed(2)
    again, other = (lab.apply_fitting(paper, seed=seed).state_dict() for seed in (3, 4))
    assert all(torch.equal(tensor, again[name]) for name, tensor in first.items())
    assert any(not torch.equal(tensor, other[name]) for name, tensor in first.items())


def test_disabled_is_the_plain_model_with_the_same_head(paper: str, lab: Lab, batch: Batch) -> None:
    method, model, plain = lab.methods[paper], lab.apply_fitting(paper), lab.encoder()
    lab.perturb(model)
    plain.classifier.load_state_dict(model.classifier.state_dict())
    wanted, adapted = plain(**batch).logits, model(**batch).logits
    assert not torch.allclose(adapted, wanted, atol=1e-3)
    with method.disabled(model):
        assert torch.equal(model(**batch).logits, wanted)
        with method.disabled(model):
            pass
        assert torch.equal(model(**batch).logits, wanted), "leaving an inner context does not enable the method"
    assert torch.equal(model(**batch).logits, adapted)


def test_a_reloaded_model_computes_the_same(paper: str, lab: Lab, batch: Batch, tmp_path: Path) -> None:
    method, model = lab.methods[paper], lab.apply_fitting(paper)
    lab.perturb(model)
    method.save(model, tmp_path)
    assert [path.suffix for path in tmp_path.iterdir()] == [".safetensors"]
    loaded = method.load(lab.encoder(), lab.fitting(paper), tmp_path)
    assert torch.equal(loaded(**batch).logits, model(**batch).logits)
    assert lab.trained(loaded).keys() == lab.trained(model).keys()


def test_a_checkpoint_of_another_configuration_is_refused(paper: str, lab: Lab, tmp_path: Path) -> None:
    method = lab.methods[paper]
    method.save(lab.apply_fitting(paper), tmp_path)
    with pytest.raises(UserError, match=r"saved with configuration .*, not "):
        method.load(lab.encoder(), lab.fitting(paper, non_linearity="mish"), tmp_path)


def test_new_parameters_get_dtype_and_mode_of_the_model(paper: str, lab: Lab, batch: Batch) -> None:
    model = lab.methods[paper].apply(lab.encoder().bfloat16(), lab.fitting(paper))
    assert {parameter.dtype for parameter in model.parameters()} == {torch.bfloat16}
    assert not any(module.training for module in model.modules())
    assert model(**batch).logits.dtype == torch.bfloat16


def test_a_copy_is_independent_and_shares_what_was_shared(paper: str, lab: Lab, batch: Batch) -> None:
    model = lab.apply_fitting(paper)
    wanted = model(**batch).logits
    twin = copy.deepcopy(model)
    assert lab.trained(twin).keys() == lab.trained(model).keys()
    lab.perturb(twin)
    assert torch.equal(model(**batch).logits, wanted)


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_padding_changes_nothing(attention: str, paper: str, lab: Lab, batch: Batch) -> None:
    model = lab.apply_fitting(paper, attention=attention)
    lab.perturb(model)
    alone = model(input_ids=batch["input_ids"][1:2, :6]).logits
    padded = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits[1:2]
    torch.testing.assert_close(padded, alone, rtol=0, atol=2e-6)


@pytest.mark.filterwarnings("ignore:.*checkpointing:FutureWarning")  # its new name is not in transformers 5.0
def test_gradient_checkpointing_changes_nothing(paper: str, lab: Lab, batch: Batch) -> None:
    plain = lab.encoder()
    blocks = list(plain.base_model.encoder.layer)
    model = lab.methods[paper].apply(plain, lab.fitting(paper)).train()
    lab.perturb(model)

    def gradients() -> dict[str, torch.Tensor | None]:
        model.zero_grad()
        torch.manual_seed(0)
        model(**batch).loss.backward()
        return {name: parameter.grad for name, parameter in lab.trained(model).items()}

    wanted = gradients()
    plain.gradient_checkpointing_enable()
    assert all(block.gradient_checkpointing for block in blocks)
    for name, gradient in gradients().items():
        torch.testing.assert_close(gradient, wanted[name])


@pytest.mark.parametrize("mechanism", ["prefix", "adapterfusion"])
def test_compiles_into_one_graph(mechanism: str, lab: Lab, batch: Batch) -> None:
    model = lab.apply_fitting(mechanism, num_hidden_layers=1)
    wanted = model(**batch).logits
    torch.compiler.reset()
    compiled: Any = torch.compile(model, backend="eager", fullgraph=True)
    torch.testing.assert_close(compiled(**batch).logits, wanted)


def test_multiple_choice(paper: str, lab: Lab, batch: Batch) -> None:
    model = lab.apply_fitting(paper, choices=True)
    choices = {name: batch[name].unsqueeze(0) for name in ("input_ids", "attention_mask")}
    model(**choices, labels=torch.tensor([1])).loss.backward()
    assert all(parameter.grad is not None for parameter in lab.trained(model).values())


def test_cannot_be_merged_and_says_why(paper: str, lab: Lab) -> None:
    method = lab.methods[paper]
    assert not method.mergeable
    with pytest.raises(UnsupportedError, match=rf"^{re.escape(paper)} cannot be merged: .* cannot be folded into"):
        method.merge(lab.apply_fitting(paper))


def test_an_anatomy_that_is_not_described(paper: str, lab: Lab) -> None:
    method, application = lab.methods[paper], lab.fitting(paper)
    model = lab.encoder("nystromformer", attention="eager", num_landmarks=2, segment_means_seq_len=4)
    reason = r"^the anatomy of 'nystromformer' is not described; add it in ten lines: .*docs/extend.md$"
    with pytest.raises(UnsupportedError, match=reason):
        method.apply(model, application)
    assert re.match(reason, method.unsupported(application.task, architecture="nystromformer"))


def test_what_can_be_overridden_is_listed_as_defaults(paper: str, lab: Lab) -> None:
    known = ", ".join(sorted(lab.methods[paper].defaults))
    with pytest.raises(UserError, match=rf"^unknown override of {re.escape(paper)} 'xyz': known: {known}$"):
        lab.apply(paper, {"xyz": 3})


def test_the_definitions_import_no_torch() -> None:
    modules = ", ".join(
        f"peftbench.methods.paper.{name}" for name in ("bottleneck", "prefix", "adapter_drop", "fusion")
    )
    code = f"import sys, {modules}; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


HIDDEN = r"does not divide the model's hidden size 32; choose one of 1, 2, 4, 8, 16, 32$"


@pytest.mark.parametrize(
    ("name", "overrides", "message"),
    [
        ("houlsby", {"reduction_factor": 5}, r"^houlsby\(reduction_factor=5\): " + HIDDEN),
        ("houlsby", {"reduction_factor": 0}, r"^houlsby\(reduction_factor=0\): must be at least 1$"),
        ("houlsby", {"reduction_factor": "many"}, r"^houlsby\(reduction_factor=many\): must be a whole number$"),
        ("houlsby", {"reduction": 4}, r"^unknown override of houlsby 'reduction': did you mean 'reduction_factor'\?"),
        ("houlsby", {"non_linearity": "rellu"}, r"^unknown non-linearity 'rellu': did you mean 'relu\d?'\?"),
        ("houlsby", {"layers": "2-5"}, r"^houlsby\(layers=2-5\): no layer 5; the model has layers 0 to 1$"),
        ("houlsby", {"layers": "top"}, r"^houlsby\(layers=top\): 'top' is no layer; write all, or numbers"),
        ("compacter", {"reduction_factor": 4, "phm_dim": 3}, r"^compacter\(phm_dim=3\): " + HIDDEN),
        ("compacter", {"reduction_factor": 16, "phm_dim": 4}, r"bottleneck size 2; choose one of 1, 2$"),
        ("prefix", {"prefix_length": 0}, r"^prefix\(prefix_length=0\): must be at least 1$"),
        ("prefix", {"non_linearity": "tan"}, r"^unknown non-linearity 'tan': did you mean 'tanh'\?"),
        (
            "adapterdrop",
            {"dropped_at_inference": 2},
            r"^adapterdrop\(dropped_at_inference=2\): must be below .* 2 layers$",
        ),
        ("adapterdrop", {"max_dropped": -1}, r"^adapterdrop\(max_dropped=-1\): must be at least 0$"),
        ("adapterfusion", {"adapters": 1}, r"^adapterfusion\(adapters=1\): must be at least 2$"),
    ],
)
def test_an_override_that_does_not_fit_is_the_users_mistake(
    name: str, overrides: dict[str, Scalar], message: str, lab: Lab
) -> None:
    with pytest.raises(UserError, match=message) as caught:
        lab.apply(name, overrides)
    assert "\n" not in str(caught.value)


def test_a_default_that_does_not_fit_is_unsupported(lab: Lab) -> None:
    with pytest.raises(UnsupportedError, match=r"^compacter\(phm_dim=4\): does not divide the bottleneck size 1"):
        lab.apply("compacter")
