"""What a conftest.py adds: an architecture in ten lines, and a hook that is wrong is one line."""

import pytest
from tests.plugin.running import Run, records

PRESET = """
from peftbench import Anatomy, Preset, Stack, SubBlock

def pytest_peftbench_models():
    config = {"vocab_size": 200, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2}
    more = {"num_attention_heads": 4, "max_position_embeddings": 64, "pad_token_id": 1}
    return [Preset(name="small", summary="", model_type="biogpt", config=config | more)]
"""

ANATOMY = """
def pytest_peftbench_anatomies():
    stack = Stack(
        blocks="layers.*",
        attention=SubBlock(reads="self_attn_layer_norm", ends="self_attn.out_proj", attends="self_attn"),
        feed_forward=SubBlock(reads="final_layer_norm", ends="fc2"),
        dropout="dropout",
    )
    return [Anatomy(name="biogpt", stacks=[stack])]
"""

CASES = ("--peftbench-model=small", "--peftbench-methods=houlsby,par-bn,prefix", "-k", "train_step")


def test_an_architecture_is_described_in_a_conftest(run: Run, benches: pytest.Pytester) -> None:
    benches.makeconftest(PRESET)
    run(*CASES, "--peftbench-json=run.json").assert_outcomes(skipped=3)
    for record in records(benches.path / "run.json").values():
        assert record["status"] == "unsupported"
        assert "the anatomy of 'biogpt' is not described; add it in ten lines: peftbench.Anatomy" in record["reason"]

    benches.makeconftest(PRESET + ANATOMY)
    run(*CASES, "--peftbench-json=run.json").assert_outcomes(passed=3)
    assert {record["status"] for record in records(benches.path / "run.json").values()} == {"ok"}


def test_an_architecture_is_described_once(run: Run, benches: pytest.Pytester) -> None:
    benches.makeconftest(PRESET + ANATOMY.replace('"biogpt"', '"bert"'))
    result = run(*CASES)
    twice = (
        "*peftbench.anatomies: 'bert' is defined twice, by peftbench.methods.paper.anatomies:ALL and by conftest.py*"
    )
    result.stderr.fnmatch_lines([twice])


@pytest.mark.parametrize(
    ("hook", "said"),
    [
        ("yield PeftMethod(name='mine')", "*conftest.py, line 4: TypeError: *missing*; mend that hook"),
        ("return 7", "peftbench.methods: conftest.py adds 7, which is no instance of Method"),
    ],
)
def test_a_hook_that_is_wrong_is_one_line(run: Run, benches: pytest.Pytester, hook: str, said: str) -> None:
    benches.makeconftest(f"from peftbench import PeftMethod\n\ndef pytest_peftbench_methods():\n    {hook}\n")
    result = run("--co")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"ERROR: peftbench: {said}"])
    result.stderr.no_fnmatch_line("*Traceback*")


def test_a_workload_that_no_collected_function_measures_is_told(run: Run) -> None:
    asked = ("--co", "-q", "--peftbench-workloads=inference,merge,attach")
    told = 'peftbench: no file that was collected measures merge, attach: add a benchmark function, @bench("merge")'
    assert told.replace('"', "'") in run(*asked).outlines
    run("--co", "--peftbench-workloads=all,inference").stdout.no_fnmatch_line("*no file that was*")
    run("--co", "-k", "nothing", "--peftbench-workloads=inference").stdout.no_fnmatch_line("*no file that was*")
