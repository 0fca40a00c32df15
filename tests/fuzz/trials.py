"""Trials: a damaged file is read within limits of time and memory, and the outcome is judged."""

import json
import multiprocessing
import os
import re
import resource
import shutil
import signal
import sys
import tempfile
import traceback
import warnings
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from tempfile import TemporaryFile
from typing import Any

from fuzz.damage import Damage, damage_bytes, splice

from kerasbn.common.errors import KerasbnError

CONTEXT = multiprocessing.get_context("spawn")
MOST_ADDRESSES = 8 * 2**30  # a request for more fails, and the machine survives
MOST_SECONDS = 5.0  # of the processor
STALLED_SECONDS = 90.0  # on the clock: no handler of signals runs within a library
LONGEST_MESSAGE = 1200  # without the path
IN_MEMORY = next(filter(os.path.isdir, ["/dev/shm"]), None)  # noqa: S108 - else on the disk
LONG_AGO = 10**18  # a time in nanoseconds: a folder that has it is as the bench left it

READ, REFUSED, UNCHANGED = "read", "refused", "unchanged"


class TooSlowError(BaseException):
    """A trial used up its time."""


@dataclass(frozen=True)
class Reader:
    """Something that reads a file, and how to damage that file.

    Attributes:
        target: The file, in a folder of its own.
        samples: Makes valid contents of the file.
        damage: Damages a content in the way of its format.
        read: Reads the file and uses the result as the product does.
        beside: Makes the other files in the folder, by their paths.
        trials: The default number of trials.
        seconds: The most processor time for one.
        memory: By how many bytes one may grow.
    """

    target: str
    samples: Callable[[], Sequence[bytes]]
    damage: Damage
    read: Callable[[Path], object]
    beside: Callable[[], Mapping[str, bytes]] = dict
    trials: int = 100_000
    seconds: float = MOST_SECONDS
    memory: float = 1.5 * 2**30


@dataclass
class Tally:
    """How the trials of a reader ended; failures by what is the same about them."""

    counts: Counter[str] = field(default_factory=Counter)
    failures: dict[str, list[tuple[int, str]]] = field(default_factory=lambda: defaultdict(list))

    def add(self, seed: int, outcome: str) -> None:
        if outcome in (READ, REFUSED, UNCHANGED):
            self.counts[outcome] += 1
        else:
            self.counts["FAILED"] += 1
            self.failures[re.sub(r"\d+|'[^']*'", "#", outcome)[:160]].append((seed, outcome))


class Bench:
    """A folder with the valid files of a reader, in which trials are made."""

    def __init__(self, reader: Reader, folder: Path) -> None:
        self.reader, self.folder = reader, folder
        self.samples = [bytes(each) for each in reader.samples()]
        for name, content in reader.beside().items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(content)
        self.target = folder / reader.target
        self.target.parent.mkdir(parents=True, exist_ok=True)
        for content in self.samples:
            self.target.write_bytes(content)
            reader.read(self.target)  # what is loaded only once counts for no trial
        self.names = self._names()
        self._folders = [folder, *filter(os.path.isdir, map(folder.joinpath, self.names))]
        self._seal()
        self._file = os.open(self.target, os.O_RDWR)
        self._clear_peak = os.open("/proc/self/clear_refs", os.O_WRONLY)
        # What libraries print to descriptor 2 stays hidden, and fails the trial.
        sys.stderr.flush()
        self._stderr, self._printed = os.dup(2), TemporaryFile()  # noqa: SIM115 - see `close`
        os.dup2(self._printed.fileno(), 2)

    def close(self) -> None:
        os.dup2(self._stderr, 2)
        for each in (self._file, self._clear_peak, self._stderr):
            os.close(each)
        self._printed.close()

    def content(self, seed: int) -> bytes:
        """Return a damaged content; always the same for a seed."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # from zipfile: names that are there twice
            return self._damaged(Random(seed))  # noqa: S311 - no secret

    def _damaged(self, random: Random) -> bytes:
        content = random.choice(self.samples)
        kind = random.random()
        if kind < 0.2:
            return damage_bytes(random, content)
        if kind < 0.25:
            return splice(random, self.samples)
        damaged = self.reader.damage(random, content)
        return damage_bytes(random, damaged) if kind > 0.95 else damaged

    def trial(self, seed: int) -> str:
        """Return how the reader took a damaged file: an outcome, or what is wrong."""
        content = self.content(seed)
        if content in self.samples:
            return UNCHANGED
        os.pwrite(self._file, content, 0)  # to open files anew takes longer than most trials
        os.ftruncate(self._file, len(content))
        os.pwrite(self._clear_peak, b"5", 0)
        before = _peak()
        try:
            with _time_limit(self.reader.seconds), warnings.catch_warnings(record=True) as warned:
                self.reader.read(self.target)
            outcome = READ
        except KerasbnError as error:
            outcome = _judge_message(str(error), str(self.target))
        except TooSlowError:
            outcome = f"more than {self.reader.seconds:g} s of processor time"
        except BaseException as error:  # noqa: BLE001 - whatever it is, it is a failure
            outcome = _describe(error)
        else:
            if warned:
                outcome = f"warned {warned[0].category.__name__}: {warned[0].message}"
        if printed := self._take_printed():
            outcome = f"printed {printed} ({outcome})"
        grown = _peak() - before
        if grown > self.reader.memory:
            outcome = f"grew by {grown / 2**30:.1f} GiB ({outcome})"
        if left := self._clean():
            outcome = f"left {left} ({outcome})"
        return outcome

    def _clean(self) -> list[str]:
        """Remove what a trial left behind; return the names that it left or took away."""
        # Cheaper than listing the folders; a new or lost name changes the time of its folder.
        if all(each.stat().st_mtime_ns == LONG_AGO for each in self._folders):
            return []
        names = self._names()
        for name in names - self.names:
            shutil.rmtree(self.folder / name, ignore_errors=True)
            (self.folder / name).unlink(missing_ok=True)
        self._seal()
        return sorted(names ^ self.names)

    def _seal(self) -> None:
        for each in self._folders:
            os.utime(each, ns=(LONG_AGO, LONG_AGO))

    def _take_printed(self) -> str:
        """Return what was printed to standard error since the last call."""
        if not self._printed.seek(0, os.SEEK_END):
            return ""
        self._printed.seek(0)
        text = self._printed.read(300).decode(errors="replace")
        self._printed.seek(0)
        self._printed.truncate()
        return " ".join(text.split())

    def _names(self) -> set[str]:
        return {entry.path.removeprefix(f"{self.folder}/") for entry in _walk(self.folder)}


def run_trials(name: str, seeds: range, say: Callable[[str], None] = lambda line: None) -> Tally:
    """Return how trials end; they run in another process, which may crash or hang."""
    tally, at = Tally(), CONTEXT.Value("q", seeds.start)
    while at.value < seeds.stop:
        begun = False
        near, far = CONTEXT.Pipe()
        arguments = (far, name, range(at.value, seeds.stop), at)
        process = CONTEXT.Process(target=_work, args=arguments, daemon=True)
        process.start()
        far.close()
        seen, problem = -1, ""
        try:
            while True:
                if near.poll(STALLED_SECONDS):
                    seed, outcome = near.recv()
                    begun = True
                    if outcome is None:
                        break
                    if outcome:
                        tally.add(seed, outcome)
                elif seen == at.value:
                    problem = f"no end within {STALLED_SECONDS:g} s on the clock"
                    process.kill()
                    process.join()
                    break
                seen = at.value
        except EOFError:
            process.join()
            if not begun:
                raise RuntimeError(f"{name}: the valid files cannot be read") from None
            problem = f"the process died with exit code {process.exitcode}"
        process.join()
        if problem:
            tally.add(at.value, problem)
            say(f"{name}: seed {at.value}: {problem}")
            at.value += 1
        if not problem:
            break
    return tally


def _work(connection: Any, name: str, seeds: range, at: Any) -> None:
    """Run trials in this process, and send each outcome."""
    from fuzz.readers import READERS

    with bench(READERS[name]) as place:
        connection.send((seeds.start, ""))
        for seed in seeds:
            at.value = seed
            connection.send((seed, place.trial(seed)))
        connection.send((seeds.stop, None))


@contextmanager
def bench(reader: Reader) -> Iterator[Bench]:
    """Yield a bench in a temporary folder, in a process with limited memory."""
    with tempfile.TemporaryDirectory(prefix="kerasbn-fuzz-", dir=IN_MEMORY) as name:
        folder, old = Path(name) / "bench", (Path.cwd(), tempfile.tempdir)
        folder.mkdir()
        os.chdir(folder)
        tempfile.tempdir = str(folder)
        limits = resource.getrlimit(resource.RLIMIT_AS)
        try:
            place = Bench(reader, folder)
            addresses = int(Path("/proc/self/statm").read_text().split()[0]) * 4096
            resource.setrlimit(resource.RLIMIT_AS, (addresses + MOST_ADDRESSES, limits[1]))
            with closing(place):
                yield place
        finally:
            resource.setrlimit(resource.RLIMIT_AS, limits)
            os.chdir(old[0])
            tempfile.tempdir = old[1]


def _judge_message(message: str, path: str) -> str:
    text = message.replace(path, "")
    odd = {f"U+{ord(c):04X}" for c in _CONTROL.findall(text)}
    if odd:
        return f"a message with {', '.join(sorted(odd))}: {json.dumps(text)[:300]}"
    if len(text) > LONGEST_MESSAGE:
        return f"a message of {len(text):,} characters: {text[:300]}"
    return REFUSED if text.strip() else "an empty message"


_CONTROL = re.compile("[\0-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")  # Cc, Zl, Zp and Cs


def _describe(error: BaseException) -> str:
    """Return an error and where in the product it was raised."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [each for each in frames if "/lib/python" not in each.filename]
    text = " ".join(str(error).split())[:200]
    return f"{type(error).__name__} in {Path(own[-1].filename).name}:{own[-1].name}: {text}"


@contextmanager
def _time_limit(seconds: float) -> Iterator[None]:
    """Raise `TooSlowError` once the block used so much processor time."""

    def stop(*_: object) -> None:
        raise TooSlowError

    old = signal.signal(signal.SIGPROF, stop)
    signal.setitimer(signal.ITIMER_PROF, seconds, 0.1)  # again, if a library took it for its own
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, old)


def _peak() -> int:
    """Return the most memory since the last reset, in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _walk(folder: Path) -> Iterator[os.DirEntry[str]]:
    with os.scandir(folder) as entries:
        for entry in entries:
            yield entry
            if entry.is_dir(follow_symlinks=False):
                yield from _walk(Path(entry.path))
