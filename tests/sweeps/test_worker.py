"""A batch of trials that was stopped continues from its checkpoint, with the same result."""

import subprocess
import sys
from pathlib import Path

import pytest

# A process of its own, since the number of threads is set before anything is computed.
STOP_AND_RESUME = """
import json, sys
from dataclasses import replace
from pathlib import Path

from kerasbn.data.datasets import Split, load_dataset
from kerasbn.sweeps.trials import Trial, TrialBatch
from kerasbn.sweeps.worker import train_batch
from kerasbn.training import callbacks
from kerasbn.training.settings import ModelSettings, TrainingSettings

callbacks.EVERY, callbacks.SHARE = 0.0, 1e9  # a checkpoint after every epoch
data = load_dataset("mnist-sample")
data = replace(data, train=Split(data.train.images[:640], data.train.labels[:640]))
training = TrainingSettings(epochs=4)
models = [ModelSettings(bn=bn, hidden=(6,)) for bn in (True, False)]
trials = [Trial(f"bn_{model.bn}", {}, model, training) for model in models]
batch, folder = TrialBatch(0, tuple(trials)), Path(sys.argv[1])

def digests(files):
    return {name: json.loads(content["run.json"])["digest"] for name, content in files.items()}

def stop(share):
    if share > 0.7:
        raise KeyboardInterrupt

whole = digests(train_batch(batch, data))
try:
    train_batch(batch, data, report=stop, checkpoint=folder)
except KeyboardInterrupt:
    pass
reported = []
resumed = digests(train_batch(batch, data, report=reported.append, checkpoint=folder))
print(json.dumps({"same": whole == resumed, "trials": len(whole), "chunks": len(reported)}))
"""


@pytest.mark.slow
def test_a_stopped_batch_is_resumed(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", STOP_AND_RESUME, str(tmp_path / "0")], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-2000:]
    # Of four epochs of one chunk, two were complete.
    assert done.stdout.strip() == '{"same": true, "trials": 2, "chunks": 2}'
