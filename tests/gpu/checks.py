"""What kerasbn has to do on a GPU, each check by itself.

A check gets a `Context`, runs commands in it, notes what is wrong, and returns figures for the
record.
"""

import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from .commands import CommandError, Context, ask_gpu, most_memory

Figures = dict[str, Any]
Check = Callable[[Context], Figures]

TINY = ("--steps", "20", "--hidden", "8")


@dataclass(frozen=True)
class Scale:
    """How much is trained, and the test accuracy to expect: mean and allowed difference."""

    epochs: int
    short: int  # epochs, where accuracy does not matter
    resumed: int  # epochs, which have to outlast the first checkpoint
    seeds: tuple[int, ...]
    accuracy: dict[str, tuple[float, float]]


# Four standard deviations over seeds, as measured on CPUs.
FULL = Scale(10, 2, 30, (8, 32), {"bn": (0.9726, 4 * 0.0016), "plain": (0.9523, 4 * 0.0049)})
SMALL = Scale(3, 1, 8, (2,), {"bn": (0.90, 0.04), "plain": (0.88, 0.06)})  # on the sample


def seen(context: Context) -> Figures:
    """Train for a moment on the first GPU.

    If it is not, what TensorFlow says is returned, such as which library is missing.
    """
    arguments = ("train", "--device", "gpu:0", "--run", "seen", "--dataset", context.dataset, *TINY)
    try:
        record = context.json(*arguments)
    except CommandError as error:
        context.problems.append(str(error))
        return {"messages": context.finished("-v", *arguments)[2].splitlines()[-40:]}
    context.expect(record["device"].startswith("GPU 0 ("), f"trained on {record['device']}")
    names = ("name", "driver_version", "memory.total")
    about = dict(zip(names, ask_gpu(*names), strict=False))
    return {
        "device": record["device"], "environment": record["environment"],
        "versions": record["versions"], "nvidia-smi": about,
    }  # fmt: skip


def device(choice: str, prefix: str) -> Check:
    """Return the check that a choice of device trains on the one whose description begins so.

    The record of a GPU says what it computes with.
    """

    def check(context: Context) -> Figures:
        record = context.train("--device", choice, *TINY)
        used, about = record["device"], record["environment"]
        context.expect(used.startswith(prefix), f"{choice} is {used}")
        wanted = {"cuda", "cudnn", "TF32"} if used.startswith("GPU") else set()
        missing = ", ".join(sorted(wanted - about.keys()))
        context.expect(not missing, f"the record lacks {missing}")
        return {"device": used, "environment": about}

    return check


def missing_device(context: Context) -> Figures:
    """A GPU that is not there is one line."""
    arguments = ("train", "--dataset", context.dataset, "--device", "gpu:99", *TINY)
    code, _, messages = context.finished(*arguments)
    lines = messages.splitlines()
    context.expect(code == 2, f"exit code {code}")
    one_line = len(lines) == 1 and "received a GPU that TensorFlow does not see" in lines[0]
    context.expect(one_line, f"refused with {lines}")
    return {}


def accuracy(scale: Scale) -> Check:
    """Return the check that one pair reaches the accuracy of a CPU, and takes little memory."""

    def check(context: Context) -> Figures:
        with most_memory() as memory:
            record = context.train("--epochs", str(scale.epochs), command="compare")
        figures = accuracies(context, record, scale)
        if total := ask_gpu("memory.total"):
            share = max(memory, default=0) / int(total[0])
            context.expect(share < 0.5, f"takes {share:.0%} of the memory of the GPU")
            figures["memory MB"] = max(memory, default=0)
        return figures

    return check


def several(scale: Scale, seeds: int) -> Check:
    """Return the check that several pairs reach the accuracy of a CPU."""

    def check(context: Context) -> Figures:
        options = ("--epochs", str(scale.epochs), "--seeds", str(seeds))
        record = context.train(*options, command="compare")
        context.expect(len(record["seeds"]) == seeds, f"{len(record['seeds'])} pairs")
        return accuracies(context, record, scale)

    return check


def accuracies(context: Context, record: Figures, scale: Scale) -> Figures:
    """Return the mean final test accuracy by kind; each has to be as expected."""
    found: Figures = {"device": record["device"]}
    for kind, side in (("bn", "with_bn"), ("plain", "without_bn")):
        last = [member["history"]["val_accuracy"][-1] for member in record[side]]
        found[kind], (mean, allowed) = sum(last) / len(last), scale.accuracy[kind]
        context.expect(
            abs(found[kind] - mean) <= allowed,
            f"{kind}: test accuracy {found[kind]:.4f}, expected {mean:.4f} ± {allowed:.4f}",
        )
    return found


def determinism(scale: Scale) -> Check:
    """Return the check that deterministic trainings repeat to the bit; whether others do is noted.

    Each runs in a process of its own, since XLA chooses its kernels anew in each.
    """

    def check(context: Context) -> Figures:
        figures: Figures = {}
        for name, options in (("default", ()), ("deterministic", ("--deterministic",))):
            digests = set()
            for number in range(2):
                run = ("--run", f"{name}-{number}", "--epochs", str(scale.short))
                digests.add(context.train(*run, *options)["digest"])
            figures[name] = "bit-equal" if len(digests) == 1 else "different"
        context.expect(figures["deterministic"] == "bit-equal", "--deterministic is not")
        repeated = context.json("train", "--repeat", "deterministic-0", "--quiet")
        context.expect(repeated["same"], f"--repeat differs: {repeated['differences']}")
        return figures

    return check


def resume(scale: Scale) -> Check:
    """Return the check that a training killed by SIGKILL ends as one that was never stopped."""

    def check(context: Context) -> Figures:
        options = ("--epochs", str(scale.resumed), "--deterministic", "--quiet")
        arguments = ("train", "--run", "killed", "--dataset", context.dataset, *options)
        process = context.start(*arguments)
        checkpoint = context.folder / "saved_models/.killed.part/checkpoint/bn.npz"
        while process.poll() is None and not checkpoint.exists():
            if time.monotonic() > context.deadline:
                break
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        context.expect(process.returncode == -signal.SIGKILL, "it ended before it could be killed")
        context.kerasbn("train", "--resume", "killed", "--quiet")
        repeated = context.json("train", "--repeat", "killed", "--quiet")
        context.expect(repeated["same"], f"resumed, it differs: {repeated['differences']}")
        return {"same": repeated["same"]}

    return check


def probe(scale: Scale) -> Check:
    """Return the check that a comparison with probes finishes and finds something."""

    def check(context: Context) -> Figures:
        record = context.train("--epochs", str(scale.short), "--probe", command="compare")
        findings = record.get("findings", [])
        context.expect(bool(findings), "no findings")
        return {"findings": len(findings)}

    return check


def deployment(scale: Scale) -> Check:
    """Return the check that a model trained on the GPU is recalibrated, exported and verified.

    On a GPU, `kerasbn infer` works or says in one line that this onnxruntime has none.
    """

    def check(context: Context) -> Figures:
        context.train("--epochs", str(scale.short), "--run", "bn")
        found = context.json("recalibrate", "bn", "--dataset", context.dataset)["accuracy"]
        context.expect(found["after"] > found["before"] - 0.02, f"recalibrated to {found}")
        context.kerasbn("export", "model.onnx", "--model", "bn")
        context.kerasbn("verify", "model.onnx")
        code, _, messages = context.finished("infer", "--device", "gpu", "--count", "1")
        lines = messages.splitlines()
        refused = code == 2 and len(lines) == 1 and "onnxruntime" in lines[0]
        context.expect(code == 0 or refused, f"infer on the GPU: {lines}")
        return {"accuracy": found, "infer on the GPU": lines if refused else "works"}

    return check


def sweep(scale: Scale) -> Check:
    """Return the check that two workers share one GPU."""

    def check(context: Context) -> Figures:
        grid = ("learning-rate", "--set", "lr=0.01", "--set", "hidden=8 16", "--seeds", "1")
        with most_memory() as memory:
            record = context.train(
                *grid, "--epochs", str(scale.short), "--workers", "2", command="sweep"
            )
        context.expect(record["finished"] == record["trials"] == 4, f"{record['finished']} of 4")
        return {"trials": record["trials"], "memory MB": max(memory, default=0)}

    return check


def all_checks(scale: Scale) -> dict[str, Check]:
    """Return the checks by name, the most important first."""
    return {
        "seen": seen,
        "accuracy": accuracy(scale),
        "determinism": determinism(scale),
        "resume": resume(scale),
        **{f"seeds {count}": several(scale, count) for count in scale.seeds},
        "device cpu": device("cpu", "CPU ("),
        **{f"device {choice}": device(choice, "GPU 0 (") for choice in ("auto", "all")},
        "device missing": missing_device,
        "sweep": sweep(scale),
        "probe": probe(scale),
        "deployment": deployment(scale),
    }
