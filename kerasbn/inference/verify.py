"""Verify an ONNX file: is it intact, folded, equal to its Keras model, and deterministic?"""

from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from shutil import get_terminal_size
from textwrap import TextWrapper
from typing import Any, Literal

import onnx

from kerasbn.common.errors import ArgumentError, CheckFailedError, InputError, expected, quoted
from kerasbn.common.records import to_plain, write_json
from kerasbn.common.wording import listed, plural
from kerasbn.data.arrays import Arrays
from kerasbn.folding.agreement import batch_size
from kerasbn.folding.plan import Plan
from kerasbn.inference.determinism import (
    LARGEST_BATCH,
    Determinism,
    first_node_that_differs,
    measure_determinism,
)
from kerasbn.inference.metadata import Metadata, is_altered
from kerasbn.inference.remaining import remaining_nodes, report_remaining
from kerasbn.inference.samples import Given, samples_for
from kerasbn.inference.session import Session
from kerasbn.runs import Run, find_model, find_run, run_of

CheckStatus = Literal["passed", "failed", "not checked"]

PASSED: CheckStatus = "passed"
FAILED: CheckStatus = "failed"
NOT_CHECKED: CheckStatus = "not checked"


@dataclass(frozen=True)
class Check:
    """Result of one check of `verify`.

    Attributes:
        name: "intact", "folded", "parity" or "determinism".
        status: "passed", "failed" or "not checked".
        reason: What was found, as a sentence with figures.
        figures: The same as data.
    """

    name: str
    status: CheckStatus
    reason: str
    figures: dict[str, Any] = field(default_factory=dict, repr=False)


@dataclass(frozen=True, repr=False)
class Verification:
    """Result of `verify`; prints as a table of the four checks.

    Attributes:
        path: The ONNX file.
        intact: Whether the file is byte for byte as exported.
        folded: Whether no BN nodes remain.
        parity: Whether the outputs match the Keras model.
        determinism: Whether equal inputs give equal outputs.
        run: The folder of the run that the Keras model belongs to, if it belongs to one.
    """

    path: Path
    intact: Check
    folded: Check
    parity: Check
    determinism: Check
    run: Path | None = None

    @property
    def checks(self) -> tuple[Check, ...]:
        """The four checks."""
        return self.intact, self.folded, self.parity, self.determinism

    @property
    def passed(self) -> bool:
        """Whether no check failed."""
        return all(check.status != FAILED for check in self.checks)

    def raise_if_failed(self) -> None:
        """Raise `CheckFailedError` if a check failed; the message names which."""
        failed = [check.name for check in self.checks if check.status == FAILED]
        if failed:
            raise CheckFailedError(f"{self.path}: failed {listed(failed)}")

    def as_dict(self) -> dict[str, Any]:
        """Return the result as JSON data, the checks by name."""
        checks: dict[str, Any] = {check.name: to_plain(check) for check in self.checks}
        return {"path": str(self.path), "passed": self.passed, **checks}

    def lines(self) -> list[str]:
        """Return the result as lines that fit the width of the terminal."""
        width = max(get_terminal_size().columns, 40)
        wrapper = TextWrapper(
            width, subsequent_indent=" " * 15, break_long_words=False, break_on_hyphens=False
        )
        lines = [f"{self.path}: {PASSED if self.passed else FAILED}"]
        for check in self.checks:
            lines += wrapper.wrap(f"  {check.name + ':':13}{check.status}; {check.reason}")
        return lines

    def __repr__(self) -> str:
        return "\n".join(self.lines())

    def write_beside_run(self) -> None:
        """Write the result as ``verify.json`` into the folder of the run, if there is one."""
        if self.run is not None:
            write_json(self.run / "verify.json", self.as_dict())


def verify(
    path: Path | str,
    against: Any = None,  # noqa: ANN401 - a keras.Model, a path or a name
    *,
    inputs: Given | None = None,
    strict: bool = False,
) -> Verification:
    """Check that an ONNX file is intact, fully folded, matches the Keras model, is deterministic.

    Args:
        path: The ONNX file.
        against: The Keras model it was exported from: a model, a .keras or .h5 file, or a run. By
            default the run that the file names.
        inputs: Samples to compare on: an array for each input; an .npz file with an array for each
            input by name; or a folder of images. By default random ones.
        strict: Whether outputs that are not bit-equal fail, even if they differ only by rounding.

    Returns:
        The four checks. A check fails without raising an error; see `Verification.passed`.

    Raises:
        InputError: If the file, the model or the inputs cannot be used.

    Examples:
        >>> import kerasbn
        >>> model = kerasbn.mlp(hidden=(8,))
        >>> exported = kerasbn.export(model, "model.onnx")
        >>> kerasbn.verify("model.onnx", model)
        model.onnx: passed
          intact:      passed; ...
          folded:      passed; remaining: nothing; ...
          parity:      passed; ...
          determinism: passed; ...
    """
    if not isinstance(strict, bool):
        raise ArgumentError("strict", strict, "True or False")
    session = Session(path)
    path = session.path
    try:
        proto = onnx.load(path)
    except Exception as error:  # a damaged file makes onnx raise many types
        raise expected(
            path,
            f"a file that onnx cannot read ({quoted(error)})",
            "an intact ONNX model of a version that it supports",
        ) from error
    samples = samples_for(session, proto, inputs, LARGEST_BATCH)
    compared = samples if inputs is not None else [a[: batch_size(samples)] for a in samples]
    model, reason, run = _find_model(against, session.metadata)
    intact = _check_intact(path)
    # What a file says of its layers holds only while it is as exported.
    metadata = session.metadata if intact.status == PASSED else None
    return Verification(
        path,
        intact,
        _check_folded(proto, metadata),
        Check("parity", NOT_CHECKED, reason)
        if model is None
        else _check_parity(session, proto, model, compared),
        _check_determinism(path, proto, samples, strict=strict),
        run.path if run else None,
    )


def _check_intact(path: Path) -> Check:
    altered = is_altered(path)
    if altered is None:
        return Check("intact", NOT_CHECKED, "the file has no checksum for its size")
    if altered:
        reason = "the file was altered after export: its checksum does not match"
        return Check("intact", FAILED, reason)
    return Check("intact", PASSED, "the checksum matches")


def _check_folded(proto: onnx.ModelProto, metadata: Metadata | None) -> Check:
    found = remaining_nodes(proto, metadata.bn_layers if metadata else None)
    plan = _plan_of(metadata)
    kept = {decision.layer: decision.reason for decision in plan.kept("BN layer")}
    figures = {"bn_nodes": list(found), "kept": kept, "added_bytes": plan.added_bytes}
    reason = "; ".join(report_remaining(found, plan))
    return Check("folded", FAILED if found else PASSED, reason, figures)


def _plan_of(metadata: Metadata | None) -> Plan:
    """Return the plan that a file records, an empty one if it records none."""
    with suppress(AttributeError, KeyError, TypeError, ValueError):  # another version's, perhaps
        if metadata:
            return Plan.from_json(metadata.plan, metadata.added_bytes)
    return Plan()


def _check_parity(
    session: Session,
    proto: onnx.ModelProto,
    model: Any,  # noqa: ANN401 - a keras.Model
    samples: Arrays,
) -> Check:
    from kerasbn.folding.keras.rewrite import as_functional
    from kerasbn.inference.parity import error_in_float64, measure_parity, with_softmax

    model = as_functional(model)
    if session.metadata and session.metadata.probabilities:
        model = with_softmax(model)
    found = measure_parity(session, model, samples)
    count = batch_size(samples)
    folding = error_in_float64(proto, model, [array[:count] for array in samples])
    figures = asdict(found) | {"file_in_float64": folding}
    reason = (
        f"{found.changed} of {found.predictions:,} predictions differ on "
        f"{plural(found.samples, 'sample')}; largest difference from "
        f"Keras {found.absolute:.1e} (relative {found.relative:.1e}), from the float64 model "
        f"{found.from_float64:.1e} (allowed {found.allowed:.1e}, Keras itself "
        f"{found.keras_from_float64:.1e}"
    )
    reason += ")" if folding is None else f", folding and storing weights {folding:.1e})"
    return Check("parity", PASSED if found.is_close else FAILED, reason, figures)


def _check_determinism(
    path: Path, proto: onnx.ModelProto, samples: Arrays, *, strict: bool
) -> Check:
    found = measure_determinism(path, samples)
    figures = asdict(found) | {"bit_equal": not found.cause}
    status = PASSED if not found.cause or (found.passed and not strict) else FAILED
    reason = f"{_cause(found, path, proto, samples)}; {found.conditions()}"
    return Check("determinism", status, reason, figures)


def _cause(found: Determinism, path: Path, proto: onnx.ModelProto, samples: Arrays) -> str:
    if not found.cause:
        return "outputs are bit-equal"
    if found.cause == "batch statistics":
        node = first_node_that_differs(path, samples)
        return f"the output depends on the other examples in the batch, from node '{node}' on"
    if found.cause == "randomness":
        random = [n.name or n.op_type for n in proto.graph.node if n.op_type.startswith("Random")]
        return f"a repeated run gives other outputs (random nodes: {listed(random) or 'unknown'})"
    worst = max(found.deviations, key=lambda deviation: deviation.relative)
    changed = max(deviation.changed for deviation in found.deviations)
    return (
        f"outputs are not bit-equal: rounding of {worst.relative:.1e} ({worst.condition}), "
        f"{found.allowed:.0e} allowed, {plural(changed, 'prediction')} changed"
    )


def _find_model(
    against: Any,  # noqa: ANN401 - a keras.Model, a path or a name
    metadata: Metadata | None,
) -> tuple[Any, str, Run | None]:
    """Return the Keras model to compare with, or why there is none, and its run."""
    name = metadata.run if metadata else ""
    if against is None and not name:
        return None, "the file names no run; give the Keras model with --against", None
    import keras

    from kerasbn.common.saved_models import load_model
    from kerasbn.inference.metadata import digest

    if isinstance(against, keras.Model):
        return against, "", None
    if isinstance(against, str | Path):
        file = find_model(str(against))
        return load_model(file), "", run_of(file)
    if against is not None:
        wanted = "a Keras model, a .keras or .h5 file, or a run"
        raise ArgumentError("against", type(against), wanted)
    try:
        run = find_run(name)
        model = load_model(run.model_path)
    except InputError:
        return None, f"run '{name}' was not found; give the Keras model with --against", None
    if metadata is None or digest(model) != metadata.digest:
        return None, f"run '{name}' now holds another model; give one with --against", None
    return model, "", run
