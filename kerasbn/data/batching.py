"""tf.data: the order of the batches, which depends on (seed, epoch) alone.

Any epoch can be repeated or resumed on its own, and every network that trains with one seed sees
the same batches in the same order. Pixels stay raw `uint8` up to the network.
"""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

import tensorflow as tf

from kerasbn.data.datasets import Split

# Batches per compiled call: so many that Python's share vanishes, so few that progress is seen.
CHUNK = 375


@dataclass(frozen=True)
class Schedule:
    """How many batches make an epoch, and how many of those make one compiled call.

    The last batch of an epoch is dropped where it would be incomplete. Each epoch is cut into equal
    chunks of at most `per_call` batches, and also at the `stops`, where someone wants to look.
    Every epoch has as many chunks; those that have nothing left to do are empty.

    Attributes:
        size: digits in the training set.
        batch_size: digits in a batch.
        steps: batches in the whole training; the last epoch ends early where they are used up.
        stops: numbers of batches after which a chunk ends, beside where they end anyway. They
            change how batches are shared out among calls, not what is trained.
        per_call: batches in a compiled call at most.
    """

    size: int
    batch_size: int
    steps: int
    stops: tuple[int, ...] = ()
    per_call: int = CHUNK

    @classmethod
    def of(
        cls,
        size: int,
        batch_size: int,
        epochs: int,
        steps: int | None = None,
        stops: tuple[int, ...] = (),
    ) -> "Schedule":
        """The schedule for a number of epochs, or of steps where these are given."""
        steps = epochs * (size // batch_size) if steps is None else steps
        return cls(size, batch_size, steps, stops)

    def batch_by_batch(self) -> "Schedule":
        """The same batches, each in a call of its own."""
        return replace(self, per_call=1, stops=())

    @property
    def steps_per_epoch(self) -> int:
        """Whole batches in the training set."""
        return self.size // self.batch_size

    @property
    def epochs(self) -> int:
        """Epochs begun, the last one perhaps not finished."""
        return math.ceil(self.steps / self.steps_per_epoch)

    @property
    def chunks(self) -> int:
        """Compiled calls in an epoch."""
        return self._equal_chunks + self._most_stops

    @property
    def chunk_steps(self) -> int:
        """Batches in a chunk, padding included."""
        return math.ceil(min(self.steps_per_epoch, self.steps) / self._equal_chunks)

    @property
    def _equal_chunks(self) -> int:
        return math.ceil(self.steps_per_epoch / self.per_call)

    @property
    def _most_stops(self) -> int:
        """Stops within an epoch, in the epoch that has the most."""
        within = (divmod(stop, self.steps_per_epoch) for stop in self.stops)
        return max(Counter(epoch for epoch, rest in within if rest).values(), default=0)

    def steps_done(self, epoch: int) -> list[int]:
        """Batches trained on when an epoch begins, and when each of its chunks is over."""
        return [
            epoch * self.steps_per_epoch + end for end in [0, *self.ends(epoch).numpy().tolist()]
        ]

    def ends(self, epoch: int | tf.Tensor) -> tf.Tensor:
        """How many batches of the epoch are over when each of its chunks is: int64 `[chunks]`."""
        before = tf.cast(epoch, tf.int64) * self.steps_per_epoch
        left = tf.minimum(self.steps - before, self.steps_per_epoch)
        equal = tf.range(1, self._equal_chunks + 1, dtype=tf.int64) * self.chunk_steps
        stops = tf.constant(self.stops, tf.int64) - before
        # Those of other epochs become empty chunks at the end, after all that are this epoch's.
        own = tf.sort(tf.where((stops > 0) & (stops < left), stops, left))[: self._most_stops]
        return tf.sort(tf.minimum(tf.concat([equal, own], 0), left))

    def steps_after(self, epoch: int) -> int:
        """Batches trained on when epoch number `epoch` (from 0) is over."""
        return min((epoch + 1) * self.steps_per_epoch, self.steps)


def permutation(size: int, seed: int, epoch: int | tf.Tensor) -> tf.Tensor:
    """The order of the digits in an epoch: int32 `[size]`, from (seed, epoch) alone.

    Counter-based random numbers (Philox, Salmon and others, SC 2011), so no state is carried from
    one epoch to the next.
    """
    key = tf.stack([tf.cast(seed, tf.int64), tf.cast(epoch, tf.int64)])
    return tf.random.experimental.stateless_shuffle(tf.range(size), seed=key)


def index_chunks(schedule: Schedule, seed: int, first_epoch: int = 0) -> tf.data.Dataset:
    """The batches of all epochs from `first_epoch` on, as indices, many batches at a time.

    Yields `schedule.chunks` elements per epoch, each a pair: int32 `[chunk_steps, batch_size]`,
    and how many of these batches count, an int32 scalar; the others are padding.
    """
    per_epoch = schedule.steps_per_epoch

    def epoch_chunks(epoch: tf.Tensor) -> tf.data.Dataset:
        order = permutation(schedule.size, seed, epoch)[: per_epoch * schedule.batch_size]
        batches = tf.reshape(order, [per_epoch, schedule.batch_size])
        ends = tf.cast(schedule.ends(epoch), tf.int32)
        starts = tf.concat([[0], ends[:-1]], 0)
        rows = starts[:, None] + tf.range(schedule.chunk_steps)
        indices = tf.gather(batches, tf.minimum(rows, per_epoch - 1))
        return tf.data.Dataset.from_tensor_slices((indices, ends - starts))

    epochs = tf.data.Dataset.range(first_epoch, schedule.epochs)
    return epochs.flat_map(epoch_chunks).prefetch(2)


def index_lanes(schedule: Schedule, seeds: Sequence[int], first_epoch: int = 0) -> tf.data.Dataset:
    """The batches of several seeds side by side, a lane for each.

    Yields what `index_chunks` does, the indices as int32 `[chunk_steps, seeds, batch_size]`: in
    each lane the same digits in the same order as that seed has alone.
    """
    lanes = [index_chunks(schedule, seed, first_epoch) for seed in seeds]

    def side_by_side(*chunks: tuple[tf.Tensor, tf.Tensor]) -> tuple[tf.Tensor, tf.Tensor]:
        return tf.stack([indices for indices, _ in chunks], axis=1), chunks[0][1]

    chunks = tf.data.Dataset.zip(tuple(lanes)).map(side_by_side).prefetch(2)
    # There is nothing to tune, and the thread that tunes is waited for when the data set goes: it
    # sleeps for seconds at a time.
    options = tf.data.Options()
    options.autotune.enabled = False
    return chunks.with_options(options)


def batches(split: Split, batch_size: int, seed: int, epoch: int) -> tf.data.Dataset:
    """One epoch of (images, labels) for plain Keras: uint8 `[batch, 28, 28]`, uint8 `[batch]`.

    The same digits in the same order as `index_chunks` gives for that epoch.
    """
    pixels, labels = tf.constant(split.images), tf.constant(split.labels)
    order = tf.data.Dataset.from_tensor_slices(permutation(len(split), seed, epoch))
    return order.batch(batch_size, drop_remainder=True).map(
        lambda rows: (tf.gather(pixels, rows), tf.gather(labels, rows)),
        num_parallel_calls=tf.data.AUTOTUNE,
    )
