"""From start to answer: `kerasbn infer PICTURE` beside a bare script with the same libraries.

    python tests/benchmarks/startup.py MODEL.onnx PICTURE.png [--runs 15]

The two run in turn, each as a process of its own; told are the medians and the median of the
ratios, pair by pair. Both resize the picture (`--raw`) and no more, so that they do the same.
"""

import argparse
import statistics
import subprocess
import sys
import time

BARE = """
import sys
import numpy as np
import onnxruntime
from PIL import Image
session = onnxruntime.InferenceSession(sys.argv[1], providers=["CPUExecutionProvider"])
picture = np.asarray(Image.open(sys.argv[2]).convert("L").resize((28, 28), Image.Resampling.BOX))
logits = session.run(None, {session.get_inputs()[0].name: picture[None]})[0][0]
probabilities = np.exp(logits - logits.max())
probabilities /= probabilities.sum()
print(sys.argv[2], probabilities.argmax(), f"{probabilities.max():.2%}")
"""


def main() -> None:
    """Measure and print one line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model")
    parser.add_argument("picture")
    parser.add_argument("--runs", type=int, default=15)
    options = parser.parse_args()
    ours = [sys.executable, "-m", "kerasbn", "infer", options.picture, "--model", options.model]
    bare = [sys.executable, "-c", BARE, options.model, options.picture]
    seconds_of([*ours, "--raw"])
    seconds_of(bare)
    pairs = [(seconds_of([*ours, "--raw"]), seconds_of(bare)) for _ in range(options.runs)]
    print(  # noqa: T201 - what a benchmark is for
        f"kerasbn infer {statistics.median(a for a, _ in pairs):.3f} s, "
        f"bare script {statistics.median(b for _, b in pairs):.3f} s, "
        f"ratio {statistics.median(a / b for a, b in pairs):.2f}"
    )


def seconds_of(command: list[str]) -> float:
    """The seconds a command takes, from start to end."""
    start = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True)
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
