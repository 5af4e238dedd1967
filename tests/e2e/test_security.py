"""TLS, SASL and ACLs on a real broker and a real Redis, and secrets that stay where they are."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from redis import Redis

from schemas.events import RankedList
from tests.checker import Outgoing, assert_exactly_once, produce, wait_for_count
from tests.conftest import missing
from tests.services.certificates import HOST, Certificates, TokenIssuer
from tests.services.kafka import KafkaCluster
from tests.services.process import ServiceMissing, ServiceProcess, await_condition, free_ports
from tests.services.topics import Topics, create_topics
from tests.services.worker import REPOSITORY, WorkerProcess, settings_for
from tests.unit.tiny_retrieval import write_counting_model
from worker.errors import EXIT_CONFIG

PASSWORD = "planted-password-of-the-user"
REDIS_PASSWORD = "planted-password-of-redis"
KEY_PASSWORD = "planted-password-of-the-key"
KAFKA = "RERANKER_KAFKA__"
DEBUG = {"RERANKER_LOG__LEVEL": "debug"}
Start = Callable[[Mapping[str, str]], WorkerProcess]
OAUTH = "org.apache.kafka.common.security.oauthbearer"
# A start that fails must say so within half a minute; the rest is for a busy machine.
START_LIMIT_S = 240


@dataclass(frozen=True)
class Secured:
    """A cluster with a listener for each way in, and what clients need."""

    cluster: KafkaCluster
    certificates: Certificates
    strangers: Certificates
    tokens: TokenIssuer
    folder: Path
    planted: list[str] = field(default_factory=lambda: [PASSWORD, REDIS_PASSWORD, KEY_PASSWORD])

    def token_file(self, token: str) -> str:
        """A file with a token, which from now on is a secret."""
        self.planted.append(token.rsplit(".", 1)[1])
        path = self.folder / f"token-{len(self.planted)}"
        path.write_text(token)
        return str(path)

    def settings(self, kind: str) -> dict[str, str]:
        """What a worker of that kind needs to come in."""
        common = {
            f"{KAFKA}BOOTSTRAP_SERVERS": self.cluster.bootstrap_of(kind),
            f"{KAFKA}SSL_CAFILE": str(self.certificates.authority),
        }
        if kind == "MTLS":
            client = {f"{KAFKA}SSL_CERTFILE": str(self.certificates.client)}
            return {**common, **client, f"{KAFKA}SECURITY_PROTOCOL": "SSL"}
        sasl = {**common, f"{KAFKA}SECURITY_PROTOCOL": "SASL_SSL"}
        if kind == "SCRAM":
            user = {
                f"{KAFKA}SASL_USERNAME": "worker",
                f"{KAFKA}SASL_PASSWORD": PASSWORD,
            }
            return {**sasl, **user, f"{KAFKA}SASL_MECHANISM": "SCRAM-SHA-512"}
        token = {f"{KAFKA}SASL_OAUTH_TOKEN_FILE": self.token_file(self.tokens.token())}
        return {**sasl, **token, f"{KAFKA}SASL_MECHANISM": "OAUTHBEARER"}


def listener(name: str, **properties: str) -> dict[str, str]:
    prefix = f"listener.name.{name.lower()}."
    return {prefix + key.replace("_", "."): value for key, value in properties.items()}


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secured]:
    folder = tmp_path_factory.mktemp("secured")
    certificates = Certificates.make(folder)
    tokens = TokenIssuer(folder)
    tls = {
        "ssl_keystore_type": "PEM",
        "ssl_keystore_location": str(certificates.server),
        "ssl_truststore_type": "PEM",
        "ssl_truststore_location": str(certificates.authority),
    }
    keys_url = tokens.keys.as_uri()
    properties = {
        **listener("MTLS", **tls, ssl_client_auth="required"),
        **listener("SCRAM", **tls, sasl_enabled_mechanisms="SCRAM-SHA-512"),
        "listener.name.scram.scram-sha-512.sasl.jaas.config": (
            "org.apache.kafka.common.security.scram.ScramLoginModule required;"
        ),
        **listener("OAUTH", **tls, sasl_enabled_mechanisms="OAUTHBEARER"),
        "listener.name.oauth.oauthbearer.sasl.jaas.config": (
            f"{OAUTH}.OAuthBearerLoginModule required;"
        ),
        "listener.name.oauth.oauthbearer.sasl.server.callback.handler.class": (
            f"{OAUTH}.OAuthBearerValidatorCallbackHandler"
        ),
        "listener.name.oauth.oauthbearer.sasl.oauthbearer.jwks.endpoint.url": keys_url,
        "listener.name.oauth.oauthbearer.sasl.oauthbearer.expected.audience": "kafka",
    }
    cluster = KafkaCluster(
        listeners={"MTLS": "SSL", "SCRAM": "SASL_SSL", "OAUTH": "SASL_SSL"},
        extra_properties=properties,
        format_arguments=["--add-scram", f"SCRAM-SHA-512=[name=worker,password={PASSWORD}]"],
        jvm_options=[f"-Dorg.apache.kafka.sasl.oauthbearer.allowed.urls={keys_url}"],
    )
    try:
        cluster.start()
    except ServiceMissing as error:
        missing(str(error))
    strangers = Certificates.make(folder, "strangers")
    yield Secured(cluster, certificates, strangers, tokens, folder)
    cluster.stop()


@pytest.fixture(scope="module")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_counting_model(tmp_path_factory.mktemp("bundles"), "file")


def event(number: int, text: str = "a file") -> Outgoing:
    name = f"q-{number}"
    candidates = [{"doc_id": "a", "text": "nothing"}, {"doc_id": "b", "text": text}]
    value = json.dumps({"query_id": name, "query": "file", "candidates": candidates})
    return Outgoing(name.encode(), value.encode())


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[[Mapping[str, str]], WorkerProcess]]:
    """Starts workers whose secrets are files; they end with the test."""
    started: list[WorkerProcess] = []

    def run(settings: Mapping[str, str]) -> WorkerProcess:
        secrets = tmp_path / "secrets"
        secrets.mkdir()
        plain = dict(settings)
        for name in (f"{KAFKA}SASL_PASSWORD", "RERANKER_REDIS__URL"):
            if name in plain:
                (secrets / name).write_text(plain.pop(name))
        plain["RERANKER_SECRETS_DIR"] = str(secrets)
        started.append(WorkerProcess(tmp_path, "worker", plain))
        return started[-1].start()

    yield run
    for worker in started:
        worker.process.terminate()


def assert_no_secret(secrets: list[str], **places: str) -> None:
    for name, text in places.items():
        assert text, f"{name} is empty: nothing was looked at"
        for secret in secrets:
            assert secret not in text, f"a secret stands in {name}"


def everything_said(worker: WorkerProcess, letters: str) -> dict[str, str]:
    command = Path(f"/proc/{worker.process.pid}/cmdline").read_bytes().decode(errors="replace")
    return {
        "log": worker.log(),
        "metrics": worker.metrics(),
        "command line": command,
        "letters": letters,
    }


@pytest.mark.parametrize("kind", ["MTLS", "SCRAM", "OAUTH"])
def test_a_worker_comes_in(secured: Secured, tiny_model: Path, start: Start, kind: str) -> None:
    """And says no secret anywhere, with the level of logs that says most."""
    names = create_topics(secured.cluster)
    bootstrap = secured.cluster.bootstrap_servers
    produce(bootstrap, names.queries, [event(1), Outgoing(b"bad", b"{"), event(2)])

    worker = start({**settings_for("", names, tiny_model), **secured.settings(kind), **DEBUG})
    results = wait_for_count(bootstrap, names.results, 2)
    letters = wait_for_count(bootstrap, names.dead_letters, 1)
    said = everything_said(worker, repr(letters))
    worker.process.terminate()

    assert_exactly_once(["q-1", "q-2"], results)
    assert RankedList.model_validate_json(results[0].value or b"").ranking[0].doc_id == "b"
    assert worker.process.exit_code == 0, worker.log()
    assert_no_secret(secured.planted, **said)


def wrong_password(secured: Secured) -> dict[str, str]:
    secured.planted.append("planted-wrong-password")
    return {**secured.settings("SCRAM"), f"{KAFKA}SASL_PASSWORD": "planted-wrong-password"}


def expired_token(secured: Secured) -> dict[str, str]:
    token = secured.token_file(secured.tokens.token(lives_s=-1))
    return {**secured.settings("OAUTH"), f"{KAFKA}SASL_OAUTH_TOKEN_FILE": token}


def forged_token(secured: Secured) -> dict[str, str]:
    folder = secured.folder / "forger"
    folder.mkdir()
    token = secured.token_file(TokenIssuer(folder).token())
    return {**secured.settings("OAUTH"), f"{KAFKA}SASL_OAUTH_TOKEN_FILE": token}


def no_token_file(secured: Secured) -> dict[str, str]:
    return {**secured.settings("OAUTH"), f"{KAFKA}SASL_OAUTH_TOKEN_FILE": "/nowhere/token"}


def unknown_authority(secured: Secured) -> dict[str, str]:
    return {
        **secured.settings("SCRAM"),
        f"{KAFKA}SSL_CAFILE": str(secured.strangers.authority),
    }


def stranger(secured: Secured) -> dict[str, str]:
    return {
        **secured.settings("MTLS"),
        f"{KAFKA}SSL_CERTFILE": str(secured.strangers.client),
    }


def no_certificate(secured: Secured) -> dict[str, str]:
    settings = secured.settings("MTLS")
    del settings[f"{KAFKA}SSL_CERTFILE"]
    return settings


def without_tls(secured: Secured) -> dict[str, str]:
    return {**secured.settings("SCRAM"), f"{KAFKA}SECURITY_PROTOCOL": "SASL_PLAINTEXT"}


@pytest.mark.parametrize(
    "wrong",
    [
        wrong_password,
        expired_token,
        forged_token,
        no_token_file,
        unknown_authority,
        stranger,
        no_certificate,
        without_tls,
    ],
)
def test_wrong_credentials_are_one_line_without_the_secret(
    secured: Secured, tiny_model: Path, wrong: Callable[[Secured], Mapping[str, str]]
) -> None:
    names = Topics("q", "r", "f", "d", "g")
    settings = {**settings_for("", names, tiny_model), **wrong(secured)}
    settings |= {"RERANKER_HTTP__PORT": "0", "RERANKER_HTTP__HOST": HOST}
    clean = {name: value for name, value in os.environ.items() if not name.startswith("RERANKER_")}

    done = subprocess.run(
        [sys.executable, "-m", "worker"],
        cwd=REPOSITORY,
        env={**clean, **settings},
        capture_output=True,
        text=True,
        timeout=START_LIMIT_S,
        check=False,
    )

    assert done.returncode == EXIT_CONFIG, done.stderr
    assert done.stderr.count("\n") == 1, done.stderr
    assert done.stderr.startswith("kafka-reranker: ")
    assert "kafka." in done.stderr
    assert_no_secret(secured.planted, error=done.stderr)
    assert done.stdout == ""


# What the user of a worker's Redis may do, and no more (docs/security.md).
ACL = "resetkeys ~kr:* resetchannels -@all +mget +set +ping +hello +auth +select"


@pytest.fixture
def secured_redis(tmp_path: Path) -> Iterator[tuple[int, Certificates]]:
    program = shutil.which("redis-server")
    if program is None:
        missing("redis-server is not here: apt-get install redis-server")
    certificates = Certificates.make(tmp_path, "redis")
    (port,) = free_ports(1)
    users = tmp_path / "users.acl"
    users.write_text(
        f"user default on >{PASSWORD} ~* &* +@all\nuser worker on >{REDIS_PASSWORD} {ACL}\n"
    )
    command = [program, "--port", "0", "--tls-port", str(port), "--bind", HOST, "--save", ""]
    command += ["--tls-cert-file", str(certificates.server), "--aclfile", str(users)]
    command += ["--tls-key-file", str(certificates.server), "--tls-auth-clients", "no"]
    command += ["--tls-ca-cert-file", str(certificates.authority), "--dir", str(tmp_path)]
    server = ServiceProcess("redis-server", command, tmp_path)
    server.start()
    try:
        await_condition(
            lambda: "Ready to accept connections" in server.log_tail(),
            120,
            lambda: server.describe("is not ready"),
        )
        yield port, certificates
    finally:
        server.kill()


@pytest.mark.parametrize("password", [REDIS_PASSWORD, "planted-wrong-password"])
def test_redis_with_tls_and_a_user_of_few_rights(
    kafka: KafkaCluster,
    topics: Callable[..., Topics],
    tiny_model: Path,
    start: Start,
    secured_redis: tuple[int, Certificates],
    password: str,
) -> None:
    """The cache is used; with a wrong password it is not, and the ranking is the same."""
    port, certificates = secured_redis
    ca = f"ssl_ca_certs={certificates.authority}"
    names = topics()
    url = f"rediss://worker:{password}@{HOST}:{port}/0?{ca}"
    settings = settings_for(kafka.bootstrap_servers, names, tiny_model, redis_url=url)

    worker = start({**settings, **DEBUG, "RERANKER_REDIS__TIMEOUT_MS": "60000"})
    produce(kafka.bootstrap_servers, names.queries, [event(1)])
    wait_for_count(kafka.bootstrap_servers, names.results, 1)
    produce(kafka.bootstrap_servers, names.queries, [event(2), Outgoing(b"bad", b"{")])
    results = wait_for_count(kafka.bootstrap_servers, names.results, 2)
    letters = wait_for_count(kafka.bootstrap_servers, names.dead_letters, 1)
    said = everything_said(worker, repr(letters))

    lists = [RankedList.model_validate_json(record.value or b"") for record in results]
    right = password == REDIS_PASSWORD
    assert lists[0].ranking == lists[1].ranking
    assert lists[1].cache.hits == (2 if right else 0)
    with Redis.from_url(f"rediss://:{PASSWORD}@{HOST}:{port}/0?{ca}") as admin:
        assert admin.dbsize() == (2 if right else 0)
    assert_no_secret([PASSWORD, REDIS_PASSWORD, password], **said)


def test_the_port_serves_its_three_paths_and_no_more(
    kafka: KafkaCluster, topics: Callable[..., Topics], tiny_model: Path, start: Start
) -> None:
    worker = start(settings_for(kafka.bootstrap_servers, topics(), tiny_model))
    assert [worker.get(path) for path in ("/livez", "/readyz", "/metrics")] == [200] * 3
    others = ["/", "/metrics/", "/livez/..", "/debug", "/../etc/passwd", "/%2e%2e"]
    assert [worker.get(path) for path in others] == [404] * len(others)
