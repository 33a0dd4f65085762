from itertools import islice

from hypothesis import given
from hypothesis import strategies as st

from peftbench.studies.training.sampling import epoch, replayed, steps, steps_per_epoch

lengths = st.dictionaries(
    st.sampled_from("abc"), st.lists(st.integers(3, 60), min_size=1, max_size=40), min_size=1, max_size=3
)


@given(lengths=lengths, batch_size=st.integers(1, 9), seed=st.integers(0, 3), grouped=st.booleans())
def test_an_epoch_has_every_example_once_in_batches_of_one_task(
    *, lengths: dict[str, list[int]], batch_size: int, seed: int, grouped: bool
) -> None:
    draws = epoch(lengths, batch_size, seed, 0, group_by_length=grouped)
    assert len(draws) == steps_per_epoch({task: len(tokens) for task, tokens in lengths.items()}, batch_size)
    for task, tokens in lengths.items():
        rows = [row for draw in draws if draw.task == task for row in draw.rows]
        assert sorted(rows) == list(range(len(tokens)))
        assert all(1 <= len(draw.rows) <= batch_size for draw in draws)


def test_tasks_are_mixed_in_proportion_to_their_sizes_all_along() -> None:
    draws = epoch({"large": [9] * 6000, "small": [9] * 2000}, 10, 0, 0)
    quarters = [sum(draw.task == "small" for draw in draws[at : at + 200]) for at in range(0, 800, 200)]
    assert sum(quarters) == 200
    assert all(30 <= count <= 70 for count in quarters)  # 50 expected, standard deviation about 5


def test_seeds_and_epochs_differ_and_a_seed_repeats() -> None:
    def first(seed: int, number: int) -> tuple[int, ...]:
        return epoch({"a": [5] * 50}, 50, seed, number)[0].rows

    assert first(0, 0) == first(0, 0)
    assert len({first(0, 0), first(0, 1), first(1, 0)}) == 3
    both = [draw.rows for draw in islice(steps({"a": [5] * 50}, 50, 0), 2)]
    assert both == [first(0, 0), first(0, 1)]


def test_batches_of_like_lengths_have_less_padding() -> None:
    tokens = [n % 37 + 3 for n in range(400)]

    def padded(*, grouped: bool) -> int:
        draws = epoch({"a": tokens}, 8, 0, 0, group_by_length=grouped)
        return sum(len(draw.rows) * max(tokens[row] for row in draw.rows) for draw in draws)

    assert padded(grouped=True) < 1.1 * sum(tokens) < 1.5 * sum(tokens) < padded(grouped=False)


@given(st.integers(0, 200), st.sampled_from([0.0, 0.05, 0.2, 1.0]), st.integers(0, 3))
def test_a_replay_is_a_share_of_the_rows_each_once(size: int, share: float, seed: int) -> None:
    rows = replayed(size, share, seed)
    assert len(rows) == len(set(rows)) == round(share * size)
    assert set(rows) <= set(range(size))
    assert rows == replayed(size, share, seed)
