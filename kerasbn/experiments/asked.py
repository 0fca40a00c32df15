"""What is asked of a recalibration, as data, checked before anything heavy is loaded."""

from dataclasses import dataclass
from pathlib import Path

from kerasbn.data.datasets import Dataset, load_dataset
from kerasbn.errors import expected
from kerasbn.files import check_new_file
from kerasbn.runs import Run, find_model, run_of


@dataclass(frozen=True)
class Asked:
    """What to recalibrate, on what, and where the result goes.

    Attributes:
        file: the network's file.
        source: the run it is of; None for a file on its own.
        data: the digits, or a folder of pictures or an `.npz` file.
        out: the file to write; None for a new run beside `source`.
        unbiased: whether variances have the factor m/(m-1).
        scale: what pixels, 0 to 255, are multiplied by.
        offset: what is added then.
        force: whether what stands there gives way; otherwise a new run gets the next free number.
    """

    file: Path
    source: Run | None
    data: Dataset | Path
    out: Path | None
    unbiased: bool = True
    scale: float = 1.0
    offset: float = 0.0
    force: bool = False


def asked_for(
    model: str,
    data: Path | None = None,
    out: Path | None = None,
    *,
    dataset: str = "auto",
    data_dir: str | None = None,
    unbiased: bool = True,
    scale: float = 1.0,
    offset: float = 0.0,
    force: bool = False,
) -> Asked:
    """What a command line asks for; digits are loaded, Keras is not.

    Args:
        model: a run's name or folder, or the file of a network.
        data: a folder of pictures or an `.npz` file; None for the digits.
        out: the file to write; None for a new run, or, for a file, `FILE-recalibrated.keras`.
        dataset: which digits; ``auto`` means for a run those it was trained on.
        data_dir: the folder with MNIST's four files.
        unbiased: as in `Asked`, like all that follow.
        scale: as in `Asked`.
        offset: as in `Asked`.
        force: as in `Asked`.

    Raises:
        InputError: if there is no such network or data, or the result may not be written.
    """
    file = find_model(model)
    source = run_of(file)
    if source is None and out is None:
        out = file.with_name(f"{file.stem}-recalibrated.keras")
    if out is not None:
        check_new_file(out, ".keras")
        if out.exists() and not force:
            raise expected(out, "a file that exists", "a new one", "add --force to replace it")
    if data is not None and not data.exists():
        raise expected(f"--data {data}", "no such file or folder", "a folder or an .npz file")
    if source is not None and (dataset, data_dir) == ("auto", None):
        dataset = source.record.data.name
    what = load_dataset(dataset, data_dir, quiet=False) if data is None else data
    return Asked(file, source, what, out, unbiased, scale, offset, force)
