"""What a broker needs on disk, made once and kept in `build/kafka`.

`libs` holds Kafka's jars from Maven Central, `formatted` the storage of new nodes: formatting
starts a JVM, and that is a good part of a broker's start. `classes-….jsa` is the JVM's own cache.
"""

import fcntl
import hashlib
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.services.process import ServiceFailed, ServiceMissing

REPOSITORY = Path(__file__).resolve().parents[2]
POM = Path(__file__).with_name("pom.xml")
CACHE = REPOSITORY / "build" / "kafka"
INSTALL_HINT = "apt-get install openjdk-17-jre-headless maven"
_MIN_JAVA = 17
_FETCH_TIMEOUT_S = 600
_CLUSTER_ID = "cmVyYW5rZXItdGVzdGluZw"  # Any 16 bytes in base64 without padding.
# The client compiler alone: brokers of tests live for seconds, and start with half the CPU time.
QUICK_START = ("-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-Xshare:auto")


def find_java() -> str:
    """The path of a Java that runs Kafka 4.

    Raises:
        ServiceMissing: there is none, or it is too old.
    """
    java = shutil.which("java")
    if java is None:
        raise ServiceMissing(f"Kafka needs Java {_MIN_JAVA}, which is not here: {INSTALL_HINT}")
    version = _java_version(java)
    if version < _MIN_JAVA:
        raise ServiceMissing(
            f"Kafka needs Java {_MIN_JAVA}, and {java} is Java {version}: {INSTALL_HINT}"
        )
    return java


def _java_version(java: str) -> int:
    said = subprocess.run([java, "-version"], capture_output=True, text=True, check=False)
    match = re.search(r'version "(\d+)', said.stderr)
    return int(match.group(1)) if match else 0


def find_jars() -> Path:
    """The folder with Kafka's jars; fetches them when they are not there yet.

    Several test runs may ask at once: one fetches, the others wait.

    Raises:
        ServiceMissing: Maven is not here, or can't reach its repository.
    """
    CACHE.mkdir(parents=True, exist_ok=True)
    libs = CACHE / "libs"
    wanted = hashlib.sha256(POM.read_bytes()).hexdigest()
    with _locked(CACHE / "lock"):
        if _stamp(libs) != wanted:
            _fetch(libs, wanted)
    return libs


def format_storage(java: str, libs: Path, properties: Path, arguments: Sequence[str]) -> None:
    """Formats a node's storage as its properties file says.

    Raises:
        ServiceFailed: Kafka refuses the properties.
    """
    command = [java, *QUICK_START, "-cp", f"{libs}/*", "kafka.tools.StorageTool", "format"]
    command += ["-t", _CLUSTER_ID, "-c", str(properties), *arguments]
    done = subprocess.run(
        command, cwd=properties.parent, capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        said = "\n".join((done.stdout + done.stderr).splitlines()[-10:])
        raise ServiceFailed(f"Kafka's storage could not be formatted:\n{said}")


def new_storage(java: str, libs: Path, node_id: int, properties: str, data: Path) -> None:
    """A copy of the storage of a node with this id that has never run.

    It depends on nothing but the id and Kafka's version, so that one is made and copied from then
    on. `properties` must name `data`, and must not change the format.
    """
    kept = CACHE / "formatted" / _stamp(libs)[:16] / f"node-{node_id}"
    with _locked(CACHE / "lock"):
        if not kept.exists():
            with tempfile.TemporaryDirectory(dir=CACHE, prefix="format-") as name:
                made = Path(name) / "data"
                file = Path(name) / "server.properties"
                file.write_text(properties.replace(str(data), str(made)), encoding="utf-8")
                format_storage(java, libs, file, ())
                kept.parent.mkdir(parents=True, exist_ok=True)
                made.rename(kept)
    shutil.copytree(kept, data)


def class_archive(java: str, libs: Path) -> Path:
    """Where the JVM's class data of a broker that has run are kept, if they are kept yet.

    A JVM that starts from them takes half the CPU time; one that can't use them ignores them.
    """
    runtime = hashlib.sha256(f"{Path(java).resolve()} {_stamp(libs)}".encode()).hexdigest()
    return CACHE / f"classes-{runtime[:16]}.jsa"


def _stamp(libs: Path) -> str:
    stamp = libs / "pom.sha256"
    return stamp.read_text(encoding="ascii") if stamp.exists() else ""


def _fetch(libs: Path, stamp: str) -> None:
    maven = shutil.which("mvn")
    if maven is None:
        raise ServiceMissing(f"Kafka's jars need Maven, which is not here: {INSTALL_HINT}")
    with tempfile.TemporaryDirectory(dir=CACHE, prefix="fetch-") as name:
        work = Path(name)
        shutil.copy(POM, work / "pom.xml")
        _run_maven(maven, work)
        (work / "libs" / "pom.sha256").write_text(stamp, encoding="ascii")
        # The folder appears whole or not at all.
        shutil.rmtree(libs, ignore_errors=True)
        (work / "libs").rename(libs)


def _run_maven(maven: str, work: Path) -> None:
    command = [maven, "-q", "-B", "dependency:copy-dependencies", "-DoutputDirectory=libs"]
    try:
        done = subprocess.run(
            command, cwd=work, capture_output=True, text=True, check=False, timeout=_FETCH_TIMEOUT_S
        )
    except subprocess.TimeoutExpired as error:
        raise ServiceMissing(
            f"Maven did not fetch Kafka's jars within {_FETCH_TIMEOUT_S} s"
        ) from error
    if done.returncode != 0:
        said = "\n".join((done.stdout + done.stderr).splitlines()[:5])
        raise ServiceMissing(f"Maven could not fetch Kafka's jars: {said}")


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
