"""Apache Kafka's jars, fetched once from Maven Central into `build/kafka/libs`."""

import fcntl
import hashlib
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.services.process import ServiceMissing

REPOSITORY = Path(__file__).resolve().parents[2]
POM = Path(__file__).with_name("pom.xml")
CACHE = REPOSITORY / "build" / "kafka"
INSTALL_HINT = "apt-get install openjdk-17-jre-headless maven"
_MIN_JAVA = 17
_FETCH_TIMEOUT_S = 600


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
