"""Readers of models, and damage to ONNX, HDF5 and Keras files within their formats."""

import io
from collections.abc import Iterator
from contextlib import suppress
from functools import cache, partial
from pathlib import Path
from random import Random
from typing import Any

import h5py
import numpy as np
import onnx
from fuzz.damage import FLOATS, INTEGERS, TEXTS, damage_bytes, damage_json
from fuzz.formats import damage_zip
from fuzz.trials import Reader
from onnx import TensorProto, helper, numpy_helper
from PIL import Image, ImageDraw

from kerasbn.inference.metadata import CHECKSUM, PLACEHOLDER, Metadata, with_checksum

KERAS_2, SAVED = Path(__file__).parents[1] / "common" / "keras2", "seq_saved"
_model = partial(Reader, trials=5_000, seconds=20.0)


def _onnx_model(run: str, size: Any = "batch") -> bytes:
    """Return a classifier of MNIST's images as ONNX, with two BN layers, one of them folded."""
    random = np.random.default_rng(0)

    def constant(name: str, *shape: int) -> TensorProto:
        return numpy_helper.from_array(random.normal(1, 0.3, shape).astype(np.float32), name)

    weights = [
        numpy_helper.from_array(np.array([0, 28, 28, 1]), "shape"),
        numpy_helper.from_array(np.array(1 / 255, np.float32), "scale"),
        constant("kernel", 3, 1, 5, 5), constant("bias", 3), constant("dense", 432, 10),
        *(constant(name, 3) for name in ("gamma", "beta", "mean", "variance")), constant("low", 10),
    ]  # fmt: skip
    nodes = [
        helper.make_node("Cast", ["image"], ["float"], "cast", to=TensorProto.FLOAT),
        helper.make_node("Mul", ["float", "scale"], ["scaled"], "rescale/Mul"),
        helper.make_node("Reshape", ["scaled", "shape"], ["nhwc"], "reshape"),
        helper.make_node("Transpose", ["nhwc"], ["nchw"], "transpose", perm=[0, 3, 1, 2]),
        helper.make_node("Conv", ["nchw", "kernel", "bias"], ["conv"], "conv", strides=[2, 2]),
        helper.make_node(
            "BatchNormalization", ["conv", "gamma", "beta", "mean", "variance"], ["bn"], "bn"
        ),
        helper.make_node("Relu", ["bn"], ["relu"], "relu"),
        helper.make_node("Flatten", ["relu"], ["flat"], "flatten"),
        helper.make_node("MatMul", ["flat", "dense"], ["matmul"], "dense"),
        helper.make_node("Add", ["matmul", "low"], ["logits"], "dense/Add"),
    ]
    graph = helper.make_graph(
        nodes, "mnist",
        [helper.make_tensor_value_info("image", TensorProto.UINT8, [size, 28, 28])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, [size, 10])],
        weights,
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    about = Metadata(
        "0", "d" * 64, [{"layer": "bn", "decision": "fold"}], tuple("abcdefghij"),
        {"name": "mnist", "digest": "e" * 64, "train": 1, "test": 1}, run, ("bn",),
    )  # fmt: skip
    helper.set_model_props(model, about.properties() | {CHECKSUM: PLACEHOLDER})
    return with_checksum(model.SerializeToString())


@cache
def _onnx_models() -> list[bytes]:
    foreign = onnx.load_from_string(_onnx_model("", 1))
    del foreign.metadata_props[:]
    return [_onnx_model(""), _onnx_model("gone"), foreign.SerializeToString()]


def damage_onnx(random: Random, content: bytes) -> bytes:
    """Change fields of the messages in an ONNX file; sometimes leave it without a checksum."""
    model = onnx.load_from_string(content)
    if random.random() < 0.8:
        for i in reversed(range(len(model.metadata_props))):
            if model.metadata_props[i].key == CHECKSUM:
                del model.metadata_props[i]
    for _ in range(random.choice((1, 1, 1, 2, 4))):
        messages = list(_messages(model))
        names = [name for each in model.graph.node for name in (*each.input, *each.output)]
        _damage_message(random, random.choice(messages), [*names, "If", "Loop", "Gather", "LSTM"])
    damaged: bytes = model.SerializeToString()
    return damaged


def _messages(message: Any) -> Iterator[Any]:
    yield message
    for field, value in message.ListFields():
        if field.message_type is not None:
            for each in value if field.is_repeated else [value]:
                yield from _messages(each)


def _damage_message(random: Random, message: Any, names: list[str]) -> None:
    """Change one field of a message, preferably one that is set."""
    is_set = [field for field, _ in message.ListFields()]
    field = random.choice(is_set if is_set and random.random() < 0.8 else message.DESCRIPTOR.fields)
    value = getattr(message, field.name)
    if field.is_repeated:
        at = random.randrange(len(value) or 1)
        match random.randrange(6) if value else 5:
            case 0:
                del value[at]
            case 1:
                value.extend([value[at]] * random.choice((1, 2, 100)))
            case 2:
                value.reverse()
            case 3:
                del value[:]
            case 4 if field.message_type is not None:
                value[at].CopyFrom(random.choice(list(value)))
            case _ if field.message_type is not None:
                value.add()
            case _:
                new = _odd_scalar(random, field, names, value[at] if value else None)
                if value and random.random() < 0.7:
                    value[at] = new
                else:
                    value.append(new)
    elif field.message_type is not None or random.random() < 0.1:
        message.ClearField(field.name)
    else:
        setattr(message, field.name, _odd_scalar(random, field, names, value))


def _odd_scalar(random: Random, field: Any, names: list[str], value: Any) -> Any:
    if field.cpp_type == field.CPPTYPE_STRING and field.type == field.TYPE_BYTES:
        return damage_bytes(random, value or b"")
    if field.cpp_type == field.CPPTYPE_STRING:
        text: str = random.choice((*TEXTS, *names, *names, f"{value}_"))
        return text.encode("utf-8", "replace").decode()
    if field.cpp_type in (field.CPPTYPE_FLOAT, field.CPPTYPE_DOUBLE):
        return random.choice((*FLOATS[:4], 1.0, 3e38, float("nan"), float("inf")))
    if field.cpp_type == field.CPPTYPE_ENUM:
        return random.choice(field.enum_type.values).number
    bits = 32 if field.cpp_type == field.CPPTYPE_INT32 else 64
    near = () if value is None else (value + 1, value - 1, -value, value * 2)
    signed = random.choice((*INTEGERS, *near, *range(24))) % 2**bits
    is_unsigned = field.cpp_type in (field.CPPTYPE_UINT32, field.CPPTYPE_UINT64)
    return signed if is_unsigned or signed < 2 ** (bits - 1) else signed - 2**bits


@cache
def _digit() -> Any:
    image = Image.new("L", (28, 28))
    ImageDraw.Draw(image).line((14, 4, 14, 24), 255, 3)
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def _infer(path: Path) -> None:
    from kerasbn.data.images import read_picture
    from kerasbn.inference.classifier import Classifier

    classifier = Classifier(path, batch_size=4)
    assert repr(classifier)
    predictions = classifier.classify(np.stack([classifier.prepare(read_picture(_digit()))]))
    assert str(predictions[0])


def _verify(path: Path) -> None:
    from kerasbn.inference.verify import verify

    result = verify(path)
    assert repr(result)
    assert result.as_dict()


def _fold_onnx(path: Path) -> None:
    from kerasbn.folding.onnx.files import load_model
    from kerasbn.folding.onnx.fold import fold_model

    plan = fold_model(load_model(path), check=True, clip=True).plan
    assert plan.summary()


@cache
def _keras_models(suffix: str) -> list[bytes]:
    from kerasbn.common.keras_internals import quiet_tensorflow

    quiet_tensorflow()
    import keras
    from keras import layers as L  # noqa: N812 - as Keras's own documentation has it

    image = x = keras.Input((6, 6, 2))
    x = L.ReLU(name="relu")(L.BatchNormalization(name="bn")(L.Conv2D(3, 3, name="conv")(x)))
    y = L.Add(name="add")([x, L.DepthwiseConv2D(1, name="deep")(x)])
    y = L.Dense(4, activation="softmax", name="dense")(L.Flatten(name="flat")(y))
    inner = keras.Sequential([keras.Input((5,)), L.Dense(3), L.BatchNormalization()])
    series = keras.Input((3, 5))
    timed = L.LSTM(2, name="lstm")(L.TimeDistributed(inner, name="each")(series))
    made = []
    for model in (keras.Model(image, y), keras.Model(series, timed), inner):
        path = Path(f"made{suffix}")
        model.save(path)
        made.append(path.read_bytes())
        path.unlink()
    return made


def _load_keras(path: Path) -> None:
    from kerasbn.common.saved_models import load_model
    from kerasbn.folding.fold import fold_plan

    assert fold_plan(load_model(path)).summary()


def damage_h5(random: Random, content: bytes) -> bytes:
    """Change attributes, datasets and links of an HDF5 file."""
    buffer = io.BytesIO(content)
    with h5py.File(buffer, "r+") as file:
        names: list[str] = []
        file.visit(names.append)
        config = str(file.attrs.get("model_config", "{}")).encode()
        for _ in range(random.choice((1, 1, 2, 4))):
            # Links may lead to each other by now, or into another file.
            with suppress(RuntimeError, ValueError, KeyError, OSError):
                _damage_item(random, file, names, config)
    return buffer.getvalue()


def _damage_item(random: Random, file: Any, names: list[str], config: bytes) -> None:
    """Change an attribute, a dataset or a link somewhere in a file."""
    name = random.choice(["/", *names])
    item = file[name]
    key = random.choice(list(item.attrs) or ["keras_version"])
    match random.randrange(9):
        case 0 | 1 | 2 if "model_config" in file.attrs:
            file.attrs["model_config"] = damage_json(random, config).replace(b"\0", b"")
        case 3 if item.attrs:
            del item.attrs[key]
        case 4:
            odd = ("", "2.0", 7, np.zeros(3), [b"a", b"\xff"], h5py.Empty("f"), np.zeros(0))
            item.attrs[key] = random.choice(odd)
        case 5 if name != "/":
            del file[name]
        case 6 if isinstance(item, h5py.Dataset):
            _replace_dataset(random, file, name, item[()])
        case 7 if name != "/":
            del file[name]
            file[name] = random.choice(
                (
                    h5py.SoftLink(random.choice(["/", *names])), h5py.SoftLink("/gone"),
                    h5py.ExternalLink("/etc/passwd", "/"), np.float32(3), "text",
                )
            )  # fmt: skip
        case _ if name != "/" and isinstance(item, h5py.Group):
            file.move(name, f"{name}_moved")


def _replace_dataset(random: Random, file: Any, name: str, value: Any) -> None:
    """Put a dataset of another shape or type in the place of one."""
    del file[name]
    large = (random.choice((2**20, 2**33, 2**50)), *np.shape(value)[1:])
    match random.randrange(6):
        case 0:
            file[name] = np.full(np.shape(value), np.nan)
        case 1:
            file[name] = np.ravel(value)
        case 2:
            file.create_dataset(name, large, "f4", chunks=True)  # only its header is stored
        case 3:
            file[name] = np.asarray(value).astype(random.choice(("i1", "f8", "c16", "S3")))
        case 4:
            file.create_dataset(name, np.shape(value), h5py.string_dtype())
        case _:
            file[name] = np.asarray(value)[..., None]


def damage_keras(random: Random, content: bytes) -> bytes:
    """Damage a .keras file."""
    return damage_zip({".json": damage_json, ".h5": damage_h5}, random, content)


def _keras_2_models(suffix: str) -> list[bytes]:
    from kerasbn.common.keras_internals import quiet_tensorflow

    quiet_tensorflow()
    return [path.read_bytes() for path in sorted(KERAS_2.glob(f"*{suffix}"))]


def _saved(member: str) -> Reader:
    """A SavedModel folder of Keras 2, of which one file is damaged."""

    def files() -> dict[str, bytes]:
        from kerasbn.common.keras_internals import quiet_tensorflow

        quiet_tensorflow()
        names = [path for path in (KERAS_2 / SAVED).rglob("*") if path.is_file()]
        return {str(path.relative_to(KERAS_2)): path.read_bytes() for path in names}

    target = f"{SAVED}/{member}"
    return _model(target, lambda: [files()[target]], damage_bytes, _load_saved, files)


def _load_saved(path: Path) -> None:
    _load_keras(next(each for each in path.parents if each.name == SAVED))


MODELS: dict[str, Reader] = {
    "infer": _model("m.onnx", _onnx_models, damage_onnx, _infer),
    # A batch of fixed size may have half a gigabyte; it and the activations are held several times.
    "verify": _model("m.onnx", _onnx_models, damage_onnx, _verify, memory=6 * 2**30),
    "fold-onnx": _model("m.onnx", _onnx_models, damage_onnx, _fold_onnx),
    "keras": _model("m.keras", lambda: _keras_models(".keras"), damage_keras, _load_keras),
    "h5": _model("m.h5", lambda: _keras_models(".h5"), damage_h5, _load_keras),
    "keras-2": _model("m.keras", lambda: _keras_2_models(".keras"), damage_keras, _load_keras),
    "h5-2": _model("m.h5", lambda: _keras_2_models(".h5"), damage_h5, _load_keras),
    "saved-model": _saved("saved_model.pb"),
    "saved-configuration": _saved("keras_metadata.pb"),
    "saved-weights": _saved("variables/variables.data-00000-of-00001"),
    "saved-index": _saved("variables/variables.index"),
}
