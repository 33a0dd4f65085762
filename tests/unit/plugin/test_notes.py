import shutil
import subprocess
from datetime import datetime
from pathlib import Path

from peftbench.plugin.notes import provenance


def test_a_run_notes_which_commit_it_measured_and_when(tmp_path: Path) -> None:
    git = shutil.which("git")
    assert git is not None
    assert provenance(tmp_path).keys() == {"measured"}
    me = ("-c", "user.name=me", "-c", "user.email=me@localhost")
    (tmp_path / "code.py").write_text("")
    for words in (("init", "--quiet"), ("add", "."), (*me, "commit", "--quiet", "-m", "code"), ("tag", "v1.2")):
        subprocess.run([git, "-C", tmp_path, *words], check=True, capture_output=True)
    found = provenance(tmp_path)
    assert found["commit"] == "v1.2"
    assert datetime.fromisoformat(found["committed"]) <= datetime.fromisoformat(found["measured"])
    (tmp_path / "code.py").write_text("changed")
    assert provenance(tmp_path)["commit"] == "v1.2-dirty"
