import traceback

import pytest
import torch

from peftbench.devices.seeding import seed_generators, seeded


def test_draws_follow_from_the_seed_and_the_callers_go_on_as_if_there_had_been_none() -> None:
    torch.manual_seed(1)
    expected = torch.rand(4)
    torch.manual_seed(1)
    drawn = [expected[:0], torch.rand(2)]
    with seeded(7, torch.device("cpu")):
        inner = torch.rand(3)
    with seeded(7), torch.device("meta"):
        torch.nn.Linear(2, 2)
    drawn.append(torch.rand(2))
    assert torch.equal(torch.cat(drawn), expected)
    torch.manual_seed(7)
    assert torch.equal(inner, torch.rand(3))


def test_the_callers_state_is_given_back_after_an_error() -> None:
    before = torch.random.get_rng_state()
    with pytest.raises(RuntimeError, match="shape"), seeded(7):
        torch.rand(3).reshape(2)
    assert torch.equal(torch.random.get_rng_state(), before)


def test_the_numbers_are_those_of_torchs_own_seed_without_a_note_of_the_whole_stack(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seeds: list[int] = []
    torch.manual_seed(5)
    expected = torch.rand(3)
    monkeypatch.setattr(traceback, "format_stack", lambda: pytest.fail("it takes a millisecond"))
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: False)
    monkeypatch.setattr(torch.cuda, "manual_seed_all", seeds.append)
    seed_generators(5)
    torch.testing.assert_close(torch.rand(3), expected, rtol=0, atol=0)
    assert seeds == []
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    seed_generators(6)
    assert seeds == [6]
