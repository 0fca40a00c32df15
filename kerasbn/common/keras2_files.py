"""Models in the files of Keras 2: `.h5`, `.keras`, and folders in the SavedModel format."""
# ruff: noqa: ANN401 - Keras, HDF5 and TensorFlow ship no types

import re
import zipfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import h5py
import keras
import numpy as np

from kerasbn.common import keras_internals
from kerasbn.common.keras2 import Part, build, decode

# The blocks of a recurrent kernel's columns that `recurrent_activation` is applied to.
_GATES = {"LSTMCell": (0, 1, 3), "GRUCell": (0, 1), "ConvLSTMCell": (0, 1, 3)}


def load_keras_2(path: Path, config: Any) -> Any:
    """Return the model in a file or folder of Keras 2, built from its configuration.

    Raises:
        InputError: if Keras 3 has nothing that computes the same.
    """
    model = build(decode(config))
    if path.is_dir():
        load_checkpoint(model, path / "variables" / "variables")
    elif path.suffix == ".keras":
        with zipfile.ZipFile(path) as archive, archive.open("model.weights.h5") as member:
            load_tree(model, h5py.File(member))
    else:
        with h5py.File(path) as file:
            load_hdf5(model, file)
    settle(model.layer)
    return model.layer


def load_hdf5(model: Part, file: Any) -> None:
    """Load the weights of an `.h5` file, in which every layer has a list of arrays."""
    group = file.get("model_weights", file)
    for part in model.inner:
        _assign_in_order(part, keras_internals.weights_in_hdf5(group, part.name))


def load_checkpoint(model: Part, variables: Path) -> None:
    """Load the weights of a SavedModel folder: its checkpoint lists the variables of each layer."""
    import tensorflow as tf
    from tensorflow.core.protobuf.trackable_object_graph_pb2 import TrackableObjectGraph

    reader = tf.train.load_checkpoint(str(variables))
    TrackableObject = TrackableObjectGraph.TrackableObject  # noqa: N806 - a class
    graph = TrackableObjectGraph.FromString(reader.get_tensor("_CHECKPOINTABLE_OBJECT_GRAPH"))

    def child(node: Any, name: str) -> Any:
        found = [each.node_id for each in node.children if each.local_name == name]
        return graph.nodes[found[0]] if found else TrackableObject()

    def listed(part: Part, node: Any) -> list[Any]:
        fixed = child(child(node, "keras_api"), "non_trainable_variables")
        edges = [*child(node, "trainable_variables").children, *fixed.children]
        if edges:
            return [graph.nodes[edge.node_id] for edge in edges]
        return [child(node, variable.name) for variable in part.variables()]  # preprocessing

    for index, part in enumerate(model.inner):
        nodes = listed(part, child(graph.nodes[0], f"layer-{index}"))
        keys = [each.checkpoint_key for node in nodes for each in node.attributes]
        _assign_in_order(part, [reader.get_tensor(key) for key in keys])


def load_tree(model: Part, group: Any, path: str = "") -> None:
    """Load the weights of a `.keras` file, in which groups have the names of attributes."""
    container = "_layer_checkpoint_dependencies"  # up to Keras 2.13
    doubled = path + container in group
    count: Counter[str] = Counter()
    for part in model.inner:
        if model.kind == "TimeDistributed":
            place = f"{path}layer/"
        else:
            name = _snake_case(part.kind)
            number = count[name]
            # Up to Keras 2.13 a layer with weights was counted twice.
            count[name] += 2 if doubled and part.variables() else 1
            place = (
                f"{path}{container if doubled else 'layers'}/{name}{f'_{number}' * bool(number)}/"
            )
        if part.inner:
            load_tree(part, group, place)
        elif part.layer is not None:
            _load_attributes(part, group, place)


def _load_attributes(part: Part, group: Any, place: str) -> None:
    """Load the weights of a layer, and of those that it holds as attributes."""
    found: list[str] = []
    if place in group:
        group[place].visit(found.append)
    owners = sorted(
        {name.rpartition("vars/")[0] for name in found if re.search(r"vars/\d+$", name)}
    )
    loaded = 0
    for owner in owners:
        target = part.layer
        for step in filter(None, owner.split("/")):
            target = _attribute(part, target, step)
        names = [name for name in found if re.fullmatch(rf"{re.escape(owner)}vars/\d+", name)]
        names.sort(key=lambda name: int(name.rpartition("/")[2]))
        arrays = [keras_internals.dataset_in_hdf5(group, place + name)[()] for name in names]
        variables = keras_internals.own_variables(target)[: len(arrays)]  # without seeds
        _assign(part, variables, arrays)
        loaded += len(variables)
    if loaded != len(part.variables()):
        raise part.error(f"{loaded} weights", f"{len(part.variables())}")


def _attribute(part: Part, owner: Any, step: str) -> Any:
    """Return what Keras 3 has under the name of an attribute, or of an element of a list."""
    if isinstance(owner, list | tuple):
        count: Counter[str] = Counter()
        for each in owner:
            name = _snake_case(type(each).__name__)
            if step == f"{name}{f'_{count[name]}' * bool(count[name])}":
                return each
            count[name] += 1
    elif hasattr(owner, step):
        return getattr(owner, step)
    raise part.error(f"weights of '{step}'", "only those that the layer has in Keras 3")


def _snake_case(name: str) -> str:
    name = re.sub(r"(.)([A-Z][a-z]+)", r"\1_\2", re.sub(r"\W+", "", name))
    return re.sub(r"([a-z])([A-Z])", r"\1_\2", name).lower()


def _assign_in_order(part: Part, arrays: Sequence[Any]) -> None:
    """Assign all weights of a layer: the trainable ones first."""
    # The state of a random generator, which layers of some versions have among their weights.
    arrays = [a for a in arrays if not (a.shape == (3,) and np.issubdtype(a.dtype, np.integer))]
    _assign(part, sorted(part.variables(), key=lambda each: not each.trainable), arrays)


def _assign(part: Part, variables: Sequence[Any], arrays: Sequence[Any]) -> None:
    if len(arrays) != len(variables):
        raise part.error(f"{len(arrays)} weights", f"{len(variables)}")
    for variable, array in zip(variables, arrays, strict=True):
        is_joint = part.kind.endswith("BatchNormalization") and array.ndim > 1
        value = array.reshape(-1) if is_joint else array  # of BN over several axes
        if value.shape != tuple(variable.shape):
            found = f"a weight '{variable.name}' of shape {value.shape}"
            raise part.error(found, f"{tuple(variable.shape)}")
        variable.assign(value)


def settle(model: Any) -> None:
    """Complete a model that has its weights.

    The `hard_sigmoid` of Keras 2 is 0.2x + 0.5, that of Keras 3 x/6 + 0.5. The gates of recurrent
    layers compute the former from the latter, on 1.2x, which is linear in their weights.
    """
    for layer in set(keras_internals.all_layers(model)):
        if isinstance(layer, keras.layers.Normalization) and layer.weights:
            layer.finalize_state()
        gates = _GATES.get(type(layer).__name__)
        if gates and layer.recurrent_activation is keras.activations.hard_sigmoid:
            units = getattr(layer, "units", None) or layer.filters
            for variable in layer.weights:
                value = np.array(variable)
                for gate in gates:
                    value[..., gate * units : (gate + 1) * units] *= np.asarray(1.2, value.dtype)
                variable.assign(value)
