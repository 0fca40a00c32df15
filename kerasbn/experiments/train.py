"""Train models side by side on the same batches, and keep a run of each.

`train` is the public function for one model. `train_jobs`, which comparisons and sweeps use as
well, takes several: it prepares them, fits them together and writes a run for each.
"""

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf
from matplotlib.figure import Figure

from kerasbn import runs
from kerasbn.data.batching import Schedule
from kerasbn.data.datasets import Dataset, load_dataset
from kerasbn.errors import ArgumentError, expected
from kerasbn.experiments.curves import curve_of, draw_curves, label, summary, title_of
from kerasbn.experiments.provenance import data_of, versions
from kerasbn.files import NewFolder
from kerasbn.plotting import save_figure
from kerasbn.probes.batch_composition import predict_in_batches
from kerasbn.probes.readings import BatchResult, write_probes
from kerasbn.probes.recording import Probe, probe_steps, stops_for
from kerasbn.probes.results import save_pictures
from kerasbn.records import write_json
from kerasbn.training.callbacks import EvaluateEachEpoch, SingleModelCallbacks, StopOnInterrupt
from kerasbn.training.devices import Device, choose_device
from kerasbn.training.ensembles import Ensemble, Learner, SingleModel, compile_model
from kerasbn.training.loop import fit
from kerasbn.training.mirrored import fit_mirrored
from kerasbn.training.models import mlp
from kerasbn.training.progress import ProgressDisplay
from kerasbn.training.settings import ModelSettings, TrainingSettings, settings_from


@dataclass(frozen=True)
class TrainingJob:
    """One model to train.

    Attributes:
        key: Its name in the logs, such as ``bn`` or ``plain``; also the name of its run if `name`
            is None.
        settings: The model.
        name: The requested name of its run, or None.
        training: How to train it, if not as the others; only `seed` and `lr` may differ.
        probe: Whether to record what happens inside the model.
    """

    key: str
    settings: ModelSettings
    name: str | None = None
    training: TrainingSettings | None = None
    probe: bool = False


class TrainedRun(runs.Run):
    """The run of a model that `train` trained, with a readable repr and a figure."""

    def __repr__(self) -> str:
        return f"<Run {summary(self) if self.record.final else f'{self.path}: {self.status}'}>"

    def figure(self) -> Figure:
        """Plot loss and accuracy of the training and the test set against the epochs."""
        return draw_curves([curve_of(self)], title_of(self), self.record.data.note)


def train(
    data: Dataset | None = None,
    *,
    run: str | None = None,
    force: bool = False,
    probe: bool = False,
    tensorboard: bool = False,
    device: str = "auto",
    quiet: bool = True,
    root: Path = runs.ROOT,
    **settings: Any,  # noqa: ANN401 - the settings of model and training
) -> TrainedRun:
    """Train a model with or without BN, and keep the run.

    Args:
        data: What to train and test on; None for the result of `kerasbn.load_dataset()`.
        run: What to call the run; None for ``bn`` or ``plain``, numbered where the name is taken.
        force: Whether to replace a run that has this name.
        probe: Whether to record and plot what happens inside the model.
        tensorboard: Whether to write TensorBoard logs too.
        device: ``auto``, ``cpu``, ``gpu``, ``gpu:N`` or ``all`` (data-parallel).
        quiet: Whether to show no progress.
        root: The folder of the runs.
        **settings: Fields of `kerasbn.ModelSettings` and `kerasbn.TrainingSettings`, such as
            ``bn=False``, ``epochs=5`` or ``hidden=(64, 64)``.

    Returns:
        The run. It has a readable repr, `history` (a table: a dict of columns), `record`,
        `model_path` and `figure()`.

    Raises:
        InputError: If an argument cannot be used; nothing has been trained then.

    Examples:
        >>> import kerasbn
        >>> data = kerasbn.load_dataset("mnist-sample")
        >>> run = kerasbn.train(data, epochs=1, bn=False)
        >>> run
        <Run saved_models/plain: test accuracy ..., test loss ... after 1 epoch in ... s>
        >>> run.history["epoch"]
        [1.0]
        >>> run.figure().savefig("curves.png")
    """
    if not isinstance(data, Dataset | None):
        advice = "make one with kerasbn.load_dataset()"
        found = f"a {type(data).__name__}"
        raise ArgumentError("data", data, "a kerasbn.Dataset", advice, received=found)
    model, training = settings_from(settings)
    (trained,) = train_jobs(
        [job(model, run, probe=probe)],
        load_dataset(quiet=quiet) if data is None else data,
        training,
        device=device,
        force=force,
        tensorboard=tensorboard,
        quiet=quiet,
        root=root,
    )
    return TrainedRun(trained.path, trained.record)


def job(settings: ModelSettings, name: str | None = None, *, probe: bool = False) -> TrainingJob:
    """Return the job for a single model with these settings, called ``bn`` or ``plain``."""
    return TrainingJob("bn" if settings.bn else "plain", settings, name, probe=probe)


def train_jobs(
    jobs: Sequence[TrainingJob],
    data: Dataset,
    training: TrainingSettings,
    *,
    device: str = "auto",
    force: bool = False,
    tensorboard: bool = False,
    quiet: bool = False,
    root: Path = runs.ROOT,
    heading: str = "",
    pictures: bool = True,
    callbacks: Sequence[keras.callbacks.Callback] = (),
) -> list[runs.Run]:
    """Train models side by side and keep a run of each.

    Models with the same seed see the same batches in the same order and start from the same Dense
    kernels. Models with equal settings train as an ensemble (see `kerasbn.training.ensembles`),
    each as it would alone. After every epoch each model is evaluated on the whole training set and
    the whole test set. If a model diverges, it stops and the others go on; Ctrl-C stops all. The
    epochs until then are kept, and the `status` of the run says what happened.

    Args:
        jobs: The models.
        data: What to train and test on.
        training: How to train them.
        device: ``auto``, ``cpu``, ``gpu``, ``gpu:N`` or ``all`` (data-parallel; no ensembles).
        force: Whether to replace runs that have the requested names.
        tensorboard: Whether to write TensorBoard logs too.
        quiet: Whether to show no progress.
        root: The folder of the runs.
        heading: A line to show first.
        pictures: Whether to plot the curves of each run, which takes half a second each.
        callbacks: Further callbacks, which get the logs of all models (see `training.callbacks`).

    Returns:
        The runs, in the order of the jobs.

    Raises:
        InputError: If something cannot be used; nothing has been trained then.
    """
    where = _check(jobs, data, training, device, force=force, tensorboard=tensorboard, root=root)
    trainings = {each.key: each.training or training for each in jobs}
    with tf.device(where.name), _report_exhausted_memory(jobs):
        models = _build(jobs, trainings)
    schedule, steps = _plan(jobs, len(data.train), training, where)
    evaluation = EvaluateEachEpoch(schedule)
    started = datetime.now(UTC)
    with ExitStack() as stack:
        folders = {
            each.key: stack.enter_context(runs.new_run(each.name, each.key, force=force, root=root))
            for each in jobs
        }
        writers = [
            SingleModelCallbacks(key, models[key], _writers(folder.path, tensorboard))
            for key, folder in folders.items()
        ]
        with tf.device(where.name):
            probes = _probes(jobs, models, folders, schedule, steps, data, tensorboard)
        labels = {each.key: label(each.settings.bn) for each in jobs}
        with ProgressDisplay(schedule, labels, quiet=quiet) as progress:
            # It stays active until everything is written: Ctrl-C then must not lose the training.
            stop = stack.enter_context(
                StopOnInterrupt(lambda: progress.say("stopping; Ctrl-C again to drop this run"))
            )
            if heading:
                progress.say(heading)
            watching = [evaluation, *writers, *callbacks, *probes.values(), progress, stop]
            with _report_exhausted_memory(jobs):
                # A checkpoint would restore models, optimizers and the epoch here.
                _fit(jobs, models, trainings, data, schedule, watching, where)
        batch_results = _predict_in_batches(models, evaluation.weights, list(probes), data)
        # The first job's run is written last, so that it is the newest.
        for each in reversed(jobs):
            key, folder = each.key, folders[each.key].path
            record = runs.RunRecord(
                status=_status(key, evaluation, stop.interrupted),
                **_times(started),
                model=each.settings,
                training=trainings[key],
                data=data_of(data),
                device=where.description,
                versions=versions(),
                parameters=models[key].count_params(),
                epochs=0,
                diverged_at_step=evaluation.diverged.get(key),
            )
            record = _finish(folder, models[key], evaluation.weights.get(key), record)
            if key in probes:
                results = tuple(batch_results.get(key, ()))
                write_probes(folder, probes[key].readings(), probes[key].record(results))
            if pictures:
                trained = TrainedRun(folder, record)
                save_figure(trained.figure(), folder / runs.CURVES)
                if key in probes and len(jobs) == 1:  # a comparison plots its probes together
                    save_pictures([trained], folder)
    return [runs.read_run(folder.placed) for folder in folders.values() if folder.placed]


def _check(
    jobs: Sequence[TrainingJob],
    data: Dataset,
    training: TrainingSettings,
    device: str,
    *,
    force: bool,
    tensorboard: bool,
    root: Path,
) -> Device:
    """Refuse what cannot be trained or kept, and return the device to train on."""
    training.check([each.settings for each in jobs], len(data.train))
    for each in jobs:
        if each.name is not None:
            runs.check_name(each.name, force=force, root=root)
    if tensorboard and find_spec("tensorboard") is None:
        raise expected(
            "--tensorboard", "an installation without TensorBoard", "the package tensorboard",
            'install it: pip install "kerasbn[tensorboard]"',
        )  # fmt: skip
    where = choose_device(device)
    where.check_batch(training.batch_size)
    return where


def _build(
    jobs: Sequence[TrainingJob], trainings: Mapping[str, TrainingSettings]
) -> dict[str, keras.Model]:
    """Return the compiled models by key."""
    return {
        each.key: compile_model(
            mlp(**asdict(each.settings), seed=trainings[each.key].seed), trainings[each.key]
        )
        for each in jobs
    }


def _plan(
    jobs: Sequence[TrainingJob], examples: int, training: TrainingSettings, where: Device
) -> tuple[Schedule, tuple[int, ...]]:
    """Return the schedule of the batches, and the steps to probe."""
    schedule = Schedule.of(examples, training.batch_size, training.epochs, training.steps)
    steps = probe_steps(schedule.steps) if any(each.probe for each in jobs) else ()
    schedule = replace(schedule, stops=stops_for(steps))
    return (schedule.batch_by_batch() if where.replicas else schedule), steps


def _probes(
    jobs: Sequence[TrainingJob],
    models: Mapping[str, keras.Model],
    folders: Mapping[str, NewFolder],
    schedule: Schedule,
    steps: tuple[int, ...],
    data: Dataset,
    tensorboard: bool,
) -> dict[str, Probe]:
    """Return the probes by key."""
    probes = {}
    for key in (each.key for each in jobs if each.probe):
        log = folders[key].path / "tensorboard" / "probes" if tensorboard else None
        probes[key] = Probe(key, models[key], schedule, steps, data.train, log)
    return probes


def _fit(
    jobs: Sequence[TrainingJob],
    models: Mapping[str, keras.Model],
    trainings: Mapping[str, TrainingSettings],
    data: Dataset,
    schedule: Schedule,
    callbacks: Sequence[keras.callbacks.Callback],
    where: Device,
) -> None:
    """Train all models together."""
    if where.replicas:
        fit_mirrored(models, trainings, data, schedule, callbacks, where.replicas)
        return
    with tf.device(where.name):
        learners = _learners(jobs, models, trainings)
    fit(learners, data, schedule, callbacks, where.name)


def _learners(
    jobs: Sequence[TrainingJob],
    models: Mapping[str, keras.Model],
    trainings: Mapping[str, TrainingSettings],
) -> list[Learner]:
    """Return an ensemble for models with equal settings, and a single model for each other."""
    groups: dict[ModelSettings, list[str]] = {}
    for each in jobs:
        groups.setdefault(each.settings, []).append(each.key)
    return [
        SingleModel(keys[0], models[keys[0]], trainings[keys[0]].seed)
        if len(keys) == 1
        else Ensemble({key: models[key] for key in keys}, [trainings[key] for key in keys])
        for keys in groups.values()
    ]


def _predict_in_batches(
    models: Mapping[str, keras.Model],
    weights: Mapping[str, list[Any]],
    keys: Sequence[str],
    data: Dataset,
) -> dict[str, list[BatchResult]]:
    """Measure the batch composition of the probed models that finished an epoch, in parallel."""
    if not keys:
        return {}
    with ThreadPoolExecutor(len(keys)) as pool:
        futures = {
            key: pool.submit(predict_in_batches, models[key], weights[key], data.test)
            for key in keys
            if key in weights
        }
        return {key: future.result() for key, future in futures.items()}


def _writers(folder: Path, tensorboard: bool) -> list[keras.callbacks.Callback]:
    """Return the Keras callbacks that write the run of one model during training."""
    writers: list[keras.callbacks.Callback] = [keras.callbacks.CSVLogger(folder / runs.HISTORY)]
    if tensorboard:
        writers.append(keras.callbacks.TensorBoard(folder / "tensorboard", write_graph=False))
    return writers


def _finish(
    folder: Path, model: keras.Model, weights: list[Any] | None, record: runs.RunRecord
) -> runs.RunRecord:
    """Write what a run holds besides the history, and return its record."""
    history_file = folder / runs.HISTORY
    if weights is None:  # no epoch has metrics, so the logger has not written a header
        history_file.write_text(",".join(runs.HISTORY_COLUMNS) + "\n")
    else:
        model.set_weights(weights)
        model.save(folder / runs.MODEL)
    history = runs.read_history(history_file)
    final = {name: column[-1] for name, column in history.items() if column}
    record = replace(record, epochs=len(history["epoch"]), final=final)
    write_json(folder / runs.RECORD, record)
    return record


def _status(key: str, evaluation: EvaluateEachEpoch, stopped: bool) -> runs.Status:
    if key in evaluation.diverged:
        return "diverged"
    return "interrupted" if stopped else "finished"


def _times(started: datetime) -> dict[str, Any]:
    finished = datetime.now(UTC)
    return {
        "started": started.isoformat(),
        "finished": finished.isoformat(),
        "seconds": round((finished - started).total_seconds(), 3),
    }


@contextmanager
def _report_exhausted_memory(jobs: Sequence[TrainingJob]) -> Iterator[None]:
    """Turn TensorFlow's error about exhausted memory into one line about the layers."""
    try:
        yield
    except tf.errors.ResourceExhaustedError as error:
        sizes = dict.fromkeys(",".join(map(str, each.settings.hidden)) for each in jobs)
        raise expected(
            f"--hidden {' '.join(sizes)}", "more units than the memory holds", "fewer",
            "make the layers or the batch smaller",
        ) from error  # fmt: skip
