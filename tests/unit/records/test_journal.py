import contextlib
import json
import os
import resource
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.records import a_record

from peftbench.errors import UserError
from peftbench.records.journal import Journal, read, readable, salvage
from peftbench.records.record import Launch, Metric, Record, record_to_json

HEADER = {"settings": {"seed": 0, "dtype": "float32"}, "fingerprint": {"torch": "2.13.0"}}


def record(name: str, status: str = "ok") -> Record:
    return a_record(
        id=name, status=status, metrics={"time_s": Metric(0.5, "s", low=0.4, high=0.6)}, launches=(Launch("s", 3, 0.5),)
    )


def written(path: Path, *records: Record) -> Path:
    journal = Journal(path, HEADER)
    for one in records:
        journal.append(one)
    journal.close()
    return path


def test_what_was_appended_is_read_back_and_failures_are_measured_again(tmp_path: Path) -> None:
    path = written(
        tmp_path / "j.jsonl", record("a"), record("b", "failed"), record("c", "unsupported"), record("d", "invalid")
    )
    resumed = Journal(path, HEADER, resume=True)
    assert resumed.finished == {"a": record("a"), "c": record("c", "unsupported")}
    resumed.append(record("b"))
    resumed.close()
    assert set(Journal(path, HEADER, resume=True).finished) == {"a", "b", "c"}


def test_a_record_is_on_the_disk_before_the_journal_is_closed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "j.jsonl"
    journal = Journal(path, HEADER)
    flushed: list[str] = []
    monkeypatch.setattr(os, "fsync", lambda _: flushed.append(json.loads(path.read_text().splitlines()[-1])["id"]))
    journal.append(record("a"))
    assert flushed == ["a"]  # else a power cut would lose it
    journal.close()


def test_another_device_is_refused_though_the_settings_have_a_device_too(tmp_path: Path) -> None:
    header = {"settings": {"device": "cuda"}, "fingerprint": {"device": "one GPU"}}
    Journal(tmp_path / "j.jsonl", header).close()
    other = {"settings": {"device": "cuda"}, "fingerprint": {"device": "another GPU"}}
    with pytest.raises(UserError, match=r"other settings \(device was one GPU, is another GPU\)"):
        Journal(tmp_path / "j.jsonl", other, resume=True)


def test_other_settings_are_refused_by_name(tmp_path: Path) -> None:
    path = written(tmp_path / "j.jsonl", record("a"))
    other = {"settings": {"seed": 1, "dtype": "float32"}, "fingerprint": {"torch": "2.14.0"}}
    with pytest.raises(UserError, match=r"other settings \(seed was 0, is 1; torch was 2.13.0, is 2.14.0\)"):
        Journal(path, other, resume=True)
    assert set(read(path, {"schema": "peftbench/journal/1", **HEADER})) == {"a"}


def test_a_new_run_keeps_the_old_journal_beside_it(tmp_path: Path) -> None:
    path = written(tmp_path / "j.jsonl", record("a"))
    written(path, record("b"))
    assert '"id": "a"' in path.with_suffix(".old").read_text()
    assert '"id": "a"' not in path.read_text()


@pytest.mark.parametrize("text", ["", "\n", "[]\n", "{}\n", '{"schema": "peftbench/journal/9"}\n', "x\n"])
def test_a_file_that_is_no_journal_is_refused_in_one_line(tmp_path: Path, text: str) -> None:
    path = tmp_path / "j.jsonl"
    path.write_text(text)
    with pytest.raises(UserError, match=r"^[^\n]*j\.jsonl[^\n]*run without --peftbench-resume$"):
        Journal(path, HEADER, resume=True)


def test_no_journal_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no journal to resume"):
        Journal(tmp_path / "j.jsonl", HEADER, resume=True)


def test_a_journal_cut_at_any_byte_loses_at_most_the_last_record(tmp_path: Path) -> None:
    path = written(tmp_path / "j.jsonl", record("a"), record("b"), record("c"))
    header = {"schema": "peftbench/journal/1", **HEADER}
    text = path.read_text()

    @given(st.integers(0, len(text)))
    def cut(at: int) -> None:
        path.write_text(text[:at])
        whole = text[:at].count("\n")
        if whole:
            assert list(read(path, header)) == ["a", "b", "c"][: whole - 1]
        else:
            with contextlib.suppress(UserError):
                assert read(path, header) == {}

    cut()


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 10**400, "0.5", complex(1)])
def test_a_record_that_could_not_be_read_back_is_one_of_a_failure(tmp_path: Path, value: Any) -> None:  # noqa: ANN401 - anything
    bad = replace(record("bad"), metrics={"loss": Metric(value, "1")})
    kept = readable(bad)
    assert (kept.id, kept.status, kept.metrics) == ("bad", "failed", {})
    assert kept.reason.startswith("what was measured cannot be kept: record bad: metrics.loss.value: expected a finite")
    path = written(tmp_path / "j.jsonl", record("a"), kept)
    assert set(read(path, {"schema": "peftbench/journal/1", **HEADER})) == {"a"}
    assert readable(record("a")) == record("a")


def half_a_line(path: Path, name: str) -> None:
    with path.open("rb+") as file:
        file.seek(0, 2)
        file.write(json.dumps(record_to_json(record(name)), sort_keys=True).encode()[:99])


def test_half_a_record_before_a_good_one_costs_itself_only(tmp_path: Path) -> None:
    path = written(tmp_path / "j.jsonl", record("a"))
    half_a_line(path, "torn")
    half_a_line(path, "torn again")
    line = json.dumps(record_to_json(record("b")), sort_keys=True)
    with path.open("a") as file:
        file.write(line + "\n" + "\0" * 50 + "\n" + line[:99] + "\n")
    with path.open("ab") as raw:
        raw.write(b"\xff\xfe\n" + json.dumps(record_to_json(record("c")), sort_keys=True).encode() + b"\n")
    resumed = Journal(path, HEADER, resume=True)
    assert list(resumed.finished) == ["a", "b", "c"]
    assert resumed.broken == (4, 5, 6)
    resumed.close()
    again = Journal(path, HEADER, resume=True)
    assert (list(again.finished), again.broken) == (["a", "b", "c"], ())
    again.close()


def test_an_append_that_does_not_fit_is_cut_off_again(tmp_path: Path) -> None:
    path = tmp_path / "j.jsonl"
    journal = Journal(path, HEADER)
    journal.append(record("a"))
    before = path.read_bytes()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) + 100, hard))  # the system writes so much, and no more
    try:
        with pytest.raises(UserError, match=r"j\.jsonl: cannot be written: File too large; .*--peftbench-resume$"):
            journal.append(record("b"))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert path.read_bytes() == before
    journal.append(record("c"))
    journal.close()
    assert list(read(path, {"schema": "peftbench/journal/1", **HEADER})) == ["a", "c"]


def no_space(*_: object, **__: object) -> None:
    raise OSError(28, "No space left on device")


@pytest.mark.parametrize("failing", ["fsync", "link", "open", "ftruncate"])
def test_a_resume_that_fails_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: str) -> None:
    path = written(tmp_path / "j.jsonl", record("a"), record("b"))
    before = path.read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", no_space)
        patch.setattr(os, failing, no_space)
        if failing == "link":
            patch.setattr(shutil, "copyfile", no_space)
        with pytest.raises(UserError, match="No space left on device"):
            Journal(path, HEADER, resume=True)
    assert path.read_bytes() == before
    resumed = Journal(path, HEADER, resume=True)
    assert list(resumed.finished) == ["a", "b"]
    resumed.close()


def test_what_is_no_journal_of_ours_is_not_replaced(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    for name, text in (("journal.jsonl", "my diary\n"), ("journal.old", '{"schema": "other/1"}\n')):
        mine = tmp_path / name
        mine.write_text(text)
        with pytest.raises(UserError, match=rf"{name}: is no journal of peftbench, and would be replaced"):
            Journal(path, HEADER)
        assert mine.read_text() == text
        mine.unlink()
    os.mkfifo(path)
    with pytest.raises(UserError, match="is no journal of peftbench"):
        Journal(path, HEADER)
    assert path.is_fifo()


def test_a_second_run_is_refused_while_the_first_has_the_journal(tmp_path: Path) -> None:
    first = Journal(tmp_path / "j.jsonl", HEADER)
    for resume in (False, True):
        with pytest.raises(UserError, match=rf"another run \(process {os.getpid()} on .*\) owns it; wait for its end"):
            Journal(tmp_path / "j.jsonl", HEADER, resume=resume)
    first.append(record("a"))
    first.close()
    assert set(read(tmp_path / "j.jsonl", {"schema": "peftbench/journal/1", **HEADER})) == {"a"}


def test_the_journal_of_a_dead_process_gives_its_finished_records(tmp_path: Path) -> None:
    path = written(tmp_path / "j.jsonl", record("a"), record("b", "failed"), record("c", "unsupported"))
    found = salvage(path)
    assert found.records == (record("a"), record("c", "unsupported"))
    assert (found.settings, found.fingerprint) == (HEADER["settings"], HEADER["fingerprint"])
    path.write_text(path.read_text().replace("peftbench/journal/1", "peftbench/journal/2", 1))
    with pytest.raises(UserError, match=r"j\.jsonl:1: not a journal of this version"):
        salvage(path)


@pytest.mark.parametrize("head", ['{"schema": "peftbench/journal/1", "fingerprint": 7, "settings": {}}', "[7]", "x"])
def test_the_journal_of_a_dead_process_with_another_head_is_refused_in_one_line(tmp_path: Path, head: str) -> None:
    path = tmp_path / "j.jsonl"
    path.write_text(f"{head}\n")
    with pytest.raises(UserError, match=r"^[^\n]*j\.jsonl:1: [^\n]*$"):
        salvage(path)


def test_garbage_before_the_last_line_is_named_with_its_line(tmp_path: Path) -> None:
    path = written(tmp_path / "j.jsonl", record("a"), record("b"))
    lines = path.read_text().splitlines()
    lines[1] = lines[1].replace('"batch_size": 8', '"batch_size": "eight"')
    path.write_text("\n".join(lines) + "\n")
    with pytest.raises(UserError, match=r"j\.jsonl:2: .*batch_size"):
        Journal(path, HEADER, resume=True)
