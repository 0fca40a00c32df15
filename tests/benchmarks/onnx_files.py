"""Make the README's table for ONNX files: affine nodes left by kerasbn and by other tools.

    pip install -e ".[bench]"
    python tests/benchmarks/onnx_files.py [FILE|FOLDER...]

Without arguments, the small exports of PyTorch among the tests are measured. The optimizers are run
as in `networks.py`, each with its defaults on the file as shipped; kerasbn folds it and checks the
result. Measured are, in each file:

- the BN layers left as steps of their own, BatchNormalization nodes or arithmetic per channel,
  counted by `kerasbn.inference.remaining`;
- the largest difference from the file as shipped, relative to its largest output, in onnxruntime
  without optimizations on random inputs;
- processor time in seconds.
"""

import argparse
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))  # as pytest does

import onnx
import onnx_ir as ir
from benchmarks.networks import RIVALS, WRONG, Record, by_rival, left, markdown, timed

from kerasbn.folding.onnx.fold import fold_with_plan
from kerasbn.folding.onnx.running import Arrays, CannotRun, Runner, example_inputs
from kerasbn.folding.rounding import relative_difference
from kerasbn.inference.remaining import remaining_nodes

CASES = Path(__file__).parent.parent / "folding/onnx/cases"
SHIPPED = "as shipped"
TOOLS = (SHIPPED, *RIVALS, "kerasbn")


def main() -> None:
    """Measure the files and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("paths", nargs="*", type=Path, default=[CASES], metavar="FILE|FOLDER")
    options = parser.parse_args()
    counts, quality = [], []
    for path in files(options.paths):
        records = dict(measure(path))
        print(path.name, records, file=sys.stderr, flush=True)  # noqa: T201 - it takes long
        counts.append([path.stem, *(left(records.get(tool)) for tool in TOOLS)])
        quality.append([path.stem, *(cell(records.get(tool)) for tool in TOOLS[1:])])
    sums = [sum(c for c in column if isinstance(c, int)) for column in zip(*counts, strict=True)]
    total = [f"**all {len(counts)}**", *(f"**{n}**" for n in sums[1:])]
    print(markdown(["file", *TOOLS], [*counts, total]), end="\n\n")  # noqa: T201 - what it is for
    print(markdown(["file", *TOOLS[1:]], quality))  # noqa: T201 - as above


def files(paths: list[Path]) -> Iterator[Path]:
    """The ONNX files among paths and in folders."""
    for path in paths:
        yield from sorted(path.rglob("*.onnx")) if path.is_dir() else [path]


def measure(path: Path) -> Iterator[tuple[str, Record]]:
    """The results of each tool for one file."""
    feeds, want = answers(path)
    with tempfile.TemporaryDirectory() as folder:
        for tool in TOOLS:
            made = path if tool == SHIPPED else Path(folder, f"{tool}.onnx")
            took: Record = {}
            try:
                if tool in RIVALS:
                    took = by_rival(tool, path.resolve(), made)
                elif tool == "kerasbn":
                    took = timed(by_kerasbn, path, made)
                got = Runner(ir.load(made)).run(feeds, everything=False)
                gap = relative_difference(list(got.values()), [want[name] for name in got])
            except Exception as error:  # noqa: BLE001 - a tool that fails is a result
                yield tool, {"error": f"fails ({type(error).__name__})", "said": str(error)[:300]}
                continue
            yield tool, {"left": len(remaining_nodes(onnx.load(made))), "difference": gap, **took}


def answers(path: Path) -> tuple[Arrays, Arrays]:
    """The first random inputs that a file runs on, and its outputs."""
    model = ir.load(path)
    runner, reason = Runner(model), ""
    for feeds in example_inputs(model):
        try:
            return feeds, runner.run(feeds, everything=False)
        except CannotRun as error:
            reason = str(error)
    raise CannotRun(reason)


def by_kerasbn(path: Path, made: Path) -> None:
    folded, _ = fold_with_plan(path, check=True, inputs=None, clip=True)
    onnx.save(folded, made)


def cell(record: Record | None) -> Any:
    """The difference of the outputs, and the time."""
    if record is None or "error" in record:
        return left(record)
    said = f"{record['difference']:.0e}"
    said = f"**{said}**" if record["difference"] > WRONG else said
    return f"{said}, {record['seconds']:.1f} s"


if __name__ == "__main__":
    main()
