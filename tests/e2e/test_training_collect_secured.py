"""`training collect` on a broker with TLS and SASL: SCRAM, bearer tokens, and a bad token."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.checker import Outgoing, produce
from tests.e2e.test_security import PASSWORD, Secured, secured  # noqa: F401 - a fixture
from tests.services.topics import Topics, create_topics
from training.collect.command import collect
from training.errors import KafkaReadError
from training.plan_data import CollectPlan, KafkaPlan
from training.run_folder import RunFolder

CLICK = b'{"kind": "click", "query_id": "q-1", "doc_id": "d", "position": 1}'


@pytest.fixture(scope="module")
def names(secured: Secured) -> Topics:  # noqa: F811
    names = create_topics(secured.cluster)
    produce(secured.cluster.bootstrap_servers, names.feedback, [Outgoing(b"q-1", CLICK)])
    return names


@pytest.fixture
def plan_of(secured: Secured, names: Topics) -> Callable[..., CollectPlan]:  # noqa: F811
    def make(kind: str, **options: Any) -> CollectPlan:
        source = KafkaPlan(
            bootstrap_servers=secured.cluster.bootstrap_of(kind),
            topic=names.feedback,
            group_id=f"{names.group_id}.{kind}",
            security_protocol="SASL_SSL",
            ssl_cafile=secured.certificates.authority,
            **options,
        )
        return CollectPlan(kafka=source)

    return make


def test_a_bearer_token_comes_out_of_its_file(
    secured: Secured,  # noqa: F811
    names: Topics,
    plan_of: Callable[..., CollectPlan],
    tmp_path: Path,
) -> None:
    token = Path(secured.token_file(secured.tokens.token()))
    plan = plan_of("OAUTH", sasl_mechanism="OAUTHBEARER", sasl_oauth_token_file=token)

    found = collect(plan, RunFolder(tmp_path / "run"))

    assert found[names.feedback]["read"] == 1
    assert found["kept"]["click"] == 1


def test_user_and_password_come_out_of_the_environment(
    names: Topics,
    plan_of: Callable[..., CollectPlan],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("RERANKER_KAFKA__SASL_USERNAME", "worker")
    monkeypatch.setenv("RERANKER_KAFKA__SASL_PASSWORD", PASSWORD)

    found = collect(plan_of("SCRAM", sasl_mechanism="SCRAM-SHA-512"), RunFolder(tmp_path / "run"))

    assert found[names.feedback]["read"] == 1


def test_an_expired_token_is_one_line(
    secured: Secured,  # noqa: F811
    plan_of: Callable[..., CollectPlan],
    tmp_path: Path,
) -> None:
    token = Path(secured.token_file(secured.tokens.token(lives_s=-1)))
    options = {"sasl_mechanism": "OAUTHBEARER", "sasl_oauth_token_file": token, "timeout_s": 5}

    with pytest.raises(KafkaReadError, match="credentials") as error:
        collect(plan_of("OAUTH", **options), RunFolder(tmp_path / "run"))

    assert "\n" not in str(error.value)
    assert token.read_text() not in str(error.value)
