"""A sweep on a Ray cluster of two nodes, both on this machine, survives losses."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from kerasbn.common.errors import InputError
from kerasbn.sweeps import ray_backend
from kerasbn.sweeps.ray_backend import SharedFolder

# How soon the head notices that a node is gone.
HEALTH = {"RAY_health_check_period_ms": "1000"}
# Ray waits a minute for a head that is gone; the test does not. Only for the sweep: on a busy
# machine a node may not hear from its head for 3 seconds, and would give up while it starts.
IMPATIENT = {"RAY_gcs_rpc_server_reconnect_timeout_s": "3"}
START_SECONDS = 150  # Ray itself gives a node about 100 seconds to start
# Three batches of one trial, which compile fast.
GRID = """
[options]
hidden = "4"
steps = 8
bn = false
[axes]
activation = ["relu", "tanh", "linear"]
"""
TRIALS = 3


@dataclass
class Node:
    """A node, as `ray start --block` keeps it."""

    process: subprocess.Popen[bytes]

    def processes(self, words: str = "") -> list[int]:
        """It and all that it has started, if their command lines have these words."""
        return [pid for pid, line in family(self.process.pid) if words in line]

    def destroy(self) -> None:
        """End all of it at once, as when a machine loses its power."""
        for pid in reversed(self.processes()):
            kill(pid)
        self.process.wait()


@dataclass
class Cluster:
    """A head with one CPU and, bound to another address, a second node with one."""

    address: str
    head: Node
    second: Node


def family(root: int) -> list[tuple[int, str]]:
    """A process and its descendants: their numbers and command lines."""
    listed = subprocess.run(
        ["ps", "-A", "-ww", "-o", "pid=,ppid=,args="], capture_output=True, text=True, check=True
    ).stdout
    rows = [line.split(None, 2) for line in listed.splitlines()]
    found: list[tuple[int, str]] = []
    wanted = {root}
    while wanted:
        new = [(int(pid), rest) for pid, _, *rest in rows if int(pid) in wanted]
        found += [(pid, rest[0] if rest else "") for pid, rest in new]
        wanted = {int(pid) for pid, parent, *_ in rows if int(parent) in wanted}
    return found


def kill(pid: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def until(found: Callable[[], bool], seconds: float = 120.0, log: Path | None = None) -> None:
    """Wait for something to be so."""
    end = time.monotonic() + seconds
    while not found():
        assert time.monotonic() < end, log.read_text() if log else "waited in vain"
        time.sleep(0.05)


@pytest.fixture(scope="module")
def ray_cluster() -> Iterator[Cluster]:
    """One cluster for the module: the first test loses its second node, the last one its head."""
    # The paths of Ray's sockets have to be short.
    folder = tempfile.mkdtemp(prefix="ray", dir="/tmp")
    address = f"127.0.0.1:{free_port()}"
    ray = [sys.executable, "-m", "ray.scripts.scripts", "start", "--block", "--num-cpus", "1",
           "--object-store-memory", "80000000", "--disable-usage-stats"]  # fmt: skip
    log = Path(folder, "log")
    nodes: list[Node] = []

    def start(*arguments: str) -> Node:
        with log.open("ab") as out:
            process = subprocess.Popen(
                [*ray, *arguments], env=os.environ | HEALTH, stdout=out, stderr=out
            )
        nodes.append(Node(process))
        # Only then is it registered with the head; its raylet exists long before.
        started = "Ray runtime started"
        until(
            lambda: log.read_text().count(started) == len(nodes) or process.poll() is not None,
            START_SECONDS,
            log,
        )
        assert process.poll() is None, log.read_text()
        return nodes[-1]

    try:
        head = start("--head", "--node-ip-address", "127.0.0.1", "--port", address.split(":")[1],
                     "--include-dashboard=false", "--temp-dir", folder)  # fmt: skip
        second = start("--address", address, "--node-ip-address", "127.0.0.2")
        yield Cluster(address, head, second)
    finally:
        for node in reversed(nodes):
            node.destroy()
        shutil.rmtree(folder, ignore_errors=True)


def start_sweep(folder: Path, *arguments: str, **environment: str) -> subprocess.Popen[str]:
    folder.mkdir()
    (folder / "grid.toml").write_text(GRID)
    return subprocess.Popen(
        [sys.executable, "-m", "kerasbn", "sweep", "grid.toml", "--dataset", "mnist-sample",
         *arguments],
        cwd=folder, env=os.environ | environment, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


def trained(folder: Path) -> int:
    """The number of finished runs."""
    return len(list(folder.glob("saved_models/studies/grid/[!.]*/run.json")))


@pytest.mark.slow
def test_a_lost_worker_and_a_lost_node_change_no_result(
    ray_cluster: Cluster, tmp_path: Path
) -> None:
    """A worker is killed and a node destroyed during a sweep: the results are bit-identical."""
    spread = tmp_path / "spread"
    process = start_sweep(spread, "--address", ray_cluster.address)
    try:
        until(lambda: bool(ray_cluster.head.processes("ray::_train")))
        until(lambda: bool(ray_cluster.second.processes("ray::_train")))
        kill(ray_cluster.head.processes("ray::_train")[0])
        assert trained(spread) < TRIALS
        ray_cluster.second.destroy()
        alone = tmp_path / "alone"
        reference = start_sweep(alone, "--workers", "1", "--quiet")
        out, err = process.communicate(timeout=240)
    finally:
        process.kill()
    assert process.returncode == 0, err
    assert "could not" not in out
    _, err = reference.communicate(timeout=240)
    assert reference.returncode == 0, err
    for name in ("results.csv", "history.csv"):
        files = [folder / "saved_models/studies/grid" / name for folder in (spread, alone)]
        assert files[0].read_bytes() == files[1].read_bytes()
    assert trained(spread) == TRIALS


@pytest.mark.slow
def test_a_cluster_that_goes_away_stops_the_sweep(ray_cluster: Cluster, tmp_path: Path) -> None:
    """Finished runs are kept, and one line says how to continue."""
    folder = tmp_path / "lost"
    process = start_sweep(folder, "--address", ray_cluster.address, **IMPATIENT)
    try:
        until(lambda: trained(folder) > 0)
        for node in (ray_cluster.second, ray_cluster.head):
            node.destroy()
        out, err = process.communicate(timeout=120)
    finally:
        process.kill()
    assert (process.returncode, out) == (1, "")
    last = err.splitlines()[-1]
    kept = trained(folder)
    assert f"--address {ray_cluster.address}: " in last
    assert f"{kept} of {TRIALS} trials are kept in saved_models/studies/grid" in last
    assert "continues" in last
    assert "Traceback" not in err
    assert 0 < kept < TRIALS


def test_a_node_knows_whether_it_reaches_the_folder_of_checkpoints(tmp_path: Path) -> None:
    study = tmp_path / "study"
    study.mkdir()
    (study / "study.json").write_text("{}")
    shared = SharedFolder.at(study / ".checkpoints")
    assert shared.is_here()
    # On another machine there may be a copy of the study at the same path, or nothing.
    shutil.copytree(study, tmp_path / "copy")
    study.rename(tmp_path / "elsewhere")
    assert not shared.is_here()
    (tmp_path / "copy").rename(study)
    assert not shared.is_here()


@pytest.mark.parametrize(
    ("there", "found"), [({"keras": "3.14.0"}, "keras 3.14.0"), ({}, "keras none")]
)
def test_a_node_with_other_versions_is_refused(there: dict[str, str], found: str) -> None:
    own = {"keras": "3.15.1"}
    ray_backend.check_versions(own, {"10.0.0.1": own})
    with pytest.raises(InputError) as refused:
        ray_backend.check_versions(own, {"10.0.0.1": own, "10.0.0.2": there})
    assert str(refused.value).startswith(
        f"node 10.0.0.2: received {found}, expected keras 3.15.1, as here; install the same"
    )


def test_without_ray_the_error_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray_backend, "find_spec", lambda _: None)
    with pytest.raises(InputError, match=r'the package ray; install it: pip install "kerasbn\[ray'):
        ray_backend.check_address("10.0.0.1:6379")
