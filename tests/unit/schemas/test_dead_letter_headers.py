"""What the worker adds to a dead letter is what the contract says."""

import json

from jsonschema import Draft202012Validator

from schemas import files
from worker.clock import SystemClock
from worker.errors import BadRecordError
from worker.publish import Publisher
from worker.records import Partition, Record
from worker.settings import TopicSettings

EXAMPLE = files.FOLDER / "examples" / "dead-letter-headers.invalid-json.json"


def test_the_headers_are_those_of_the_example() -> None:
    expected = json.loads(EXAMPLE.read_text(encoding="utf-8"))
    publisher = Publisher(TopicSettings(), expected["dlq.worker"], "inline", SystemClock())
    record = Record(
        Partition(expected["dlq.topic"], int(expected["dlq.partition"])),
        int(expected["dlq.offset"]),
        int(expected["dlq.timestamp"]),
        key=b"\xff",
        value=b"not JSON \xff",
        headers=(("ce_id", b"1"), ("binary", b"\xff"), ("nothing", None)),
    )
    letter = publisher.dead_letter(record, BadRecordError(expected["dlq.error.message"]))
    assert (letter.key, letter.value) == (record.key, record.value)
    assert letter.headers[:3] == record.headers
    added = {name: (value or b"").decode() for name, value in letter.headers[3:]}
    assert added == expected
    schema = json.loads((files.JSON / "dead-letter-headers.schema.json").read_text("utf-8"))
    Draft202012Validator(schema).validate(added)
