"""Is an ONNX file whole, folded, faithful and deterministic? Measured, with a verdict for each."""

import json
from collections import Counter
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import onnx
import onnx_ir as ir
from numpy.typing import NDArray

from kerasbn.errors import CheckFailedError, InputError, expected, quoted
from kerasbn.files import atomic_write
from kerasbn.inference.checksum import check_whole, is_altered
from kerasbn.inference.determinism import LARGEST_BATCH, Determinism, measure
from kerasbn.inference.metadata import Metadata, read_metadata
from kerasbn.inference.remaining import KINDS, remaining_nodes
from kerasbn.inference.samples import samples_for
from kerasbn.inference.session import Session
from kerasbn.records import to_plain
from kerasbn.runs import Run, find_model, find_run

Array = NDArray[Any]
Arrays = list[Array]

# Numbers in the samples that are compared with Keras, about; fewer samples where each is large.
_ELEMENTS = 600_000

PASSED, FAILED, NOT_CHECKED = "passed", "failed", "not checked"


@dataclass(frozen=True)
class Verdict:
    """One question about a file, answered.

    Attributes:
        name: `whole`, `folded`, `faithful` or `deterministic`.
        verdict: `passed`, `failed` or `not checked`.
        reason: what was found, as a sentence with its figures.
        figures: the same as data.
    """

    name: str
    verdict: str
    reason: str
    figures: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Verification:
    """The verdicts on a file."""

    path: Path
    whole: Verdict
    folded: Verdict
    faithful: Verdict
    deterministic: Verdict
    run: Path | None = None

    @property
    def verdicts(self) -> tuple[Verdict, ...]:
        """All four, in the order they are told."""
        return self.whole, self.folded, self.faithful, self.deterministic

    @property
    def passed(self) -> bool:
        """Whether none failed."""
        return all(verdict.verdict != FAILED for verdict in self.verdicts)

    def check(self) -> None:
        """Raise `CheckFailedError` if a verdict is `failed`, naming which."""
        failed = [verdict.name for verdict in self.verdicts if verdict.verdict == FAILED]
        if failed:
            raise CheckFailedError(f"{self.path}: is not {' and not '.join(failed)}")

    def as_dict(self) -> dict[str, Any]:
        """All of it as JSON data."""
        checks = {verdict.name: to_plain(asdict(verdict)) for verdict in self.verdicts}
        return {"path": str(self.path), "passed": self.passed, **checks}

    def summary(self) -> str:
        """All of it as a few lines to read."""
        lines = [f"  {v.name}: {v.verdict}; {v.reason}" for v in self.verdicts]
        return "\n".join([f"{self.path}: {PASSED if self.passed else FAILED}", *lines])


def verify(
    path: Path | str,
    against: Any = None,  # noqa: ANN401 - a keras.Model, which is not loaded for its name
    *,
    inputs: Path | str | Arrays | None = None,
    strict: bool = False,
) -> Verification:
    """Measure whether an ONNX file is whole, folded, faithful and deterministic.

    Args:
        path: the ONNX file.
        against: the Keras network it should answer as: a model, a .keras or .h5 file, or a run;
            None for the run its metadata names.
        inputs: samples to ask for: arrays, or an .npz file with one for each input by its name;
            random ones of the right kind if there are none.
        strict: whether answers that are not bit-equal fail, though only by rounding.

    Raises:
        InputError: if the file, the network or the inputs cannot be used.
    """
    path = Path(path)
    session = open_session(path)
    try:
        model = onnx.load(path)
        graph = ir.from_proto(model)
    except Exception as error:  # a damaged file makes onnx raise many kinds
        raise expected(
            path, f"a file that onnx cannot read ({quoted(error)})", "a whole ONNX network"
        ) from error
    properties = {entry.key: entry.value for entry in model.metadata_props}
    metadata = read_metadata(properties)
    arrays = samples_for(session, graph, inputs, LARGEST_BATCH)
    keras_network, why_not, run = _network(against, metadata)
    return Verification(
        path,
        _whole(path),
        _folded(graph, metadata),
        _faithful(session, graph, keras_network, why_not, arrays, metadata),
        _deterministic(path, model, arrays, strict=strict),
        run.path if run else None,
    )


def open_session(path: Path) -> Session:
    """The network in a file; what cannot be read is told to be damaged where its checksum says so.

    Raises:
        InputError: if it cannot be read.
    """
    try:
        return Session(path)
    except InputError:
        check_whole(path)
        raise


def _whole(path: Path) -> Verdict:
    altered = is_altered(path)
    if altered is None:
        return Verdict("whole", NOT_CHECKED, "it holds no checksum for a file of its size")
    if altered:
        said = "the file was altered since kerasbn wrote it: its checksum does not hold"
        return Verdict("whole", FAILED, said)
    return Verdict("whole", PASSED, "every byte is as kerasbn wrote it")


def _folded(graph: ir.Model, metadata: Metadata | None) -> Verdict:
    found = remaining_nodes(graph, metadata.scalings if metadata else None)
    counts = Counter(each.kind for each in found)
    figures = {f"{kind}s": [" + ".join(r.nodes) for r in found if r.kind == kind] for kind in KINDS}
    said = [f"{counts[kind]} {kind}{'s' * (counts[kind] != 1)} left" for kind in KINDS]
    names = figures["BN layers"]
    if names:
        said[0] += f" ({', '.join(names[:5])}{', ...' if len(names) > 5 else ''})"
    return Verdict("folded", FAILED if names else PASSED, ", ".join(said), figures)


def _faithful(
    session: Session,
    graph: ir.Model,
    network: Any,  # noqa: ANN401 - a keras.Model
    why_not: str,
    samples: Arrays,
    metadata: Metadata | None,
) -> Verdict:
    if network is None:
        return Verdict("faithful", NOT_CHECKED, why_not)
    from kerasbn.inference.parity import compare, own_error, with_softmax

    if metadata and metadata.probabilities:
        network = with_softmax(network)
    # Keras in float64 takes its time: 256 digits, but a few photographs.
    count = max(4, min(LARGEST_BATCH, _ELEMENTS // max(samples[0][0].size, 1)))
    samples = [array[:count] for array in samples]
    difference = compare(session, network, samples)
    own = own_error(graph, network, samples)
    figures = asdict(difference) | {"file_in_float64": own, "samples": len(samples[0])}
    said = (
        f"largest difference from Keras {difference.absolute:.1e}, relative "
        f"{difference.relative:.1e}, {difference.changed} of {difference.decisions:,} decisions "
        f"changed; from the unfolded network in float64 {difference.from_float64:.1e}, of "
        f"{difference.allowed:.1e} allowed (Keras itself {difference.keras_from_float64:.1e}"
        + (f"; folding and storing the weights {own:.1e})" if own is not None else ")")
    )
    return Verdict("faithful", PASSED if difference.is_close else FAILED, said, figures)


def _deterministic(path: Path, model: onnx.ModelProto, samples: Arrays, *, strict: bool) -> Verdict:
    found = measure(path, samples)
    figures = asdict(found) | {"bit_equal": found.bit_equal}
    if found.bit_equal:
        return Verdict("deterministic", PASSED, f"bit-equal over {found.tried}", figures)
    passed = found.passed and not strict
    said = _cause_in_words(found, path, samples, model)
    return Verdict(
        "deterministic", PASSED if passed else FAILED, f"{said}; tried: {found.tried}", figures
    )


def _cause_in_words(found: Determinism, path: Path, samples: Arrays, model: onnx.ModelProto) -> str:
    if found.cause == "batch statistics":
        from kerasbn.inference.culprit import first_that_differs

        node = first_that_differs(path, model, samples)
        return f"the answer depends on what else is in the batch, from node '{node}' on"
    if found.cause == "randomness":
        random = [n.name or n.op_type for n in model.graph.node if n.op_type.startswith("Random")]
        return f"a repeated run answers otherwise (random: {', '.join(random) or 'unknown'})"
    worst = max(found.deviations, key=lambda deviation: deviation.relative)
    changed = max(deviation.changed for deviation in found.deviations)
    return (
        f"not bit-equal: rounding of {worst.relative:.1e} with {worst.circumstance}, "
        f"{changed} decisions changed, {found.allowed:.0e} allowed"
    )


def _network(against: Any, metadata: Metadata | None) -> tuple[Any, str, Run | None]:  # noqa: ANN401
    """The Keras network to compare with, or why there is none; and the run it is from."""
    if against is not None and not isinstance(against, str | Path):
        return against, "", None
    from kerasbn.saved_models import load_model

    if against is not None:
        file = find_model(str(against))
        return load_model(file), "", _run_at(file)
    if metadata is None or not metadata.run:
        return None, "the file names no run; give one with --against", None
    try:
        run = find_run(metadata.run)
        network = load_model(run.model_path)
    except InputError:
        return None, f"the run '{metadata.run}' is not here; give it with --against", None
    from kerasbn.inference.metadata import digest

    if digest(network) != metadata.digest:
        return None, f"the run '{metadata.run}' has another network by now; see --against", None
    return network, "", run


def _run_at(file: Path) -> Run | None:
    try:
        return find_run(str(file.parent))
    except InputError:
        return None


def write_beside(found: Verification) -> None:
    """Write the result as verify.json beside the run it was compared with, if it was with one."""
    if found.run is None:
        return
    with atomic_write(found.run / "verify.json") as temporary:
        temporary.write_text(json.dumps(found.as_dict(), indent=2) + "\n", encoding="utf-8")
