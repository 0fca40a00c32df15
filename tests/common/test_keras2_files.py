"""Files that Keras 2 wrote (tf_keras 2.21), with random statistics.

`NAME.npz` has inputs `x0`, `x1`, ... and the outputs `y0`, `y1`, ... that Keras 2 computed.
"""

import io
import json
import re
import shutil
import zipfile
from collections import Counter
from pathlib import Path
from typing import Any

import h5py
import keras
import numpy as np
import pytest

from kerasbn.common.errors import InputError
from kerasbn.common.saved_models import load_model
from kerasbn.folding.fold import fold_with_plan

FOLDER = Path(__file__).parent / "keras2"
FAST = {"tfop.h5", "multiaxis.keras", "seq_saved", "nested.keras"}
FILES = [
    pytest.param(path, id=path.name, marks=[] if path.name in FAST else pytest.mark.slow)
    for path in sorted(FOLDER.iterdir())
    if path.suffix != ".npz"
]


def difference(model: keras.Model, name: str) -> float:
    """The largest difference of an output from the stored one, relative to its largest value."""
    with np.load(FOLDER / f"{name.removesuffix('_saved')}.npz") as file:
        x, y = ([file[f"{k}{at}"] for at in range(len(file)) if f"{k}{at}" in file] for k in "xy")
    given = x[0] if len(x) == 1 else keras.tree.pack_sequence_as(model.input, x)
    made = keras.tree.flatten(model(given, training=False))
    pairs = zip(made, y, strict=True)
    return max(
        float(np.max(np.abs(np.asarray(a, "float64") - b)) / np.max(np.abs(b))) for a, b in pairs
    )


@pytest.mark.parametrize("path", FILES)
def test_a_file_of_keras_2_predicts_what_it_did(path: Path) -> None:
    assert difference(load_model(path), path.stem) < 1e-5


@pytest.mark.slow
@pytest.mark.parametrize("name", ["multiaxis.keras", "tfop.h5", "convs.h5", "seq.keras"])
def test_a_file_of_keras_2_folds(name: str) -> None:
    folded = fold_with_plan(load_model(FOLDER / name))
    assert not any(isinstance(e, keras.layers.BatchNormalization) for e in folded.model.layers)
    assert difference(folded.model, Path(name).stem) < 1e-5


@pytest.mark.parametrize("name", ["nested.keras", "multi.keras"])
def test_the_layout_up_to_keras_2_13(tmp_path: Path, name: str) -> None:
    """There, layers are in another container, and those with weights are counted twice."""
    with zipfile.ZipFile(FOLDER / name) as archive, zipfile.ZipFile(tmp_path / name, "w") as new:
        weights = io.BytesIO()
        with h5py.File(archive.open("model.weights.h5")) as old, h5py.File(weights, "w") as file:
            copy_as_2_13(old, file)
        new.writestr("config.json", archive.read("config.json"))
        new.writestr("metadata.json", '{"keras_version": "2.13.1"}')
        new.writestr("model.weights.h5", weights.getvalue())
    assert difference(load_model(tmp_path / name), Path(name).stem) < 1e-5


def copy_as_2_13(old: h5py.Group, new: h5py.File, to: str = "") -> None:
    for name, item in old.items():
        if isinstance(item, h5py.Dataset):
            new[f"{to}/{name}"] = item[()]
        elif name != "layers":
            copy_as_2_13(item, new, f"{to}/{name}")
        else:
            count: Counter[str] = Counter()
            for each in sorted(item, key=lambda name: (len(name), name)):  # as they were numbered
                kind, weights = re.sub(r"_\d+$", "", each), list[bool]()
                item[each].visititems(lambda _, v, into=weights: into.append(hasattr(v, "shape")))
                number = f"_{count[kind]}" * bool(count[kind])
                count[kind] += 1 + any(weights)
                copy_as_2_13(item[each], new, f"{to}/_layer_checkpoint_dependencies/{kind}{number}")


def keras_2_file(path: Path, *, layers: list[Any]) -> Path:
    """Write an `.h5` file of a Sequential without weights, as Keras 2 does."""
    model = {"class_name": "Sequential", "config": {"name": "model", "layers": layers}}
    with h5py.File(path, "w") as file:
        file.attrs["keras_version"], file.attrs["model_config"] = "2.15.0", json.dumps(model)
        file.create_group("model_weights")
    return path


INPUT = {"class_name": "InputLayer", "config": {"name": "x", "batch_input_shape": [None, 3]}}


def test_missing_weights_are_found(tmp_path: Path) -> None:
    dense = {"class_name": "Dense", "config": {"name": "d", "units": 2}}
    path = keras_2_file(tmp_path / "model.h5", layers=[INPUT, dense])
    with pytest.raises(
        InputError, match=r"model\.h5: layer 'd' \(Dense of Keras 2\): received 0 w"
    ):
        load_model(path)


def test_weights_of_another_shape_are_found(tmp_path: Path) -> None:
    shutil.copy(FOLDER / "tfop.h5", tmp_path / "model.h5")
    with h5py.File(tmp_path / "model.h5", "r+") as file:
        group = file["model_weights/dense_1/dense_1"]
        del group["kernel:0"]
        group["kernel:0"] = np.zeros((8, 4))
    with pytest.raises(InputError, match=r"'dense_1'.*'kernel' of shape \(8, 4\), expected \(8, 3"):
        load_model(tmp_path / "model.h5")


def test_code_and_custom_classes_are_refused(tmp_path: Path) -> None:
    code = {"name": "f", "function": ["4wEA\n", None, None], "function_type": "lambda"}
    path = keras_2_file(
        tmp_path / "model.h5", layers=[INPUT, {"class_name": "Lambda", "config": code}]
    )
    with pytest.raises(InputError, match="with Python code"):
        load_model(path)
    own = {"class_name": "Swirl", "config": {"name": "s"}}
    path = keras_2_file(tmp_path / "model.h5", layers=[INPUT, own])
    with pytest.raises(InputError, match=r"custom classes \(Swirl\)"):
        load_model(path)


def test_a_folder_without_a_configuration(tmp_path: Path) -> None:
    (tmp_path / "saved_model.pb").touch()
    with pytest.raises(InputError, match="a SavedModel folder without a readable configuration"):
        load_model(tmp_path)


def test_a_damaged_configuration_of_a_saved_model_is_said_in_one_line(tmp_path: Path) -> None:
    folder = shutil.copytree(FOLDER / "seq_saved", tmp_path / "seq_saved")
    metadata = folder / "keras_metadata.pb"
    whole = metadata.read_bytes()
    for damaged in (whole[: len(whole) // 2], b"", b"\xff" * 9):
        metadata.write_bytes(damaged)
        with pytest.raises(InputError, match="without a readable configuration") as caught:
            load_model(folder)
        assert "\n" not in str(caught.value)
