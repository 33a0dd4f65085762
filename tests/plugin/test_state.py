"""What a case changes for those after it: the next case is measured as in a clean run, and the culprit is named."""

from __future__ import annotations

import pytest
from tests.plugin.running import Run, records

CONFTEST = """
import gc, locale, os, random, sys, threading, time, warnings
from dataclasses import replace

import pytest
import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from peftbench.methods.basic import METHODS

HEAD = next(method for method in METHODS if method.name == "head")
HELD = []


class Watching(TorchDispatchMode):
    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        return func(*args, **(kwargs or {}))


class Overriding(TorchFunctionMode):
    def __torch_function__(self, func, types, args=(), kwargs=None):
        return func(*args, **(kwargs or {}))


def enter(context):
    HELD.append(context)
    context.__enter__()


def slow_hook(module, args, output):
    return output


def overwrite(model):
    def first(module, args, kwargs):
        kwargs["input_ids"].fill_(7)
    model.register_forward_pre_hook(first, with_kwargs=True)


DEEDS = {
    "threads": lambda model: torch.set_num_threads(2),
    "anomaly": lambda model: torch.autograd.set_detect_anomaly(True),
    "hook": lambda model: torch.nn.modules.module.register_module_forward_hook(slow_hook),
    "dispatch": lambda model: enter(Watching()),
    "function": lambda model: enter(Overriding()),
    "nograd": lambda model: torch.set_grad_enabled(False),
    "inference-mode": lambda model: enter(torch.inference_mode()),
    "autocast": lambda model: enter(torch.autocast("cpu", torch.bfloat16)),
    "device": lambda model: torch.set_default_device("meta"),
    "dtype": lambda model: torch.set_default_dtype(torch.float64),
    "batch": overwrite,
    "saved": lambda model: enter(torch.autograd.graph.saved_tensors_hooks(lambda one: one, lambda one: one)),
    "deterministic": lambda model: torch.use_deterministic_algorithms(True),
    "python": lambda model: (gc.disable(), random.seed(0), os.chdir("/"), warnings.simplefilter("ignore")),
    "locale": lambda model: locale.setlocale(locale.LC_ALL, "C.UTF-8"),
    "environment": lambda model: os.environ.update(A_NEW_ONE="a secret"),
    "thread": lambda model: threading.Thread(target=time.sleep, args=(5,), name="mine", daemon=True).start(),
    "broken": lambda model: (torch.set_num_threads(2), 1 / 0),
    "exit": lambda model: (torch.set_grad_enabled(False), sys.exit(3)),
}


class Doing(type(HEAD)):
    def apply(self, model, application):
        model = super().apply(model, application)
        if deed := DEEDS.get(self.name):
            deed(model)
        return model


@pytest.hookimpl
def pytest_peftbench_methods():
    plain = [f"plain-{name}" for name in ("first", *DEEDS)]
    return [Doing(**{**HEAD_FIELDS, "name": name}) for name in (*DEEDS, *plain)]


HEAD_FIELDS = {name: getattr(HEAD, name) for name in HEAD.__dataclass_fields__}
"""
CULPRITS = {
    "threads": "torch's threads: 2 instead of 1",
    "anomaly": "torch's anomaly detection: on instead of off",
    "hook": "torch's hooks on all modules or optimizers: slow_hook added",
    "dispatch": "torch's dispatch modes: Watching added",
    "function": "torch's function modes: Overriding added",
    "nograd": "torch's gradients (grad mode): False instead of True",
    "inference-mode": "torch's inference mode: True instead of False",
    "autocast": "autocast on cpu: torch.bfloat16 instead of off",
    "device": "torch's default device: meta instead of None",
    "dtype": "torch's default dtype: torch.float64 instead of torch.float32",
    "batch": "the batches: input_ids of batch 0",
    "saved": "torch's hooks on saved tensors: ",
    "deterministic": "torch's deterministic algorithms: on instead of off",
    "python": "the working directory: / instead of ",
    "locale": "the locale: ",
    "environment": "the environment variables: A_NEW_ONE",
    "thread": "the running threads: mine added; the cases after it run with that",
    "broken": "torch's threads: 2 instead of 1",
    "exit": "torch's gradients (grad mode): False instead of True",
}
EXACT = ("flops", "operator_calls", "saved_bytes", "peak_live_bytes", "allocations", "python_calls", "bytecodes")


def test_the_next_case_is_measured_as_in_a_clean_run_and_the_culprit_is_named(
    run: Run, benches: pytest.Pytester
) -> None:
    benches.makeconftest(CONFTEST)
    small = ("-k", "train_step", "--peftbench-rounds=1", "--peftbench-seq-len=8", "--peftbench-threads=1")
    run(*small, "--peftbench-methods=plain-first", "--peftbench-json=clean.json").assert_outcomes(passed=1)
    methods = ["plain-first", *(name for deed in CULPRITS for name in (deed, f"plain-{deed}"))]
    run(*small, f"--peftbench-methods={','.join(methods)}", "--peftbench-json=run.json")
    (clean,) = records(benches.path / "clean.json").values()
    found = {record["method"]: record for record in records(benches.path / "run.json").values()}
    assert list(found) == methods
    for deed, words in CULPRITS.items():
        culprit, following = found[deed], found[f"plain-{deed}"]
        assert any(f"changed {words}" in line for line in culprit["warnings"]), (
            deed,
            culprit.get("reason", ""),
            culprit.get("warnings"),
        )
        assert not [line for line in following.get("warnings", ()) if "changed" in line], deed
        assert following["status"] == "ok", following
        for name in (*EXACT, "peak_bytes", "weights_bytes", "optimizer_bytes"):
            assert following["metrics"][name] == clean["metrics"][name], (deed, name)
        assert following["operators"] == clean["operators"], deed
        assert following["operator_hash"] == clean["operator_hash"], deed
    assert found["broken"]["reason"] == "ZeroDivisionError: division by zero (in validity)"
    assert found["exit"]["reason"] == "SystemExit: 3 (in validity)"
