"""A run is trained again and compared to the bit; what differs is named."""

from dataclasses import replace

import pytest
from sample_runs import job, train_runs

from kerasbn.common.errors import CheckFailedError, InputError
from kerasbn.common.records import write_json
from kerasbn.data.datasets import Dataset
from kerasbn.experiments.repeat import repeat
from kerasbn.runs import RECORD, Run, digest_of
from kerasbn.training.settings import ModelSettings, TrainingSettings


@pytest.fixture(scope="module")
def trained(few_digits: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Run:
    settings = TrainingSettings(epochs=1)
    root = tmp_path_factory.mktemp("repeat")
    jobs = [job(ModelSettings(hidden=(5,)))]
    (run,) = train_runs(jobs, few_digits, settings, root=root, figures=False)
    return run


@pytest.mark.slow
def test_the_same_settings_give_the_same_bits(trained: Run, few_digits: Dataset) -> None:
    assert trained.record.digest == digest_of(trained)
    found = repeat(str(trained.path), few_digits)
    assert found.is_same
    assert found.differences == ()
    found.check()


@pytest.mark.slow
@pytest.mark.usefixtures("quick")
def test_what_differs_is_named(trained: Run, few_digits: Dataset) -> None:
    old = {**trained.record.versions, "numpy": "1.0"}
    write_json(trained.path / RECORD, replace(trained.record, versions=old, ensemble=8))
    other = replace(few_digits, test=few_digits.train)
    found = repeat(str(trained.path), other)
    write_json(trained.path / RECORD, trained.record)
    assert not found.is_same
    names = [each.split(":")[0] for each in found.differences]
    assert names == ["data", "models trained as one", "numpy"]
    with pytest.raises(
        CheckFailedError, match=r"expected the same to the bit \(data: .*numpy: 1.0, now"
    ):
        found.check()


@pytest.mark.slow
def test_an_interrupted_run_is_refused(trained: Run, few_digits: Dataset) -> None:
    write_json(trained.path / RECORD, replace(trained.record, status="interrupted"))
    with pytest.raises(InputError, match="received an interrupted run"):
        repeat(str(trained.path), few_digits)
    write_json(trained.path / RECORD, trained.record)
