"""An experiment: networks trained side by side on the same batches, a run kept of each."""

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf

from kerasbn import runs
from kerasbn.data.batching import Schedule
from kerasbn.data.datasets import Dataset
from kerasbn.errors import expected
from kerasbn.experiments.curves import curve_of, draw_curves, label, title_of
from kerasbn.experiments.provenance import data_of, versions
from kerasbn.plotting import save_figure
from kerasbn.probes.batch_composition import predict_in_batches
from kerasbn.probes.readings import BatchResult, write_probes
from kerasbn.probes.recording import Probe, probe_steps, stops_for
from kerasbn.probes.results import save_pictures
from kerasbn.records import write_json
from kerasbn.training.callbacks import Measure, StopOnInterrupt, View
from kerasbn.training.devices import choose_device
from kerasbn.training.ensembles import Ensemble, Learner, Solo, compile_network
from kerasbn.training.loop import fit
from kerasbn.training.mirrored import fit_mirrored
from kerasbn.training.models import mlp
from kerasbn.training.progress import ShowProgress
from kerasbn.training.settings import ModelSettings, TrainingSettings


@dataclass(frozen=True)
class Member:
    """One network of an experiment.

    Attributes:
        key: such as ``bn`` or ``plain``: its name in the logs, and of its run where `name` is None.
        settings: what network it is.
        name: the name asked for its run, or None.
        training: how it is trained, where not as the others; `seed` and `lr` may differ.
        probe: whether to record what happens inside it.
    """

    key: str
    settings: ModelSettings
    name: str | None = None
    training: TrainingSettings | None = None
    probe: bool = False


def member(settings: ModelSettings, name: str | None = None, *, probe: bool = False) -> Member:
    """The member with these settings, named after its normalization."""
    return Member("bn" if settings.bn else "plain", settings, name, probe=probe)


def train(
    members: Sequence[Member],
    digits: Dataset,
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
    """Train the members side by side and keep a run of each.

    Those of one seed see the same batches in the same order and start from the same Dense kernels.
    Those with equal settings train as an ensemble (see `kerasbn.training.ensembles`), each as it
    would alone. After every epoch each is evaluated on the whole training set and the whole test
    set. A member that diverges ends there and the others go on; Ctrl-C ends all of them. What was
    recorded until then is kept, and the run's `status` tells.

    Args:
        members: what to train.
        digits: what to train and test on.
        training: how.
        device: ``auto``, ``cpu``, ``gpu``, ``gpu:N``, or ``all`` of them: every batch is shared
            out, and each member trains alone.
        force: whether runs that have the names asked for give way.
        tensorboard: whether each run gets a folder that TensorBoard reads.
        quiet: whether to show nothing on the way.
        root: the folder the runs go into.
        heading: a line to show first.
        pictures: whether each run gets one of its curves, which takes half a second each.
        callbacks: further ones, that see the logs of all networks (see `training.callbacks`).

    Returns:
        The runs, in the order of the members.

    Raises:
        InputError: if something given cannot be used, before anything is trained.
    """
    training.check([each.settings for each in members], len(digits.train))
    for each in members:
        if each.name is not None:
            runs.check_name(each.name, force=force, root=root)
    if tensorboard and find_spec("tensorboard") is None:
        raise expected(
            "--tensorboard", "an installation without TensorBoard", "the package tensorboard",
            'install it: pip install "kerasbn[tensorboard]"',
        )  # fmt: skip
    where = choose_device(device)
    where.check_batch(training.batch_size)
    own = {each.key: each.training or training for each in members}
    with tf.device(where.name), _in_memory(members):
        networks = {
            each.key: compile_network(
                mlp(**asdict(each.settings), seed=own[each.key].seed), own[each.key]
            )
            for each in members
        }
    schedule = Schedule.of(len(digits.train), training.batch_size, training.epochs, training.steps)
    probed = [each.key for each in members if each.probe]
    looks = probe_steps(schedule.steps) if probed else ()
    schedule = replace(schedule, stops=stops_for(looks))
    if where.replicas:
        schedule = schedule.batch_by_batch()
    labels = {each.key: label(each.settings.bn) for each in members}
    measure = Measure(schedule)
    started = datetime.now(UTC)
    with ExitStack() as stack:
        folders = [
            stack.enter_context(runs.new_run(each.name, each.key, force=force, root=root))
            for each in members
        ]
        views = [
            View(each.key, networks[each.key], _writers(folder.path, tensorboard))
            for each, folder in zip(members, folders, strict=True)
        ]
        with tf.device(where.name):
            probes = [
                Probe(each.key, networks[each.key], schedule, looks, digits.train, log)
                for each, folder in zip(members, folders, strict=True)
                for log in [folder.path / "tensorboard" / "probes" if tensorboard else None]
                if each.probe
            ]
        with ShowProgress(schedule, labels, quiet=quiet) as progress:
            # It listens until all is written: a Ctrl-C then must not lose what was trained.
            stop = stack.enter_context(
                StopOnInterrupt(lambda: progress.say("stopping; Ctrl-C again to drop this run"))
            )
            if heading:
                progress.say(heading)
            watching = [measure, *views, *callbacks, *probes, progress, stop]
            with _in_memory(members):
                if where.replicas:
                    fit_mirrored(networks, own, digits, schedule, watching, where.replicas)
                else:
                    with tf.device(where.name):
                        learners = _learners(members, networks, own)
                    fit(learners, digits, schedule, watching, where.name)
        answers = _answers_in_batches(stack, networks, measure.weights, probed, digits)
        # The first member's run is the one that finished last, so that it is the newest.
        for each, folder in reversed(list(zip(members, folders, strict=True))):
            record = runs.RunRecord(
                status=_status(each.key, measure, stop.interrupted),
                **_times(started),
                model=each.settings,
                training=own[each.key],
                data=data_of(digits),
                device=where.description,
                versions=versions(),
                parameters=networks[each.key].count_params(),
                epochs=0,
                diverged_at_step=measure.diverged.get(each.key),
            )
            record = _finish(folder.path, networks[each.key], measure.weights.get(each.key), record)
            for probe in (probe for probe in probes if probe.key == each.key):
                answered = answers[each.key].result() if each.key in answers else []
                write_probes(folder.path, probe.readings(), probe.record(tuple(answered)))
            if pictures:
                run = runs.Run(folder.path, record)
                figure = draw_curves([curve_of(run)], title_of(run), digits.note)
                save_figure(figure, folder.path / runs.CURVES)
                if [each.key] == probed == list(own):  # who trains several draws them together
                    save_pictures([run], folder.path)
    return [runs.read_run(folder.placed) for folder in folders if folder.placed]


@contextmanager
def _in_memory(members: Sequence[Member]) -> Iterator[None]:
    """Turn TensorFlow's word that the memory is used up into one line about the layers."""
    try:
        yield
    except tf.errors.ResourceExhaustedError as error:
        sizes = dict.fromkeys(",".join(map(str, each.settings.hidden)) for each in members)
        raise expected(
            f"--hidden {' '.join(sizes)}", "more units than the memory holds", "fewer",
            "make the layers or the batch smaller",
        ) from error  # fmt: skip


def _learners(
    members: Sequence[Member],
    networks: Mapping[str, keras.Model],
    own: Mapping[str, TrainingSettings],
) -> list[Learner]:
    """An ensemble of those members whose networks have equal settings, and the others alone."""
    alike: dict[ModelSettings, list[str]] = {}
    for each in members:
        alike.setdefault(each.settings, []).append(each.key)
    return [
        Solo(keys[0], networks[keys[0]], own[keys[0]].seed)
        if len(keys) == 1
        else Ensemble({key: networks[key] for key in keys}, [own[key] for key in keys])
        for keys in alike.values()
    ]


def _answers_in_batches(
    stack: ExitStack,
    networks: Mapping[str, keras.Model],
    weights: Mapping[str, list[Any]],
    probed: Sequence[str],
    digits: Dataset,
) -> dict[str, Future[list[BatchResult]]]:
    """How the probed networks answer in batches, if they were trained so far; beside what else."""
    if not probed:
        return {}
    pool = stack.enter_context(ThreadPoolExecutor(len(probed)))
    return {
        key: pool.submit(predict_in_batches, networks[key], weights[key], digits.test)
        for key in probed
        if key in weights
    }


def _writers(folder: Path, tensorboard: bool) -> list[keras.callbacks.Callback]:
    """The callbacks of Keras's own that write one network's run while it trains."""
    writers: list[keras.callbacks.Callback] = [keras.callbacks.CSVLogger(folder / runs.HISTORY)]
    if tensorboard:
        writers.append(keras.callbacks.TensorBoard(folder / "tensorboard", write_graph=False))
    return writers


def _finish(
    folder: Path, network: keras.Model, weights: list[Any] | None, record: runs.RunRecord
) -> runs.RunRecord:
    """Write what a run holds besides the history, and return its record."""
    history_file = folder / runs.HISTORY
    if weights is None:  # not one epoch has figures: the logger has not even written its heading
        history_file.write_text(",".join(runs.HISTORY_COLUMNS) + "\n")
    else:
        network.set_weights(weights)
        network.save(folder / runs.MODEL)
    history = runs.read_history(history_file)
    final = {name: column[-1] for name, column in history.items() if column}
    record = replace(record, epochs=len(history["epoch"]), final=final)
    write_json(folder / runs.RECORD, record)
    return record


def _status(key: str, measure: Measure, stopped: bool) -> runs.Status:
    if key in measure.diverged:
        return "diverged"
    return "interrupted" if stopped else "finished"


def _times(started: datetime) -> dict[str, Any]:
    finished = datetime.now(UTC)
    return {
        "started": started.isoformat(),
        "finished": finished.isoformat(),
        "seconds": round((finished - started).total_seconds(), 3),
    }
