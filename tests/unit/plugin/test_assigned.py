from peftbench.plugin.assigned import without_parents


def test_a_child_is_not_told_what_only_its_parent_follows_since_an_older_one_may_not_know_it() -> None:
    ours = ["benches/", "-k", "lora", "--peftbench-max-time=2", "--peftbench-gate-launches", "3"]
    parents = ["--peftbench-against=v1", "--peftbench-candidate", "v2 peft==0.20.0", "--peftbench-strict"]
    assert without_parents([*ours[:2], *parents, *ours[2:]]) == ours
