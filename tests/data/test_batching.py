"""The order of the batches depends on (seed, epoch) alone, and no batch is lost."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from plain_batches import batches

from kerasbn.data.batching import CHUNK, Schedule, index_chunks, permutation
from kerasbn.data.datasets import Dataset


def batches_of(schedule: Schedule, seed: int, first_epoch: int = 0) -> list[list[int]]:
    """The batches without the padding, in order, as lists of indices."""
    found = []
    for indices, count in index_chunks(schedule, [seed], first_epoch).as_numpy_iterator():
        assert indices.shape == (schedule.chunk_steps, 1, schedule.batch_size)
        found += indices[:count, 0].tolist()
    return found


@given(st.integers(1, 500), st.integers(0, 2**31 - 1), st.integers(0, 1000))
@settings(max_examples=30, deadline=None)
def test_a_permutation_contains_every_image_once(size: int, seed: int, epoch: int) -> None:
    order = permutation(size, seed, epoch).numpy()
    assert sorted(order) == list(range(size))
    assert order.tolist() == permutation(size, seed, epoch).numpy().tolist()


def test_every_epoch_and_seed_has_its_own_order() -> None:
    orders = {tuple(permutation(50, s, e).numpy()) for s in range(5) for e in range(5)}
    assert len(orders) == 25


@pytest.mark.slow
@given(
    size=st.integers(1, 900),
    batch_size=st.integers(1, 40),
    epochs=st.integers(1, 3),
    steps=st.none() | st.integers(1, 500),
    seed=st.integers(0, 9),
)
@settings(max_examples=15, deadline=None)
def test_chunks_contain_exactly_the_steps_of_the_schedule(
    size: int, batch_size: int, epochs: int, steps: int | None, seed: int
) -> None:
    batch_size = min(batch_size, size)
    schedule = Schedule.of(size, batch_size, epochs, steps)
    found = batches_of(schedule, seed)
    assert len(found) == (epochs * (size // batch_size) if steps is None else steps)
    assert schedule.chunk_steps <= CHUNK
    for epoch in range(schedule.epochs):
        here = found[epoch * schedule.steps_per_epoch : schedule.steps_after(epoch)]
        flat = [index for batch in here for index in batch]
        assert flat == permutation(size, seed, epoch).numpy()[: len(flat)].tolist()


@pytest.mark.slow
@given(
    batch_size=st.integers(1, 40),
    steps=st.integers(1, 300),
    stops=st.lists(st.integers(0, 320), max_size=40),
)
@settings(max_examples=12, deadline=None)
def test_stops_split_chunks_and_change_no_batch(
    batch_size: int, steps: int, stops: list[int]
) -> None:
    plain = Schedule.of(900, batch_size, 1, steps)
    cut = replace(plain, stops=tuple(stops))
    assert cut.chunk_steps == plain.chunk_steps  # the same compiled call
    chunks = list(index_chunks(cut, [1]).as_numpy_iterator())
    counts = [int(count) for _, count in chunks]
    found = [batch for indices, count in chunks for batch in indices[:count, 0].tolist()]
    assert found == batches_of(plain, seed=1)
    done = [0, *np.cumsum(counts).tolist()]
    assert {stop for stop in stops if stop <= steps} <= set(done)
    reported = [cut.steps_done(epoch) for epoch in range(cut.epochs)]
    assert [each for epoch in reported for each in epoch[1:]] == done[1:]
    assert all(len(each) == cut.chunks + 1 for each in reported)


def test_a_later_epoch_can_be_generated_on_its_own() -> None:
    schedule = Schedule.of(3210, 4, epochs=3)
    everything = batches_of(schedule, seed=5)
    assert batches_of(schedule, seed=5, first_epoch=2) == everything[2 * 802 :]


@pytest.mark.slow
def test_each_seed_gets_the_batches_that_it_gets_alone() -> None:
    schedule, seeds = Schedule.of(3210, 4, epochs=2), (5, 0, 5)
    found: list[list[list[int]]] = [[] for _ in seeds]
    for indices, count in index_chunks(schedule, seeds).as_numpy_iterator():
        assert indices.shape == (schedule.chunk_steps, 3, 4)
        for i, own in enumerate(found):
            own += indices[:count, i].tolist()
    assert found == [batches_of(schedule, seed) for seed in seeds]


def test_plain_batches_are_the_same_batches(few_digits: Dataset) -> None:
    split = few_digits.train
    schedule = Schedule.of(len(split), 48, epochs=2)
    of_epoch_1 = batches_of(schedule, seed=3, first_epoch=1)
    plain = list(batches(split, 48, seed=3, epoch=1).as_numpy_iterator())
    assert len(plain) == len(of_epoch_1) == 640 // 48
    for (images, labels), rows in zip(plain, of_epoch_1, strict=True):
        assert images.dtype == np.uint8
        np.testing.assert_array_equal(images, split.images[rows])
        np.testing.assert_array_equal(labels, split.labels[rows])


@pytest.mark.parametrize(("size", "batch_size"), [(60_000, 32), (60_000, 60), (4_000, 32)])
def test_chunks_have_almost_equal_sizes(size: int, batch_size: int) -> None:
    schedule = Schedule.of(size, batch_size, epochs=1)
    assert schedule.chunks * schedule.chunk_steps - schedule.steps_per_epoch < schedule.chunks
