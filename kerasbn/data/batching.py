"""Order of the training batches, as a `tf.data` pipeline of indices.

The order depends on `(seed, epoch)` alone. So any epoch can be repeated or resumed on its own, and
all models trained with one seed see the same batches in the same order. The pipeline yields
indices; the images stay on the device, as raw `uint8`.
"""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

import tensorflow as tf

# Batches per compiled call: enough to hide the overhead of Python, few enough to show progress.
CHUNK = 375


@dataclass(frozen=True)
class Schedule:
    """Number of batches in an epoch, and how they are grouped into chunks.

    A chunk is the batches that one compiled call trains on. Every epoch has the same number of
    chunks: equal ones of at most `per_call` batches, cut again at the `stops`, the steps at which a
    callback reads the weights. Chunks left over in an epoch with fewer stops are empty. The last
    epoch may end early, and an incomplete last batch of an epoch is dropped.
    """

    size: int  # of the training set
    batch_size: int
    steps: int  # in the whole training
    stops: tuple[int, ...] = ()
    per_call: int = CHUNK

    @classmethod
    def of(cls, size: int, batch_size: int, epochs: int, steps: int | None = None) -> "Schedule":
        """Return the schedule for `epochs` epochs, or for `steps` batches if given."""
        return cls(size, batch_size, epochs * (size // batch_size) if steps is None else steps)

    def batch_by_batch(self) -> "Schedule":
        """Return a schedule of the same batches with one batch per chunk."""
        return replace(self, per_call=1, stops=())

    @property
    def steps_per_epoch(self) -> int:
        """Number of complete batches in the training set."""
        return self.size // self.batch_size

    @property
    def epochs(self) -> int:
        """Number of epochs, including one that ends early."""
        return math.ceil(self.steps / self.steps_per_epoch)

    @property
    def chunks(self) -> int:
        """Number of chunks per epoch, including empty ones."""
        return self._equal_chunks + self._max_stops

    @property
    def chunk_steps(self) -> int:
        """Size of a chunk in batches, including padding."""
        return math.ceil(min(self.steps_per_epoch, self.steps) / self._equal_chunks)

    @property
    def _equal_chunks(self) -> int:
        return math.ceil(self.steps_per_epoch / self.per_call)

    @property
    def _max_stops(self) -> int:
        """Number of stops strictly inside an epoch, in the epoch with the most."""
        inside = (divmod(stop, self.steps_per_epoch) for stop in self.stops)
        return max(Counter(epoch for epoch, rest in inside if rest).values(), default=0)

    def steps_done(self, epoch: int) -> list[int]:
        """Return the global step at the start of an epoch and after each of its chunks."""
        first = epoch * self.steps_per_epoch
        return [first, *(first + end for end in self.ends(epoch).numpy().tolist())]

    def steps_after(self, epoch: int) -> int:
        """Return the global step after an epoch, counted from 0."""
        return min((epoch + 1) * self.steps_per_epoch, self.steps)

    def ends(self, epoch: int | tf.Tensor) -> tf.Tensor:
        """Return the step within the epoch at which each chunk ends, int64 `[chunks]`."""
        first = tf.cast(epoch, tf.int64) * self.steps_per_epoch
        steps = tf.minimum(self.steps - first, self.steps_per_epoch)
        equal = tf.range(1, self._equal_chunks + 1, dtype=tf.int64) * self.chunk_steps
        stops = tf.constant(self.stops, tf.int64) - first
        # Stops of other epochs turn into empty chunks at the end.
        stops = tf.sort(tf.where((stops > 0) & (stops < steps), stops, steps))[: self._max_stops]
        return tf.sort(tf.minimum(tf.concat([equal, stops], 0), steps))


def permutation(size: int, seed: int, epoch: int | tf.Tensor) -> tf.Tensor:
    """Return the order of the training images in an epoch, int32 `[size]`.

    A stateless shuffle with the key (seed, epoch), by the counter-based generator Philox (Salmon
    et al., "Parallel Random Numbers: As Easy as 1, 2, 3", SC 2011).
    """
    key = tf.stack([tf.cast(seed, tf.int64), tf.cast(epoch, tf.int64)])
    return tf.random.experimental.stateless_shuffle(tf.range(size), seed=key)


def index_chunks(schedule: Schedule, seeds: Sequence[int], first_epoch: int = 0) -> tf.data.Dataset:
    """Return the batches of all epochs as chunks of indices, for several seeds side by side.

    Yields `schedule.chunks` elements per epoch, each a pair: the indices, int32 `[chunk_steps,
    seeds, batch_size]`, and how many of the batches count, an int32 scalar; the rest is padding.
    Each seed gets the batches that it gets alone.
    """
    per_epoch, size = schedule.steps_per_epoch, schedule.batch_size

    def epoch_chunks(epoch: tf.Tensor) -> tf.data.Dataset:
        orders = [permutation(schedule.size, seed, epoch)[: per_epoch * size] for seed in seeds]
        batches = tf.stack([tf.reshape(order, [per_epoch, size]) for order in orders], axis=1)
        ends = tf.cast(schedule.ends(epoch), tf.int32)
        starts = tf.concat([[0], ends[:-1]], 0)
        steps = starts[:, None] + tf.range(schedule.chunk_steps)
        indices = tf.gather(batches, tf.minimum(steps, per_epoch - 1))
        return tf.data.Dataset.from_tensor_slices((indices, ends - starts))

    chunks = tf.data.Dataset.range(first_epoch, schedule.epochs).flat_map(epoch_chunks).prefetch(2)
    # There is nothing to autotune, and releasing the dataset would wait for the autotuning thread,
    # which sleeps for seconds at a time.
    options = tf.data.Options()
    options.autotune.enabled = False
    return chunks.with_options(options)
