"""Time the epochs of kerasbn, as `kerasbn compare` trains them, without figures and files."""

import time
from dataclasses import replace

from kerasbn.common.keras_internals import deterministic_operations, quiet_tensorflow

from .specs import Spec, given, report

quiet_tensorflow()
import keras  # noqa: E402 - TensorFlow comes first, silenced
import tensorflow as tf  # noqa: E402 - as above

from kerasbn.data.batching import Schedule  # noqa: E402 - as above
from kerasbn.training.callbacks import EvaluateEachEpoch  # noqa: E402 - as above
from kerasbn.training.devices import choose_device  # noqa: E402 - as above
from kerasbn.training.ensembles import Ensemble, SingleModel, compile_model  # noqa: E402 - as above
from kerasbn.training.loop import fit  # noqa: E402 - as above
from kerasbn.training.models import mlp  # noqa: E402 - as above
from kerasbn.training.settings import TrainingSettings, seed_settings  # noqa: E402 - as above


class Stopwatch(keras.callbacks.Callback):
    """Times epochs, with and without their evaluation."""

    def __init__(self) -> None:
        super().__init__()
        self.training: list[float] = []
        self.whole: list[float] = []
        self._began = self._trained = 0.0

    def on_epoch_begin(self, epoch: int, logs: object = None) -> None:
        self._began = time.perf_counter()

    def on_train_batch_end(self, batch: int, logs: object = None) -> None:
        self._trained = time.perf_counter()  # after a callback that has read the losses

    def on_epoch_end(self, epoch: int, logs: object = None) -> None:
        self.training.append(self._trained - self._began)
        self.whole.append(time.perf_counter() - self._began)


def learners_of(spec: Spec, training: TrainingSettings) -> list[SingleModel | Ensemble]:
    """Return all models with BN as one learner and all others as another."""
    found: list[SingleModel | Ensemble] = []
    settings = seed_settings(training, spec.members)
    for kind in ("bn", "plain"):
        models = {
            f"{kind}-{each.seed}": compile_model(
                mlp(bn=kind == "bn", hidden=spec.hidden, seed=each.seed), each
            )
            for each in settings
        }
        if len(models) > 1:
            found.append(Ensemble(models, settings))
        else:
            found += [SingleModel(key, model, training.seed) for key, model in models.items()]
    return found


def main() -> None:
    """Train, and print the result."""
    spec, data, others = given()
    if others["logical"]:
        from .logical import pretend

        pretend()
    place = choose_device(spec.device)
    training = TrainingSettings(epochs=spec.epochs, batch_size=spec.batch_size)
    schedule = Schedule.of(len(data.train), spec.batch_size, spec.epochs)
    if spec.per_call:
        schedule = replace(schedule, per_call=spec.per_call)
    evaluation, watch = EvaluateEachEpoch(schedule), Stopwatch()
    with deterministic_operations(spec.deterministic):
        with tf.device(place.name):
            learners = learners_of(spec, training)
        fit(learners, data, schedule, [evaluation, watch], place.name)
    last = {key: rows[-1]["val_accuracy"] for key, rows in evaluation.history.items()}
    accuracies = {
        kind: sum(value for key, value in last.items() if key.startswith(kind)) / spec.members
        for kind in ("bn", "plain")
    }
    report(watch.whole, accuracies, training=watch.training, device=place.description)


if __name__ == "__main__":
    main()
