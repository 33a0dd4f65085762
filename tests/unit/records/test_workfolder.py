import os
import subprocess
import sys
from pathlib import Path

import pytest

from peftbench.errors import UserError
from peftbench.records.workfolder import MARK, make_ready, owned, replaced


def test_one_owner_at_a_time_and_the_second_is_told_who_it_is(tmp_path: Path) -> None:
    folder = tmp_path / "work"
    with owned(folder), pytest.raises(UserError) as caught, owned(folder):
        pass
    assert f"another run (process {os.getpid()} on " in str(caught.value)
    assert "give this run another folder with --peftbench-work" in str(caught.value)
    with owned(folder):
        pass


def test_an_owner_that_was_killed_is_none(tmp_path: Path) -> None:
    code = (
        "import os, sys; from pathlib import Path; from peftbench.records.workfolder import owned\n"
        "with owned(Path(sys.argv[1])): os.kill(os.getpid(), 9)"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=False, env=environment)
    assert done.returncode == -9
    with owned(tmp_path):
        assert sorted(path.name for path in tmp_path.iterdir()) == ["lock", "owner.json"]


def test_a_folder_that_cannot_be_made_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"file: cannot be locked: .*--peftbench-work$"), owned(tmp_path / "file"):
        pass


def test_only_what_was_made_here_is_cleared(tmp_path: Path) -> None:
    mine = tmp_path / "launches"
    mine.mkdir()
    (mine / "thesis.tex").write_text("years of work")
    with pytest.raises(UserError, match=r"launches: would be cleared, and was not made by this release of peftbench"):
        make_ready(mine)
    assert (mine / "thesis.tex").read_text() == "years of work"
    link = tmp_path / "link"
    made = tmp_path / "made"
    make_ready(made)
    link.symlink_to(made)
    with pytest.raises(UserError, match="link: would be cleared"):
        make_ready(link)


def test_what_was_made_here_is_cleared_or_kept(tmp_path: Path) -> None:
    folder, outside = tmp_path / "a" / "launches", tmp_path / "outside"
    outside.mkdir()
    (outside / "kept").write_text("")
    make_ready(folder)
    (folder / "1").mkdir()
    (folder / "1" / "run.json").write_text("{}")
    (folder / "2").symlink_to(outside)
    make_ready(folder, keep=True)
    assert (folder / "1" / "run.json").exists()
    make_ready(folder)
    assert [path.name for path in folder.iterdir()] == [MARK]
    assert (outside / "kept").exists()


def test_a_launch_that_outlived_its_run_is_not_cleared_from_under_its_feet(tmp_path: Path) -> None:
    make_ready(tmp_path / "launches")
    launch = tmp_path / "launches" / "1"
    with owned(launch), pytest.raises(UserError, match="1: another run"):
        make_ready(tmp_path / "launches")
    make_ready(tmp_path / "launches")
    assert not launch.exists()


def test_a_folder_is_replaced_whole_or_stays_as_it_was(tmp_path: Path) -> None:
    folder = tmp_path / "public"
    with replaced(folder) as new:
        (new / "a").mkdir()
        (new / "a/page").write_text("old")
        assert not folder.exists()
    with pytest.raises(UserError, match="cannot be written"), replaced(folder) as new:
        (new / "half").write_text((tmp_path / "gone").read_text())
    assert (folder / "a/page").read_text() == "old"
    with replaced(folder) as new:
        (new / "b").write_text("new")
        assert (folder / "a/page").read_text() == "old"
    assert sorted(path.name for path in folder.iterdir()) == [MARK, "b"]
    assert list(tmp_path.iterdir()) == [folder]


def test_only_what_was_put_there_is_replaced(tmp_path: Path) -> None:
    work, made, empty = tmp_path / "work", tmp_path / "made", tmp_path / "empty"
    make_ready(work)
    (work / "log").write_text("precious")
    with replaced(made):
        pass
    (made / ".git").mkdir()
    for folder, reason in ((work, "holds log, which peftbench did not put there"), (made, "holds .git, which")):
        with pytest.raises(UserError, match=reason), replaced(folder):
            pass
    empty.mkdir()
    with replaced(empty) as new:
        (new / "page").touch()
    assert (empty / "page").exists()
    with pytest.raises(UserError, match="no folder that can be replaced"), replaced(Path("/")):
        pass


def test_a_replacement_that_died_between_its_two_renames_is_undone(tmp_path: Path) -> None:
    folder = tmp_path / "public"
    with replaced(folder) as new:
        (new / "page").write_text("good")
    folder.rename(tmp_path / ".public.old")
    with pytest.raises(ZeroDivisionError), replaced(folder):
        raise ZeroDivisionError
    assert (folder / "page").read_text() == "good"
    assert list(tmp_path.iterdir()) == [folder]
