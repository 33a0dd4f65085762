import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from peftbench.errors import UserError
from peftbench.gate.snapshot import CaseSnapshot, Profile, Snapshot
from peftbench.gate.store import file_name, find, load, save, writing

FINGERPRINT = {"device": "NVIDIA H200", "torch": "2.13.0", "peft": "0.21.2"}
SETTINGS = {"model": "./my models/XLM-R.base", "dtype": "bfloat16"}
BASELINE = Snapshot(FINGERPRINT, SETTINGS, {"a": CaseSnapshot()})


def test_a_file_is_named_by_what_people_know_it_by_and_a_hash_of_all() -> None:
    name = file_name(FINGERPRINT, SETTINGS)
    assert name.startswith("nvidia-h200-my-models-xlm-r.base-bfloat16-")
    assert name == file_name(dict(reversed(FINGERPRINT.items())), SETTINGS)
    others = [file_name({**FINGERPRINT, "torch": "2.14.0"}, SETTINGS), file_name(FINGERPRINT, {**SETTINGS, "seed": 1})]
    assert len({name, *others}) == 3


def test_the_name_is_the_same_in_every_process() -> None:
    code = f"from peftbench.gate.store import file_name; print(file_name({FINGERPRINT}, {SETTINGS}))"
    environment = {"PYTHONPATH": ":".join(sys.path), "PYTHONHASHSEED": "7"}
    result = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert result.stdout.strip() == file_name(FINGERPRINT, SETTINGS)


def test_the_baseline_of_the_fingerprint_is_found_else_the_most_alike(tmp_path: Path) -> None:
    assert find(tmp_path / "none", FINGERPRINT, SETTINGS) is None
    far = replace(BASELINE, fingerprint={"device": "cpu", "torch": "2.0.0", "peft": "0.21.2"})
    near = replace(BASELINE, fingerprint={**FINGERPRINT, "torch": "2.12.0"})
    foreign = replace(BASELINE, settings={"model": "other"})
    for baseline in (far, near, foreign):
        save(baseline, tmp_path / file_name(baseline.fingerprint, baseline.settings))
    found = find(tmp_path, FINGERPRINT, SETTINGS)
    assert found is not None
    assert found.baseline.fingerprint["torch"] == "2.12.0"
    path = tmp_path / file_name(FINGERPRINT, SETTINGS)
    save(BASELINE, path)
    exact = find(tmp_path, FINGERPRINT, SETTINGS)
    assert exact is not None
    assert (exact.path, exact.baseline) == (path, BASELINE)
    assert find(tmp_path, FINGERPRINT, {"model": "third"}) is None


def test_a_second_writer_waits_in_vain(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("peftbench.gate.store.PATIENCE_S", 0.0)
    path = tmp_path / "b.json"
    with writing(path), pytest.raises(UserError, match="another process is writing it"), writing(path):
        pass
    with writing(path):
        save(BASELINE, path)
    assert [entry.name for entry in tmp_path.iterdir()] == ["b.json"]


def test_what_would_be_refused_is_not_written(tmp_path: Path) -> None:
    path = tmp_path / "base.json"
    save(BASELINE, path)
    before = path.read_bytes()
    for profile in (Profile({"aten::mm": 10**400}), Profile({"x" * 200_000: 1})):
        with pytest.raises(UserError, match=r"not written, since it could not be read back: .*profiles"):
            save(replace(BASELINE, cases={"a": CaseSnapshot(profile=profile)}), path)
    assert path.read_bytes() == before


def test_a_baseline_of_the_time_before_executions_is_found_and_compared_under_its_old_name(tmp_path: Path) -> None:
    old = {**SETTINGS, "compile": False}
    path = tmp_path / file_name(FINGERPRINT, old)
    save(replace(BASELINE, settings=old), path)
    found = find(tmp_path, FINGERPRINT, {**SETTINGS, "execution": "eager"})
    assert found is not None
    assert found.path == path
    assert found.baseline.settings == {**SETTINGS, "execution": "eager"}
    save(found.baseline, path)
    again = find(tmp_path, FINGERPRINT, {**SETTINGS, "execution": "eager"})
    assert again == found
    for execution in ("compile", "graph", "compile:max-autotune"):
        assert find(tmp_path, FINGERPRINT, {**SETTINGS, "execution": execution}) is None


def test_the_baseline_in_git_keeps_its_name() -> None:
    for path in (Path(__file__).parents[3] / "baselines").glob("*.json"):
        baseline = load(path)
        assert baseline.settings["execution"] == "eager"
        assert file_name(baseline.fingerprint, baseline.settings) == path.name
