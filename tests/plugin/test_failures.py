"""A case that cannot be measured is a row with its reason, and the run goes on."""

import pytest
from tests.plugin.running import Run, records
from transformers import LlamaConfig, LlamaForCausalLM

CONFTEST = """
import pytest
from dataclasses import replace
from peftbench.errors import UnsupportedError
from peftbench.methods.basic import METHODS

FULL = next(method for method in METHODS if method.name == "full")


class Method(type(FULL)):
    def apply(self, model, application):
        {apply}

    def unsupported(self, task, *, architecture):
        {unsupported}


@pytest.hookimpl
def pytest_peftbench_methods():
    return [Method(name="mine", family="basic", summary="", source="")]
"""


@pytest.mark.parametrize(
    ("apply", "unsupported", "status", "outcome", "reason"),
    [
        ("return model", "return 'no such head'", "unsupported", "skipped", "no such head"),
        ("raise UnsupportedError('blocks not understood')", "return ''", "unsupported", "skipped", "blocks not"),
        (
            "import torch; torch.empty(2**60)",
            "return ''",
            "out-of-memory",
            "skipped",
            "out of memory in validity",
        ),
        ("model.requires_grad_(False); return model", "return ''", "invalid", "failed", "nothing requires a gradient"),
        ("return 1 / 0", "return ''", "failed", "failed", "ZeroDivisionError: division by zero"),
        ("raise SystemExit(3)", "return ''", "failed", "failed", "SystemExit: 3"),
        ("pytest.fail('no good')", "return ''", "failed", "failed", "Failed: no good"),
        (
            "raise OSError(28, 'No space left on device')",
            "return ''",
            "failed",
            "failed",
            "disk full in validity: OSError: [Errno 28] No space left on device; free some space, or set TMPDIR",
        ),
    ],
)
def test_a_row_with_a_reason(
    run: Run, benches: pytest.Pytester, apply: str, unsupported: str, status: str, outcome: str, reason: str
) -> None:
    benches.makeconftest(CONFTEST.format(apply=apply, unsupported=unsupported))
    result = run("--peftbench-methods=mine,full", "-k", "train_step", "--peftbench-json=run.json")
    result.assert_outcomes(passed=1, **{outcome: 1})
    found = records(benches.path / "run.json")
    assert found["train_step[full-nli-bs2]"]["status"] == "ok"
    mine = found["train_step[mine-nli-bs2]"]
    assert mine["status"] == status
    assert reason in mine["reason"]
    assert "time_s" not in mine["metrics"]
    result.stdout.fnmatch_lines([f"  mine: {status}: *"])


def test_what_one_case_cannot_do_is_its_row_and_the_run_goes_on(run: Run, benches: pytest.Pytester) -> None:
    result = run("--peftbench-methods=lora(r=9999),full", "-k", "train_step", "--peftbench-json=run.json")
    result.assert_outcomes(passed=1, failed=1)
    found = records(benches.path / "run.json")
    assert found["train_step[full-nli-bs2]"]["status"] == "ok"
    failed = found["train_step[lora(r=9999)-nli-bs2]"]
    assert (failed["status"], failed["metrics"]) == ("failed", {})
    assert failed["reason"] == "lora(r=9999): must be from 1 to 128, the smallest dimension of the adapted layers"
    result.stdout.fnmatch_lines(["train_step?lora(r=9999)-nli-bs2?: lora(r=9999): must be from 1 to 128, *"])
    result.stdout.no_fnmatch_line("*Traceback*")


def test_a_decoder_runs_through_all_tasks(run: Run, benches: pytest.Pytester) -> None:
    """Its class for spans calls the backbone otherwise than its checkpoint, and it has none for multiple choice."""
    shape = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 4}
    LlamaForCausalLM(LlamaConfig(vocab_size=64, max_position_embeddings=64, **shape)).save_pretrained(
        benches.path / "m"
    )
    result = run(
        "--peftbench-model=m", "--peftbench-tasks=nli,qa,copa", "-k", "train_step", "--peftbench-json=run.json"
    )
    result.assert_outcomes(passed=4, skipped=2)
    assert {key: record["status"] for key, record in records(benches.path / "run.json").items()} == {
        f"train_step[{method}-{task}-bs2]": "unsupported" if task == "copa" else "ok"
        for method in ("full", "lora")
        for task in ("nli", "qa", "copa")
    }


AGAIN = """
from _pytest.runner import runtestprotocol


def pytest_runtest_protocol(item, nextitem):
    runtestprotocol(item, nextitem=nextitem, log=False)  # as pytest-rerunfailures does; the second run comes next
"""


def test_a_case_that_failed_is_measured_again_when_it_is_run_again(run: Run, benches: pytest.Pytester) -> None:
    apply = "return super().apply(model, application) if TRIED else 1 / TRIED.append(0)"
    conftest = CONFTEST.format(apply=f"TRIED.extend([1] if TRIED else []); {apply}", unsupported="return ''")
    benches.makeconftest("TRIED = []\n" + conftest + AGAIN)
    run("--peftbench-methods=mine", "-k", "inference", "--peftbench-json=run.json").assert_outcomes(passed=1)
    assert records(benches.path / "run.json")["inference[mine-nli-bs2]"]["status"] == "ok"


def test_a_test_measures_once_and_what_can_be_called(run: Run, benches: pytest.Pytester) -> None:
    benches.makepyfile(
        bench_all="""
        def test_twice(peft_case):
            peft_case.measure(lambda model, batch: None)
            peft_case.measure(lambda model, batch: model(**batch))

        def test_name(peft_case):
            peft_case.measure("train_step")

        def test_nothing(peft_case):
            pass
        """
    )
    result = run("--peftbench-methods=head")
    result.assert_outcomes(failed=2, passed=1, warnings=1)
    result.stdout.fnmatch_lines(["test_twice?head-nli-bs2?: measure() is called again in this test: *"])
    result.stdout.fnmatch_lines(["test_name?head-nli-bs2?: measure() takes a function, not 'train_step'; *"])
    result.stdout.fnmatch_lines(["bench_all.py::test_nothing?head-nli-bs2?", "*Benchmark fixture was not used at all*"])
    result.stdout.no_fnmatch_line("*Traceback*")
