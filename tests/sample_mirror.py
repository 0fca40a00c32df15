"""Small files that stand in for MNIST's, and a local server that they are downloaded from."""

import gzip
import hashlib
import json
import struct
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import numpy as np

from kerasbn.data import datasets, download
from kerasbn.data.idx import MNIST, IdxFile

Answer = Callable[[BaseHTTPRequestHandler, bytes], None]
RECORD = "mirror.json"


def write_files(folder: Path, counts: Sequence[int]) -> tuple[tuple[IdxFile, ...], str]:
    """Write four gzipped IDX files of so many examples; return them and the digest of their data.

    The images are noise, which compression does not make smaller.
    """
    random, files, digest = np.random.default_rng(7), [], hashlib.sha256()
    for file, count in zip(MNIST, counts, strict=True):
        shape = (count, *file.shape[1:])
        header = struct.pack(f">BBBB{len(shape)}I", 0, 0, 8, len(shape), *shape)
        values = random.integers(0, 10 if len(shape) == 1 else 256, shape, np.uint8).tobytes()
        digest.update(values)
        gzipped = gzip.compress(header + values, mtime=0)
        (folder / f"{file.name}.gz").write_bytes(gzipped)
        sha256, gzip_sha256 = (
            hashlib.sha256(each).hexdigest() for each in (header + values, gzipped)
        )
        files.append(IdxFile(file.name, shape, sha256, len(gzipped), gzip_sha256))
    return tuple(files), digest.hexdigest()


@contextmanager
def served(folder: Path, answer: Answer) -> Iterator[str]:
    """Yield the URL of a server that answers each request with the content of a file."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            answer(self, (folder / self.path.lstrip("/")).read_bytes())

        def log_message(self, *_: object) -> None:
            """Print nothing."""

    class Server(ThreadingHTTPServer):
        def handle_error(self, *_: object) -> None:
            """Print nothing about a client that has gone."""

    server = Server(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    Thread(target=server.serve_forever, args=[0.02], daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/"
    finally:
        server.shutdown()
        server.server_close()


def send(handler: BaseHTTPRequestHandler, content: bytes, length: int | None = None) -> None:
    """Answer with `content`, or with the beginning of a content of some length."""
    handler.send_response(200)
    handler.send_header("Content-Length", str(len(content) if length is None else length))
    handler.end_headers()
    handler.wfile.write(content)


def record_mirror(folder: Path, url: str, files: Sequence[IdxFile]) -> None:
    """Write what `use_recorded_mirror` reads in a process that starts in `folder`."""
    record = {"url": url, "files": [asdict(file) for file in files]}
    (folder / RECORD).write_text(json.dumps(record))


def use_recorded_mirror() -> None:
    """Take the files of a mirror for MNIST's in this process."""
    record = json.loads(Path(RECORD).read_text())
    files = tuple(IdxFile(**each | {"shape": tuple(each["shape"])}) for each in record["files"])
    vars(datasets)["MNIST"], vars(download)["MIRRORS"] = files, (record["url"],)
