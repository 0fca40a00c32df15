"""Read and write ONNX files, those whose weights are in a file of their own included."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from math import prod
from pathlib import Path

import onnx
import onnx_ir as ir

from kerasbn.common.errors import expected, quoted
from kerasbn.common.files import atomic_write, check_new_file
from kerasbn.folding.onnx.constants import MOST_AXES, constant, is_constant

# The limit of protocol buffers is 2 GiB; the graph itself needs some of it.
LARGEST_FILE = 2**31 - 2**24
MOST_ELEMENTS = 2**25  # of an input with all its fixed axes: it is computed in float64


def load_model(model: onnx.ModelProto | Path | str) -> ir.Model:
    """Return the model in a file or in memory.

    Raises:
        InputError: if there is no such file, or it is no ONNX model.
    """
    if isinstance(model, onnx.ModelProto):
        return _with_free_axes(ir.from_proto(model))
    if not isinstance(model, Path | str):
        wanted = "an ONNX model or a .onnx file"
        raise expected("model", f"a {type(model).__name__}", wanted)
    path = Path(model)
    if not path.is_file():
        raise expected(path, "no such file", "an ONNX model")
    try:
        onnx.checker.check_model(str(path))
        loaded = ir.load(path)
        for tensor in _tensors(loaded):
            tensor.numpy()  # raises if there are too few or too many bytes
        for node in loaded.graph:
            for value in filter(is_constant, node.outputs):
                constant(value)  # raises if it cannot be cast or rearranged like that
        ir.to_proto(loaded)  # raises if a text is none
    except Exception as error:  # a damaged file makes onnx raise many types
        raise expected(
            path,
            f"a file that onnx cannot read ({quoted(error)})",
            "an intact ONNX model of a version that it supports",
        ) from error
    for value in _with_free_axes(loaded).graph.inputs:
        axes = [axis for axis in value.shape or () if isinstance(axis, int)]
        is_array = len(value.shape or ()) <= MOST_AXES and min(axes, default=0) >= 0
        if not is_array or prod(axes) > MOST_ELEMENTS:
            raise expected(
                path, f"an input '{value.name}' of shape {value.shape}",
                f"at most {MOST_ELEMENTS:,} numbers in {MOST_AXES} axes",
            )  # fmt: skip
    return loaded


def _with_free_axes(model: ir.Model) -> ir.Model:
    """Make axes free whose length some exporters write as -1."""
    for value in (*model.graph.inputs, *model.graph.outputs):
        lengths = list(value.shape or ())
        if -1 in lengths:
            value.shape = ir.Shape([None if n == -1 else n for n in lengths])
    return model


def save_model(model: ir.Model, path: Path, original: ir.Model) -> None:
    """Write a model that was made from another, complete or not at all.

    The weights go to a file beside it, ``PATH.data``, if the model is too large for one file, or
    if the original has some in another file.
    """
    check_new_file(path, ".onnx")
    is_split = any(isinstance(tensor, ir.ExternalTensor) for tensor in _tensors(original))
    with written(model, path, split=is_split):
        pass


@contextmanager
def written(
    model: ir.Model,
    path: Path,
    *,
    split: bool = False,
    seal: Callable[[bytes, Path | None], bytes] = lambda content, _: content,
) -> Iterator[Path]:
    """Write a model to a temporary file and yield its path; it gets its name when the block ends.

    Args:
        model: The model.
        path: Where to write it.
        split: Whether its weights go to a file beside it, ``PATH.data``, though it is not too large
            for one file.
        seal: Changes the content of the file; it gets the file of the weights too, if there is one.
    """
    if not split and sum(tensor.nbytes for tensor in _tensors(model)) <= LARGEST_FILE:
        with atomic_write(path) as temporary:
            content = ir.to_proto(model).SerializeToString(deterministic=True)
            temporary.write_bytes(seal(content, None))
            yield temporary
        return
    path = path.resolve()
    data = path.with_name(f"{path.name}.data")
    with atomic_write(path) as temporary, atomic_write(data) as temporary_data:  # renamed first
        ir.save(model, temporary, external_data=temporary_data.name)
        yield temporary
        proto = onnx.load(temporary, load_external_data=False)
        for tensor in proto.graph.initializer:
            for entry in tensor.external_data:
                if entry.key == "location":
                    entry.value = data.name
        content = proto.SerializeToString(deterministic=True)
        temporary.write_bytes(seal(content, temporary_data))


def _tensors(model: ir.Model) -> list[ir.TensorProtocol]:
    return [v.const_value for v in model.graph.initializers.values() if v.const_value is not None]
