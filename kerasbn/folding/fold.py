"""Fold a model with the front end for its framework, which is imported only then."""

from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, TypeAlias

from kerasbn.common.keras_internals import require_tensorflow
from kerasbn.folding.carry_out import Folded
from kerasbn.folding.plan import Plan

if TYPE_CHECKING:
    import keras
    import onnx

    Model: TypeAlias = keras.Model | onnx.ModelProto | Path | str


def fold(
    model: "Model",
    *,
    check: bool = True,
    inputs: Any = None,  # noqa: ANN401 - arrays in the model's own structure
    clip: bool = True,
) -> Any:  # noqa: ANN401 - a model of the same framework
    """Fold the BN layers of a model into their neighboring layers.

    At inference, BatchNormalization, Normalization and Rescaling layers are affine maps, and so is
    arithmetic with a constant. A neighboring linear layer can take such a map into its weights
    (Jacob et al. 2018, section 3.2, for a convolution followed by BN; `kerasbn.folding.linear` has
    the equations). The given model is not changed.

    Args:
        model: a functional or sequential Keras model, a .keras or .h5 file, or a run; or an
            `onnx.ModelProto` or a .onnx file, which need no Keras.
        check: whether to compare the result with the model in float64 (relative difference at most
            1e-9) and in the model's own dtype (at most a small multiple of its rounding error). A
            fold that fails is undone.
        inputs: further inputs to compare on, as the model takes them.
        clip: whether a ReLU may become a clip where a BN layer before it cannot be folded
            otherwise (see `kerasbn.folding.clips`).

    Returns:
        The folded model: of plain Keras layers with their old names and not compiled, or an
        `onnx.ModelProto` with the same inputs, outputs and opset.

    Raises:
        InputError: if the model cannot be read or rebuilt, or `inputs` don't fit.
        CheckFailedError: if even a copy without any fold predicts something else.

    Examples:
        >>> import keras, kerasbn
        >>> x = keras.Input((4,))
        >>> y = keras.layers.BatchNormalization()(keras.layers.Dense(3)(x))
        >>> folded = kerasbn.fold(keras.Model(x, y))
        >>> [type(layer).__name__ for layer in folded.layers]
        ['InputLayer', 'Dense']
    """
    return fold_with_plan(model, check=check, inputs=inputs, clip=clip).model


def fold_plan(model: "Model", *, clip: bool = True) -> Plan:
    """Plan for each BN layer and scaling of a model whether and where it is folded.

    The model is not changed. `kerasbn.fold` carries out the same plan and checks the result.

    Args:
        model: a Keras or ONNX model, a file or a run, as `kerasbn.fold` takes it.
        clip: whether a ReLU may become a clip where a BN layer cannot be folded otherwise.

    Returns:
        A decision for each layer, a `Fold` or a `Kept`.

    Raises:
        InputError: if the model cannot be read.

    Examples:
        >>> import keras, kerasbn
        >>> x = keras.Input((4,))
        >>> y = keras.layers.Dense(3, name="dense")(x)
        >>> model = keras.Model(x, keras.layers.BatchNormalization(name="bn")(y))
        >>> for decision in kerasbn.fold_plan(model):
        ...     print(decision)
        bn: folded backward into dense
    """
    plan: Plan = _front_end(model).fold_plan(model, clip=clip)
    return plan


def fold_with_plan(
    model: "Model",
    *,
    check: bool = True,
    inputs: Any = None,  # noqa: ANN401 - arrays in the model's own structure
    clip: bool = True,
) -> Folded[Any]:
    """Fold a model like `fold`, and return the plan with it."""
    folded: Folded[Any] = _front_end(model).fold_with_plan(
        model, check=check, inputs=inputs, clip=clip
    )
    return folded


def _front_end(model: "Model") -> ModuleType:
    """Return the module that folds models of this kind."""
    is_path = isinstance(model, str | Path)
    if Path(model).suffix == ".onnx" if is_path else type(model).__module__.startswith("onnx"):
        return import_module("kerasbn.folding.onnx.fold")
    require_tensorflow()
    return import_module("kerasbn.folding.keras.fold")
