import pytest

from demo.__main__ import main
from tests.services.process import free_ports


@pytest.fixture(autouse=True)
def made_already(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("demo.__main__.make_all", lambda folder, console: None)


def test_a_kafka_that_is_not_there(capsys: pytest.CaptureFixture[str]) -> None:
    (port,) = free_ports(1)
    assert main(["--kafka", f"127.0.0.1:{port}"]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"demo: Kafka at 127.0.0.1:{port} can't be used")
    assert "--kafka" in line


@pytest.mark.parametrize("url", ["redis://127.0.0.1:{port}", "http://127.0.0.1:{port}"])
def test_a_redis_that_is_not_there(capsys: pytest.CaptureFixture[str], url: str) -> None:
    (port,) = free_ports(1)
    assert main(["--redis", url.format(port=port)]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("demo: Redis does not answer")
    assert "--redis" in line


@pytest.mark.parametrize("count", ["0", "-1", "many", "1000"])
def test_a_wrong_number_of_questions(capsys: pytest.CaptureFixture[str], count: str) -> None:
    with pytest.raises(SystemExit) as ended:
        main([f"--questions={count}"])
    assert ended.value.code == 2
    assert "must be a number from 1 to" in capsys.readouterr().err
