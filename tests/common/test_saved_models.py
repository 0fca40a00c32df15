import json
import os
import random
import subprocess
import sys
import zipfile
from collections.abc import Mapping
from pathlib import Path

import keras
import numpy as np
import pytest

from kerasbn.common import files
from kerasbn.common.errors import InputError
from kerasbn.common.saved_models import load_model


class Doubling(keras.layers.Layer):
    def call(self, x: keras.KerasTensor) -> keras.KerasTensor:
        return x * 2


class OwnModel(keras.Model):
    def __init__(self) -> None:
        super().__init__()
        self.dense = keras.layers.Dense(3)

    def call(self, x: keras.KerasTensor) -> keras.KerasTensor:
        return self.dense(x)

    def get_config(self) -> dict[str, object]:
        return {}


@keras.saving.register_keras_serializable("own")  # type: ignore[untyped-decorator] # Keras's
def registered(x: keras.KerasTensor) -> keras.KerasTensor:
    return keras.ops.relu(x)


LOAD_EACH = """
import sys
from pathlib import Path
from kerasbn.common.errors import InputError
from kerasbn.common.saved_models import load_model
for name in sys.argv[1:]:
    try:
        load_model(Path(name))
    except InputError as error:
        print(error)
"""


def small() -> keras.Model:
    x = keras.Input((8,))
    return keras.Model(x, keras.layers.BatchNormalization()(keras.layers.Dense(4)(x)))


def chained(layer: keras.layers.Layer) -> keras.Model:
    x = keras.Input((8,))
    return keras.Model(x, layer(x))


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
def test_a_saved_network_answers_as_before(tmp_path: Path, suffix: str) -> None:
    model = small()
    model.save(tmp_path / f"model{suffix}")
    loaded = load_model(tmp_path / f"model{suffix}")
    x = np.random.default_rng(0).normal(size=(5, 8))
    np.testing.assert_array_equal(loaded(x), model(x))


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
def test_damage_is_one_line_or_harmless(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"model{suffix}"
    small().save(path)
    whole = path.read_bytes()
    dice = random.Random(0)  # noqa: S311 - a choice of bytes, no secret
    for _ in range(20):
        flipped = bytearray(whole)
        flipped[dice.randrange(len(whole))] ^= 1 << dice.randrange(8)
        path.write_bytes(flipped)
        try:
            load_model(path)
        except InputError as error:
            assert "\n" not in str(error)  # noqa: PT017 - either outcome is right
    for _ in range(10):
        path.write_bytes(whole[: dice.randrange(10, len(whole))])
        with pytest.raises(InputError, match="truncated or damaged"):
            load_model(path)


def test_a_flipped_weight_of_a_keras_file_is_found(tmp_path: Path) -> None:
    path = tmp_path / "model.keras"
    small().save(path)
    whole = bytearray(path.read_bytes())
    kernel = load_model(path).layers[1].kernel.numpy().tobytes()
    whole[whole.index(kernel[:16]) + 5] ^= 1
    path.write_bytes(whole)
    with pytest.raises(InputError, match="truncated or damaged"):
        load_model(path)


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
def test_unknown_classes_are_named(tmp_path: Path, suffix: str) -> None:
    chained(Doubling()).save(tmp_path / f"model{suffix}")
    with pytest.raises(InputError, match=r"custom classes \(Doubling\)"):
        load_model(tmp_path / f"model{suffix}")


def test_an_unknown_model_class_is_named(tmp_path: Path) -> None:
    model = OwnModel()
    model(np.ones((1, 8)))
    model.save(tmp_path / "model.keras")
    with pytest.raises(InputError, match=r"custom classes \(OwnModel\)"):
        load_model(tmp_path / "model.keras")


def test_what_is_wrong_in_a_file_of_keras_2_is_quoted(tmp_path: Path) -> None:
    with zipfile.ZipFile(old := tmp_path / "old.keras", "w") as file:
        file.writestr("config.json", "{}")
        file.writestr("metadata.json", '{"keras_version": "2.15.0"}')
    with pytest.raises(InputError, match=r"Keras 2 that Keras 3 cannot build \(KeyError: "):
        load_model(old)


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
def test_code_in_a_file_is_not_run(tmp_path: Path, suffix: str) -> None:
    ran = "KERASBN_TEST_RAN"
    model = chained(keras.layers.Lambda(lambda x: (os.environ.update(KERASBN_TEST_RAN="1"), x)[1]))
    model.save(tmp_path / f"model{suffix}")
    assert os.environ.pop(ran) == "1"  # building the layer ran it: loading would too
    with pytest.raises(InputError, match="with Python code"):
        load_model(tmp_path / f"model{suffix}")
    assert ran not in os.environ


@pytest.mark.filterwarnings("ignore:.*lambda")
def test_a_lambda_as_an_activation_is_refused_too(tmp_path: Path) -> None:
    chained(keras.layers.Dense(3, activation=lambda x: x)).save(tmp_path / "model.keras")
    with pytest.raises(InputError, match=r"build this model \(Could not interpret activ"):
        load_model(tmp_path / "model.keras")


def test_other_files_are_told_apart(tmp_path: Path) -> None:
    small().save_weights(tmp_path / "a.weights.h5")
    small().save(tmp_path / "model.h5")
    small().save(tmp_path / "model.keras")
    (tmp_path / "hdf5.keras").write_bytes((tmp_path / "model.h5").read_bytes())
    (tmp_path / "zip.h5").write_bytes((tmp_path / "model.keras").read_bytes())
    for name in ("text.keras", "text.h5", "notes.txt"):
        (tmp_path / name).write_text("hello")
    for name in ("empty.keras", "empty.h5"):
        (tmp_path / name).touch()
    for name, reason in {
        "a.weights.h5": "weights without a model",
        "hdf5.keras": r"in the format of \.h5 files.*make its name end in \.h5",
        "zip.h5": r"in the format of \.keras files.*make its name end in \.keras",
        "text.keras": r"does not begin as a \.keras file",
        "text.h5": r"does not begin as a \.h5 file",
        "empty.keras": "an empty file",
        "empty.h5": "an empty file",
        "notes.txt": "a file ending in '.txt'",
        "none.keras": "no such file",
        ".": "a folder",
    }.items():
        with pytest.raises(InputError, match=reason) as caught:
            load_model(tmp_path / name)
        assert "\n" not in str(caught.value)


def rewritten(path: Path, changes: Mapping[str, bytes | None]) -> None:
    """Save a model whose archive has other members; None removes one."""
    small().save(path)
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in {**members, **changes}.items():
            if content is not None:
                archive.writestr(name, content)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"config.json": None}, "an archive without config.json"),
        ({"model.weights.h5": None}, "build this model .Expected a model.weights.h5"),
        ({"model.weights.h5": b"\x89HDF\r\n\x1a\n"}, r"truncated or damaged \(Unable to"),
        ({"config.json": b'{"class_name": '}, r"truncated or damaged \(Expecting value"),
        ({"config.json": b"[" * 100_000}, r"truncated or damaged \(maximum recursion depth"),
        ({"config.json": b"[]"}, "truncated or damaged"),
    ],
)
def test_the_damaged_part_of_an_archive_is_named(
    tmp_path: Path, changes: dict[str, bytes | None], reason: str
) -> None:
    rewritten(tmp_path / "model.keras", changes)
    with pytest.raises(InputError, match=reason) as caught:
        load_model(tmp_path / "model.keras")
    assert "\n" not in str(caught.value)


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_an_archive_with_two_members_of_one_name_is_refused(tmp_path: Path) -> None:
    rewritten(tmp_path / "model.keras", {})
    with zipfile.ZipFile(tmp_path / "model.keras", "a") as archive:
        archive.writestr("metadata.json", "{}")
    with pytest.raises(InputError, match="two members of one name"):
        load_model(tmp_path / "model.keras")


def test_texts_without_an_end_are_refused(tmp_path: Path) -> None:
    plain, stored, packed = (tmp_path / name for name in ("a.h5", "stored.keras", "packed.keras"))
    small().save(plain)
    small().save(stored)
    with zipfile.ZipFile(stored) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    members["model.weights.h5"] = without_end(members["model.weights.h5"])
    for path, how in ((stored, zipfile.ZIP_STORED), (packed, zipfile.ZIP_DEFLATED)):
        with zipfile.ZipFile(path, "w", how) as archive:
            for name, content in members.items():
                archive.writestr(name, content)
    plain.write_bytes(without_end(plain.read_bytes()))
    # In a process, since HDF5 itself would read on forever.
    done = subprocess.run(
        [sys.executable, "-c", LOAD_EACH, plain, stored, packed],
        capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    assert done.stdout.count("a text in it has no end") == 3


def without_end(content: bytes) -> bytes:
    """Return an HDF5 file with an object of size 0 in its global heap."""
    heap = content.index(b"GCOL")
    return content[: heap + 16] + bytes(16) + content[heap + 32 :]


def edited(path: Path, old: str, new: str, version: str = keras.__version__) -> None:
    """Save a model with a change in its configuration, as by some version of Keras."""
    small().save(path)
    with zipfile.ZipFile(path) as archive:
        config = archive.read("config.json").decode()
    assert old in config
    about = json.dumps({"keras_version": version}).encode()
    changes = {"config.json": config.replace(old, new).encode(), "metadata.json": about}
    rewritten(path, changes)


@pytest.mark.parametrize(
    ("old", "new", "version", "reason"),
    [
        ('"units": 4', '"units": 5', keras.__version__, "cannot build this model .Input 0"),
        ('"units": 4', '"units": -1', keras.__version__, "build this model .Received an invalid"),
        ('"use_bias": true', '"warp": 4', "4.7.0", r"Keras 4\.7 that Keras 3\.\d+ cannot build"),
        ('"Dense"', '"Denser"', "4.7.0", r"Keras 4\.7 that Keras 3\.\d+ cannot build"),
        ('"Dense"', '"Denser"', keras.__version__, "this model .Could not deserialize 'keras.lay"),
        ('"linear"', '"lambda"', keras.__version__, "this model .Could not interpret activation"),
    ],
)  # fmt: skip
def test_why_keras_cannot_build_an_intact_model_is_quoted(
    tmp_path: Path, old: str, new: str, version: str, reason: str
) -> None:
    edited(tmp_path / "model.keras", old, new, version)
    with pytest.raises(InputError, match=reason) as caught:
        load_model(tmp_path / "model.keras")
    assert "damaged" not in str(caught.value)
    assert len(str(caught.value)) < 500
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
def test_a_registered_function_is_named(
    tmp_path: Path, suffix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    chained(keras.layers.Dense(3, activation=registered)).save(tmp_path / f"model{suffix}")
    monkeypatch.setattr(keras.src.saving.object_registration, "GLOBAL_CUSTOM_OBJECTS", {})
    with pytest.raises(InputError, match=r"custom classes \(own>registered\)"):
        load_model(tmp_path / f"model{suffix}")


def test_a_model_file_that_would_fill_the_memory_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "MAX_UNPACKED", 10**6)
    path = tmp_path / "bomb.keras"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("config.json", "{}")
        archive.writestr("model.weights.h5", bytes(10**8))
    with pytest.raises(InputError, match=r"received an archive that unpacks to 0\.1 GiB, expected"):
        load_model(path)
