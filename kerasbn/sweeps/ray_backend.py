"""Ray backend: train the batches of a sweep on a cluster. Ray schedules and retries.

When a cluster's head is lost for good, Ray ends the process that is connected to it. So a process
of its own connects and sends events through a pipe; when that process is gone, so is the cluster.
"""

import os
import re
import socket
import time
from collections.abc import Generator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import version
from importlib.util import find_spec
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Self

from kerasbn.common.errors import CheckFailedError, InputError, KerasbnError, expected
from kerasbn.data.datasets import Dataset
from kerasbn.sweeps.process_pool import CONTEXT, follow_parent
from kerasbn.sweeps.study_data import RECORD
from kerasbn.sweeps.trials import Event, Files, TrialBatch, error_line

REACH_SECONDS = 3.0  # for a TCP connection to the head
_CONNECT_SECONDS = 20.0  # for Ray to connect
PATIENCE = 60.0  # seconds to wait for a node with CPUs when there is none
RETRIES = 5  # of a batch whose worker or node is lost
# Results depend on these: all nodes need the same versions.
PACKAGES = ("kerasbn", "tensorflow", "keras", "numpy")


def train_on_cluster(
    batches: Sequence[TrialBatch],
    data: Dataset,
    *,
    address: str,
    device: str = "auto",
    checkpoints: Path | None = None,
) -> Generator[Event, None, None]:
    """Train the batches on a cluster; yield events until all are trained or failed.

    The dataset is sent to each node once. Files come back as bytes, so nodes need no shared disk.
    But only a node with the folder `checkpoints` on one of its disks, like every node of this
    machine or of a shared file system, writes checkpoints there and goes on after them; on other
    nodes a batch starts anew. Each batch requests one CPU, and with the device ``gpu`` also a GPU.
    Raises `InputError` if no cluster is there or a node has other versions, and `CheckFailedError`
    if the cluster is lost.
    """
    if not batches:
        return
    near, far = CONTEXT.Pipe()
    folder = SharedFolder.at(checkpoints) if checkpoints else None
    arguments = (far, address, list(batches), data, device, folder)
    process = CONTEXT.Process(target=_run_connected, args=arguments, daemon=True)
    process.start()
    far.close()
    try:
        if not near.poll(_CONNECT_SECONDS):
            raise _unreachable(address, f"no answer in {_CONNECT_SECONDS:.0f} s")
        while (message := near.recv()) is not None:
            if isinstance(message, KerasbnError):
                raise message
            if isinstance(message, Event):
                yield message
    except (EOFError, OSError) as error:
        raise CheckFailedError(f"--address {address}: the cluster went away") from error
    finally:
        process.kill()
        process.join()


@dataclass(frozen=True)
class SharedFolder:
    """A folder in that of a study, which a node may also reach under its path.

    Attributes:
        path: Where it is, on both.
        identity: Inode and time of modification of the record of the study. They are the same on
            every machine that shares the file system, and no copy has both.
    """

    path: Path
    identity: tuple[int, int]

    @classmethod
    def at(cls, path: Path) -> Self:
        """Return the folder at a path of this machine."""
        return cls(path.absolute(), cls._identity_of(path))

    def is_here(self) -> bool:
        """Return whether this process can write there."""
        with suppress(OSError):
            is_same = self._identity_of(self.path) == self.identity
            return is_same and os.access(self.path.parent, os.W_OK)
        return False

    @staticmethod
    def _identity_of(path: Path) -> tuple[int, int]:
        record = (path.parent / RECORD).stat()
        return record.st_ino, record.st_mtime_ns


def check_address(address: str) -> None:
    """Raise `InputError` unless Ray is installed and a gRPC server listens at the address."""
    if find_spec("ray") is None:
        raise expected(
            f"--address {address}", "an installation without Ray", "the package ray",
            'install it: pip install "kerasbn[ray]"',
        )  # fmt: skip
    if address == "auto":
        return
    match = re.fullmatch(r"([^:/\s]+):(\d{1,5})", address)
    if not match or not 0 < int(match[2]) < 2**16:
        raise expected(f"--address {address}", f"'{address}'", "HOST:PORT of a Ray head, or auto")
    try:
        with socket.create_connection((match[1], int(match[2])), timeout=REACH_SECONDS) as head:
            speaks = "RAY_USE_TLS" in os.environ or _speaks_http2(head)
    except OSError as error:
        raise _unreachable(address, error_line(error)) from error
    if not speaks:
        raise _unreachable(address, "something else listens there")


def _speaks_http2(peer: socket.socket) -> bool:
    """Return whether the peer starts with HTTP/2's SETTINGS frame, as gRPC and so Ray does.

    RFC 9113, sections 3.4 and 4.1: both ends send this frame first; its type, the fourth byte,
    is 4.
    """
    peer.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0]))
    greeting = b""
    while len(greeting) < 4 and (more := peer.recv(9)):
        greeting += more
    return greeting[3:4] == b"\x04"


def check_versions(own: Mapping[str, str], nodes: Mapping[str, Mapping[str, str]]) -> None:
    """Raise `InputError` if a node has other versions; `nodes` holds those of each, by its name."""
    for node, versions in nodes.items():
        for name, here in own.items():
            there = versions.get(name, "none")
            if there != here:
                advice = "install the same versions on every node"
                raise expected(f"node {node}", f"{name} {there}", f"{name} {here}, as here", advice)


def _unreachable(address: str, why: str) -> InputError:
    return expected(
        f"--address {address}", f"no Ray cluster there ({why})", "the address of one that runs",
        "start one: ray start --head --port 6379; then on this and every other machine: "
        "ray start --address HOST:PORT",
    )  # fmt: skip


def _run_connected(connection: Connection, address: str, *work: Any) -> None:  # noqa: ANN401
    """Run the connected process; it dies with the process that started it."""
    follow_parent()
    # Ray's messages about a cluster in trouble; the sweep prints one line instead.
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 1)
    os.dup2(null, 2)
    try:
        import ray

        try:
            ray.init(address=address, log_to_driver=False, logging_level="ERROR")
        except Exception as error:  # noqa: BLE001 - Ray raises many types
            connection.send(_unreachable(address, error_line(error)))
            return
        connection.send("connected")
        for event in _events(address, *work):
            connection.send(event)
        connection.send(None)
    except KerasbnError as error:
        connection.send(error)
    except Exception as error:  # noqa: BLE001 - the cluster is unusable
        line = f"--address {address}: the cluster failed ({error_line(error)})"
        connection.send(CheckFailedError(line))


def _events(
    address: str,
    batches: list[TrialBatch],
    data: Dataset,
    device: str,
    checkpoints: SharedFolder | None,
) -> Generator[Event, None, None]:
    """Submit the batches to the cluster, as many at a time as it has CPUs."""
    import ray

    own = _check_nodes(ray)
    shared = ray.put(data)
    gpus = 1 if device.startswith("gpu") else 0
    train = ray.remote(num_cpus=1, num_gpus=gpus, max_retries=RETRIES)(_train)
    waiting = list(reversed(batches))
    running: dict[Any, TrialBatch] = {}
    last_room = time.monotonic()
    while waiting or running:
        room = int(ray.cluster_resources().get("CPU", 0))
        if room:
            last_room = time.monotonic()
        elif time.monotonic() - last_room > PATIENCE:
            raise CheckFailedError(
                f"--address {address}: no node of the cluster had a CPU for {PATIENCE:.0f} s"
            )
        while waiting and len(running) < room:
            batch = waiting.pop()
            running[train.remote(batch, shared, device, own, checkpoints)] = batch
            yield Event(batch.number)
        ready, _ = ray.wait(list(running), timeout=1.0) if running else ([], [])
        if not running:
            time.sleep(1.0)
        for reference in ready:
            batch = running.pop(reference)
            try:
                files, warnings = ray.get(reference)
                yield Event(batch.number, 1.0, files, warnings=tuple(warnings))
            except ray.exceptions.RayError as error:
                cause = getattr(error, "cause", None) or error
                yield Event(batch.number, error=error_line(cause))


def _train(
    batch: TrialBatch,
    data: Dataset,
    device: str,
    versions: Mapping[str, str],
    checkpoints: SharedFolder | None,
) -> tuple[Files, list[str]]:
    """Train a batch on a node, which may have joined after the versions were checked.

    Returns its files, and lines for the user.
    """
    check_versions(versions, {socket.gethostname(): {name: version(name) for name in PACKAGES}})
    from kerasbn.common.keras_internals import quiet_tensorflow

    quiet_tensorflow()
    from kerasbn.sweeps.worker import train_batch

    here = checkpoints.path / str(batch.number) if checkpoints and checkpoints.is_here() else None
    warnings: list[str] = []
    files = train_batch(batch, data, device=device, warn=warnings.append, checkpoint=here)
    return files, warnings


def _check_nodes(ray: Any) -> dict[str, str]:  # noqa: ANN401 - an optional module
    """Return the versions here; raise `InputError` if a node with CPUs has others."""
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    def installed() -> dict[str, str]:
        # Nested, since Ray pickles such a function whole: a node without kerasbn can run it.
        from importlib.metadata import distributions

        found = {name: list(distributions(name=name)) for name in PACKAGES}
        return {name: each[0].version if each else "none" for name, each in found.items()}

    answers = {}
    for node in ray.nodes():
        if node["Alive"] and node["Resources"].get("CPU"):
            place = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
            ask = ray.remote(num_cpus=0, max_retries=0)(installed)
            answers[node["NodeManagerAddress"]] = ask.options(scheduling_strategy=place).remote()
    found = {}
    for name, reference in answers.items():
        with suppress(ray.exceptions.RayError):  # the node has just gone
            found[name] = ray.get(reference, timeout=_CONNECT_SECONDS)
    check_versions(installed(), found)
    return installed()
