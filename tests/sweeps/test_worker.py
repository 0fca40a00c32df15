"""A batch of trials continues from its checkpoint, or starts again if that is damaged."""

import json
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
from kerasbn.sweeps.ray_backend import SharedFolder, _train
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

try:
    train_batch(batch, data, report=stop, checkpoint=folder)
except KeyboardInterrupt:
    pass
reported = []
resumed = digests(train_batch(batch, data, report=reported.append, checkpoint=folder))
(state,) = folder.glob("checkpoint/*.npz")
content = bytearray(state.read_bytes())
content[len(content) // 2] ^= 255
state.write_bytes(content)
# As on a node of a cluster that reaches the folder of the study.
files, lines = _train(batch, data, "auto", {}, SharedFolder.at(folder.parent))
whole = digests(files)
print(json.dumps({"same": resumed == whole, "trials": len(whole), "shares": reported}))
print("; ".join(lines))
"""


@pytest.mark.slow
def test_a_stopped_batch_is_resumed(tmp_path: Path) -> None:
    (tmp_path / "study.json").write_text("{}")
    folder = tmp_path / ".checkpoints/0"
    done = subprocess.run(
        [sys.executable, "-c", STOP_AND_RESUME, str(folder)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-2000:]
    result, line = done.stdout.splitlines()
    # Of four epochs of one chunk, two were complete.
    assert json.loads(result) == {"same": True, "trials": 2, "shares": [0.75, 1.0]}
    assert line == "bn_True, bn_False: the checkpoint is damaged; training starts again"
