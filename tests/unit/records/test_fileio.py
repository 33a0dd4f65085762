import os
import socket
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from peftbench.errors import UserError
from peftbench.records.fileio import is_stream, locked, parse_json, read_json, read_text, write_atomically


def _exit_status(code: str, path: Path) -> int:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    return subprocess.run([sys.executable, "-c", code, str(path)], check=False, env=environment).returncode


def test_a_file_is_written_with_its_folder_and_nothing_else_is_left(tmp_path: Path) -> None:
    path = tmp_path / "new" / "a.json"
    write_atomically(path, "one\né\n")
    assert path.read_bytes() == b"one\n\xc3\xa9\n"
    assert os.listdir(path.parent) == ["a.json"]  # noqa: PTH208 - hidden ones too


def test_a_new_text_keeps_the_permissions_and_the_link(tmp_path: Path) -> None:
    path, link = tmp_path / "a.json", tmp_path / "link.json"
    path.write_text("old")
    path.chmod(0o640)
    link.symlink_to(path)
    write_atomically(link, "new")
    assert (path.read_text(), link.is_symlink(), stat.S_IMODE(path.stat().st_mode)) == ("new", True, 0o640)


def test_a_failing_write_leaves_the_old_text_and_no_part_of_the_new(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.json"
    path.write_text("old")

    def full_disk(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full_disk)
    with pytest.raises(UserError, match=r"a\.json: cannot be written: No space left on device"):
        write_atomically(path, "new")
    assert (path.read_text(), os.listdir(tmp_path)) == ("old", ["a.json"])  # noqa: PTH208 - hidden ones too


def test_the_content_is_flushed_before_its_name_and_then_the_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, flushed = tmp_path / "a.json", list[tuple[bool, bool]]()

    def fsync(descriptor: int) -> None:
        flushed.append((stat.S_ISDIR(os.fstat(descriptor).st_mode), path.exists()))

    monkeypatch.setattr(os, "fsync", fsync)
    write_atomically(path, "new")
    assert flushed == [(False, False), (True, True)]  # a file, then its folder


def test_what_a_killed_write_left_is_deleted_by_the_next_one_in_that_folder(tmp_path: Path) -> None:
    code = (
        "import os, sys; from pathlib import Path; from peftbench.records.fileio import write_atomically\n"
        "os.fsync = lambda descriptor: os.kill(os.getpid(), 9)\n"
        "write_atomically(Path(sys.argv[1]), 'new')"
    )
    assert _exit_status(code, tmp_path / ("x" * 250 + ".json")) == -9
    (left,) = tmp_path.iterdir()
    machine, process, _ = left.name.split("-")
    kept = [
        f"{machine}-{os.getpid()}-00000000.tmp",  # a process that is alive
        f".00000000-{process}-00000000.tmp",  # another machine
        f"{machine}-{process}-mine.tmp",
        f"{machine}-thesis-00000000.tmp",
    ]
    for name in kept:
        (tmp_path / name).touch()
    write_atomically(tmp_path / "a.json", "text")
    assert sorted(os.listdir(tmp_path)) == sorted([*kept, "a.json"])  # noqa: PTH208 - hidden ones too


def test_a_name_stands_twice_or_not_however_many_there_are() -> None:
    many = ", ".join(f'"{number}": 0' for number in range(300))
    assert len(parse_json(f"{{{many}}}", source="f")) == 300
    with pytest.raises(UserError, match=r'^f:1: "7" stands twice in one object'):
        parse_json(f'{{{many}, "7": 1}}', source="f")


def test_a_pipe_is_written_to_and_stays_one(tmp_path: Path) -> None:
    path, text = tmp_path / "pipe", "x" * 1_000_000  # more than a pipe holds
    os.mkfifo(path)
    code = "import sys; print(len(open(sys.argv[1]).read()))"
    with subprocess.Popen([sys.executable, "-c", code, str(path)], stdout=subprocess.PIPE, text=True) as reader:
        patience_s = 30.0
        while patience_s > 0:
            try:
                write_atomically(path, text)
            except UserError:  # the reader has not opened it yet
                time.sleep(0.05)
                patience_s -= 0.05
            else:
                break
        assert reader.communicate()[0] == "1000000\n"
    assert stat.S_ISFIFO(path.stat().st_mode)


def test_a_pipe_that_nobody_reads_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    path = tmp_path / "pipe"
    os.mkfifo(path)
    with pytest.raises(UserError, match=r"pipe: nobody reads from it"):
        write_atomically(path, "text")
    assert os.listdir(tmp_path) == ["pipe"]  # noqa: PTH208 - hidden ones too
    assert stat.S_ISFIFO(path.stat().st_mode)


def test_a_device_is_written_to_through_a_link_too(tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to("/dev/null")
    write_atomically(link, "text")
    assert stat.S_ISCHR(link.stat().st_mode)
    link.unlink()
    link.symlink_to("/dev/full")
    with pytest.raises(UserError, match=r"link: cannot be written: No space left on device"):
        write_atomically(link, "text")
    assert stat.S_ISCHR(link.stat().st_mode)


def test_a_socket_or_a_folder_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # the name of a socket must be short
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("socket")
        with pytest.raises(UserError, match=r"socket: is a socket; name the file"):
            write_atomically(Path("socket"), "text")
    Path("folder").mkdir()
    with pytest.raises(UserError, match=r"folder: is a folder; name the file"):
        write_atomically(Path("folder"), "text")
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["folder", "socket"]


def test_a_name_may_be_as_long_as_the_system_lets_it(tmp_path: Path) -> None:
    path = tmp_path / ("n" * 255)
    write_atomically(path, "text")
    assert path.read_text() == "text"
    with pytest.raises(UserError, match="cannot be written: File name too long"):
        write_atomically(tmp_path / ("n" * 256), "text")


def test_a_file_where_a_folder_should_be_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"file/run\.json: cannot be written"):
        write_atomically(tmp_path / "file" / "run.json", "{}")


def test_a_writer_killed_in_the_middle_leaves_the_old_text(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text("old")
    code = (
        "import os, sys; from pathlib import Path; from peftbench.records.fileio import write_atomically\n"
        "os.fsync = lambda descriptor: os._exit(9)\n"
        "write_atomically(Path(sys.argv[1]), 'new' * 10000)"
    )
    assert _exit_status(code, path) == 9
    assert path.read_text() == "old"


def test_a_second_writer_is_kept_out_and_a_dead_one_is_not_waited_for(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    with locked(path), pytest.raises(UserError, match="another process is writing it"), locked(path):
        pass
    code = "import os, sys; from pathlib import Path; from peftbench.records.fileio import locked\n"
    code += "with locked(Path(sys.argv[1])): os._exit(9)"
    assert _exit_status(code, path) == 9
    with locked(path):
        assert [entry.name for entry in tmp_path.iterdir()] == [".a.json.lock"]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", r"a\.json:1: the file is empty; restore it"),
        (b'{\n"a": [1,\n2', r"a\.json:3: the file ends too early"),
        (b'{\n"a": 1,\n"b": x}', r"a\.json:3: not JSON at column 6 \(Expecting value\)"),
        (b'{"NaN": "NaN",\n"a":\nNaN}', r"a\.json:3: NaN is not a finite number"),
        (b'{"a": -Infinity}', r"a\.json:1: -Infinity is not a finite number"),
        (b'{\n"a": 1,\n"a": 2}', r'a\.json:3: "a" stands twice in one object'),
        (b"\xff\xfe", r"a\.json: is not UTF-8 text \(byte 0\)"),
        (b"[" * 100_000, r"a\.json:1: not JSON that can be read"),
        (b"1" * 5000, r"a\.json:1: not JSON that can be read"),
    ],
)
def test_a_bad_file_gives_one_line_that_says_where(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(content)
    with pytest.raises(UserError, match=message) as caught:
        read_json(path)
    assert "\n" not in str(caught.value)


def test_a_file_that_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"none\.json: cannot be read: No such file"):
        read_text(tmp_path / "none.json")


def test_lines_count_from_where_the_text_begins() -> None:
    with pytest.raises(UserError, match=r"^f:12: "):
        parse_json('{"a":\n?}', source="f", line=11)


@settings(deadline=None)
@given(st.text() | st.text(alphabet='{}[]",:0N\\ \n'))
def test_any_text_is_read_or_refused_in_one_line(text: str) -> None:
    try:
        parse_json(text, source="f")
    except UserError as error:
        assert str(error).startswith("f:")  # noqa: PT017 - most texts are refused, some are not
        assert len(str(error).splitlines()) == 1  # noqa: PT017


@pytest.mark.parametrize("name", ["run.json", "new/run.json"])
def test_a_folder_that_is_read_only_is_told_before_anything_is_measured(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "run.json").write_text("{}")
    monkeypatch.setattr(os, "access", lambda part, _: part != tmp_path)  # as on a read-only disk, for root too
    with pytest.raises(UserError, match=rf"run\.json: cannot be written: {tmp_path} is read-only; name another place$"):
        is_stream(tmp_path / name)
