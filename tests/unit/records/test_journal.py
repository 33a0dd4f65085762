import contextlib
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from peftbench.errors import UserError
from peftbench.records.journal import Journal, read
from peftbench.records.record import Launch, Metric, Record

HEADER = {"settings": {"seed": 0, "dtype": "float32"}, "fingerprint": {"torch": "2.13.0"}}


def record(name: str, status: str = "ok") -> Record:
    return Record(
        id=name,
        workload="train_step",
        method="lora",
        task="nli",
        batch_size=8,
        seq_len=32,
        status=status,  # type: ignore[arg-type] # a test's own text
        metrics={"time_s": Metric(0.5, "s", low=0.4, high=0.6)},
        launches=(Launch("s", 3, 0.5),),
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


def test_a_record_is_on_the_disk_before_the_journal_is_closed(tmp_path: Path) -> None:
    path = tmp_path / "j.jsonl"
    journal = Journal(path, HEADER)
    journal.append(record("a"))
    assert json.loads(path.read_text().splitlines()[-1])["id"] == "a"
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


def test_garbage_before_the_last_line_is_named_with_its_line(tmp_path: Path) -> None:
    path = written(tmp_path / "j.jsonl", record("a"), record("b"))
    lines = path.read_text().splitlines()
    lines[1] = lines[1].replace('"batch_size": 8', '"batch_size": "eight"')
    path.write_text("\n".join(lines) + "\n")
    with pytest.raises(UserError, match=r"j\.jsonl:2: .*batch_size"):
        Journal(path, HEADER, resume=True)
