"""A Ray cluster that trains the groups of a sweep: its scheduling, its retries, our files.

What the cluster does to a process that is connected to it is not ours to say: when its head is lost
for good, Ray ends that process. So a process of its own is connected, and tells the sweep what
happens through a pipe; when that process is gone, so is the cluster.
"""

import multiprocessing
import os
import re
import signal
import socket
import time
from collections.abc import Generator, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from multiprocessing.connection import Connection
from threading import Thread
from typing import Any

from kerasbn.data.datasets import Dataset
from kerasbn.errors import InputError, KerasbnError, expected
from kerasbn.sweeps.events import Began, Event, Failed, Files, LostError, Trained, in_one_line
from kerasbn.sweeps.trials import Group

REACHABLE = 3.0  # seconds in which a cluster must take a connection
CONNECTED = 20.0  # seconds in which it must show that it is one
PATIENCE = 60.0  # seconds to wait for a node that can compute, when there is none
RETRIES = 5  # of a group whose worker or node is lost
# What the figures depend on: one study comes from one version of each.
PACKAGES = ("kerasbn", "tensorflow", "keras", "numpy")

CONNECTION = "connected"  # the first thing that is told

_CONTEXT = multiprocessing.get_context("spawn")


def on_cluster(
    groups: Sequence[Group],
    digits: Dataset,
    *,
    address: str,
    device: str = "auto",
    threads: int = 1,
    patience: float = PATIENCE,
) -> Generator[Event, None, None]:
    """Train the groups on a cluster, and tell what happens; ends when all are trained or failed.

    The digits go to the cluster once, as an object, and from there to each node once. Files come
    back as bytes: a node needs neither the study's disk nor anything of its own but kerasbn.

    Args:
        groups: what to train.
        digits: on what.
        address: ``HOST:PORT`` of the cluster's head, or ``auto``.
        device: as in `experiment.train`; with ``gpu`` each group asks for a GPU of its own.
        threads: how many threads TensorFlow has for each group; so many CPUs it asks for.
        patience: seconds to wait for a node that can compute, when there is none.

    Raises:
        InputError: if Ray is not installed, there is no such cluster, or one of its nodes has other
            versions of what the figures depend on.
        LostError: if the cluster goes away for good.
    """
    check_address(address)
    if not groups:
        return
    near, far = _CONTEXT.Pipe()
    given = (far, address, list(groups), digits, device, threads, patience)
    process = _CONTEXT.Process(target=_live, args=given, daemon=True)
    process.start()
    far.close()
    try:
        if not near.poll(CONNECTED):
            raise _unreachable(address, f"no answer in {CONNECTED:.0f} s")
        while (told := near.recv()) is not None:
            if isinstance(told, KerasbnError):
                raise told
            if told != CONNECTION:
                yield told
    except (EOFError, OSError) as error:
        raise LostError(f"--address {address}: the cluster went away") from error
    finally:
        process.kill()
        process.join()


def check_address(address: str) -> None:
    """Raise `InputError` unless Ray is installed and somebody listens at the address."""
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
        with socket.create_connection((match[1], int(match[2])), timeout=REACHABLE) as head:
            speaks = "RAY_USE_TLS" in os.environ or _speaks_http2(head)
    except OSError as error:
        raise _unreachable(address, in_one_line(error)) from error
    if not speaks:
        raise _unreachable(address, "something else listens there")


def _speaks_http2(peer: socket.socket) -> bool:
    """Whether the other end greets as gRPC does, which Ray speaks: with HTTP/2's SETTINGS frame.

    RFC 9113, sections 3.4 and 4.1: after the client's preface and settings each end sends such a
    frame first; its type, the fourth byte, is 4.
    """
    peer.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0]))
    greeting = b""
    while len(greeting) < 4 and (more := peer.recv(9)):
        greeting += more
    return greeting[3:4] == b"\x04"


def check_versions(own: Mapping[str, str], nodes: Mapping[str, Mapping[str, str]]) -> None:
    """Raise `InputError` if a node has another version of what the figures depend on.

    Args:
        own: here, by package.
        nodes: by the name of each node, the same.
    """
    for node, versions in nodes.items():
        for name, here in own.items():
            there = versions.get(name, "none")
            if there != here:
                raise expected(
                    f"node {node}", f"{name} {there}", f"{name} {here}, as here",
                    "install the same versions on every node",
                )  # fmt: skip


def _unreachable(address: str, why: str) -> InputError:
    return expected(
        f"--address {address}", f"no Ray cluster there ({why})", "the address of one that runs",
        "start one: ray start --head --port 6379; and on every further machine, this one too: "
        "ray start --address HOST:PORT",
    )  # fmt: skip


def _live(
    connection: Connection,
    address: str,
    groups: list[Group],
    digits: Dataset,
    device: str,
    threads: int,
    patience: float,
) -> None:
    """The life of the process that is connected; it dies with the one that started it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    assert parent is not None
    Thread(target=_die_with, args=[parent], daemon=True).start()
    # What Ray has to say about a cluster in trouble, the sweep says in a line of its own.
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 1)
    os.dup2(null, 2)
    try:
        import ray

        try:
            ray.init(address=address, log_to_driver=False, logging_level="ERROR")
        except Exception as error:  # noqa: BLE001 - it has many ways to say that it cannot
            connection.send(_unreachable(address, in_one_line(error)))
            return
        connection.send(CONNECTION)
        for event in _events(ray, address, groups, digits, device, threads, patience):
            connection.send(event)
        connection.send(None)
    except KerasbnError as error:
        connection.send(error)
    except Exception as error:  # noqa: BLE001 - whatever it is, the cluster is of no more use
        connection.send(
            LostError(f"--address {address}: the cluster failed ({in_one_line(error)})")
        )


def _die_with(parent: multiprocessing.process.BaseProcess) -> None:
    parent.join()
    os._exit(1)


def _events(
    ray: Any,  # noqa: ANN401 - the module, which need not be installed
    address: str,
    groups: list[Group],
    digits: Dataset,
    device: str,
    threads: int,
    patience: float,
) -> Generator[Event, None, None]:
    """Hand the groups to the cluster, as many at a time as it has room for."""
    _check_nodes(ray)
    shared = ray.put(digits)
    train = ray.remote(
        num_cpus=threads,
        num_gpus=1 if device.startswith("gpu") else 0,
        max_retries=RETRIES,
    )(_train)
    waiting = list(reversed(groups))
    at_work: dict[Any, Group] = {}
    own = _own_versions()
    last_room = time.monotonic()
    while waiting or at_work:
        room = int(ray.cluster_resources().get("CPU", 0) // threads)
        if room:
            last_room = time.monotonic()
        elif time.monotonic() - last_room > patience:
            raise LostError(
                f"--address {address}: no node of the cluster could compute for {patience:.0f} s"
            )
        while waiting and len(at_work) < room:
            group = waiting.pop()
            at_work[train.remote(group, shared, device, threads, own)] = group
            yield Began(group.number)
        ready, _ = ray.wait(list(at_work), timeout=1.0) if at_work else ([], [])
        if not at_work:
            time.sleep(1.0)
        for reference in ready:
            group = at_work.pop(reference)
            try:
                yield Trained(group.number, ray.get(reference))
            except ray.exceptions.RayTaskError as error:
                yield Failed(group.number, in_one_line(error.cause or error))
            except ray.exceptions.RayError as error:
                yield Failed(group.number, in_one_line(error))


def _train(
    group: Group, digits: Dataset, device: str, threads: int, versions: Mapping[str, str]
) -> Files:
    """What a worker of the cluster does; its node may have joined after the others were asked."""
    check_versions(versions, {socket.gethostname(): _own_versions()})
    from kerasbn.keras_internals import quiet_tensorflow

    quiet_tensorflow()
    from kerasbn.sweeps.work import train_group, use_threads

    use_threads(threads)
    return train_group(group, digits, device=device)


def _check_nodes(ray: Any) -> None:  # noqa: ANN401 - as above
    """Ask every node that can compute for its versions, and refuse a mixture."""
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    # A function within a function travels whole: a node that lacks kerasbn can run it too.
    def about(packages: tuple[str, ...]) -> dict[str, str]:
        from importlib import metadata

        found = {}
        for name in packages:
            try:
                found[name] = metadata.version(name)
            except metadata.PackageNotFoundError:
                found[name] = "none"
        return found

    nodes = [node for node in ray.nodes() if node["Alive"] and node["Resources"].get("CPU")]
    asked = {
        ray.remote(num_cpus=0, max_retries=0)(about)
        .options(scheduling_strategy=NodeAffinitySchedulingStrategy(node["NodeID"], soft=False))
        .remote(PACKAGES): node["NodeManagerAddress"]
        for node in nodes
    }
    answers = {}
    for reference, name in asked.items():
        try:
            answers[name] = ray.get(reference, timeout=CONNECTED)
        except ray.exceptions.RayError:  # a node that has just gone is asked for nothing more
            continue
    check_versions(_own_versions(), answers)


def _own_versions() -> dict[str, str]:
    found = {}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "none"
    return found
