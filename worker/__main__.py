"""`python -m worker`: run it, rank lines without Kafka, replay dead letters, verify bundles."""

import argparse
import os
import signal
import sys
import threading
from collections.abc import Sequence
from typing import NoReturn

from worker.build import build_loop
from worker.errors import FatalError
from worker.flags import read_settings
from worker.lines import rank_lines
from worker.logs import configure_logs
from worker.loop import Loop
from worker.verify import main as verify

DESCRIPTION = """\
Rerank query events from Kafka with a cross-encoder, exactly once.

  python -m worker --model-bundle build/model --index-bundle build/index
  python -m worker rank --model-bundle build/model < queries.jsonl
  python -m worker replay --help
  python -m worker verify --help

Every setting is a flag, an environment variable (--kafka.group-id is RERANKER_KAFKA__GROUP_ID)
or a line of the TOML file that RERANKER_SETTINGS_FILE names; flags win, then the environment.
Secrets are no flags: they come from the environment, or from files in RERANKER_SECRETS_DIR.
"""

RANK_DESCRIPTION = """\
Read query events as JSON lines from standard input, write ranked lists to standard output.

  echo '{"query_id": "1", "query": "how do I read a file?"}' |
    python -m worker rank --model-bundle build/model --index-bundle build/index
"""


# What Python may take to end, once all is said and done.
END_LIMIT_S = 5.0


def main(arguments: Sequence[str]) -> int:
    """Run a command and return its exit code."""
    try:
        if arguments[:1] == ["rank"]:
            return _rank(arguments[1:])
        if arguments[:1] == ["replay"]:
            from worker.replay import main as replay  # noqa: PLC0415 - the worker needs none of it

            return replay(arguments[1:])
        if arguments[:1] == ["verify"]:
            return verify(arguments[1:])
        return _run(arguments)
    except FatalError as error:
        sys.stderr.write(f"kafka-reranker: {error}\n")
        return error.exit_code
    except KeyboardInterrupt:
        return 130


def _run(arguments: Sequence[str]) -> int:
    parser = _parser("python -m worker", DESCRIPTION)
    settings = read_settings(parser, arguments)
    configure_logs(settings.log)
    loop = build_loop(settings)
    _stop_on_signals(loop)
    try:
        loop.run()
    finally:
        loop.close()
    return 0


def _rank(arguments: Sequence[str]) -> int:
    parser = _parser("python -m worker rank", RANK_DESCRIPTION)
    settings = read_settings(parser, arguments)
    configure_logs(settings.log)
    sys.stdin.reconfigure(errors="surrogateescape")  # type: ignore[union-attr]
    return rank_lines(settings, sys.stdin, sys.stdout)


def _parser(name: str, description: str) -> argparse.ArgumentParser:
    return argparse.ArgumentParser(
        prog=name,
        usage=f"{name} [--SETTING VALUE ...]",
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )


def _stop_on_signals(loop: Loop) -> None:
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: loop.stop())


def end(code: int) -> NoReturn:
    """Exit, and soon: a thread that hangs in a library must not keep a process that has ended."""
    limit = threading.Timer(END_LIMIT_S, os._exit, [code])
    limit.daemon = True
    limit.start()
    sys.exit(code)


if __name__ == "__main__":
    end(main(sys.argv[1:]))
