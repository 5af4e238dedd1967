"""The AsyncAPI document: its form, its references, and that it agrees with models and code."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator

from schemas import asyncapi, cloudevents, files
from worker.settings import KafkaSettings

DOCUMENT: dict[str, Any] = yaml.safe_load(files.ASYNCAPI.read_text(encoding="utf-8"))
MESSAGES: dict[str, Any] = DOCUMENT["components"]["messages"]
ROOT_FIELDS = {
    *("asyncapi", "id", "info", "defaultContentType"),
    *("servers", "channels", "operations", "components"),
}


def walk(value: Any, path: str = "#") -> Iterator[tuple[str, dict[str, Any]]]:
    if isinstance(value, dict):
        yield path, value
    entries = value.items() if isinstance(value, dict) else enumerate(value)
    for key, inner in entries:
        if isinstance(inner, dict | list):
            yield from walk(inner, f"{path}/{key}")


def resolve(reference: str) -> Any:
    target: Any = DOCUMENT
    for part in reference.removeprefix("#/").split("/"):
        target = target[part]
    return target


def test_root() -> None:
    assert DOCUMENT["asyncapi"] == "3.0.0"
    assert set(DOCUMENT) <= ROOT_FIELDS
    assert {"title", "version"} <= set(DOCUMENT["info"])
    assert all({"host", "protocol"} <= set(server) for server in DOCUMENT["servers"].values())


def test_every_reference_leads_somewhere() -> None:
    references = [(path, each["$ref"]) for path, each in walk(DOCUMENT) if "$ref" in each]
    assert references
    for path, reference in references:
        assert reference.startswith("#/"), path
        assert isinstance(resolve(reference), dict), path


def test_channels_are_the_topics_of_the_worker() -> None:
    topics = KafkaSettings().topics
    assert {channel["address"] for channel in DOCUMENT["channels"].values()} == {
        topics.queries,
        topics.results,
        topics.feedback,
        topics.dead_letters,
    }
    for channel in DOCUMENT["channels"].values():
        assert channel["messages"]
        assert channel["bindings"]["kafka"]["topic"] == channel["address"]


def test_operations_name_messages_of_their_own_channel() -> None:
    for name, operation in DOCUMENT["operations"].items():
        assert operation["action"] in ("send", "receive"), name
        for part in (operation, operation.get("reply")):
            if part is not None:
                channel = part["channel"]["$ref"]
                # The specification asks for references into the channel, not into components.
                assert all(
                    each["$ref"].startswith(f"{channel}/messages/") for each in part["messages"]
                ), name


def test_every_message_is_sent_and_every_channel_is_written_by_somebody() -> None:
    sent = {
        resolve(message["$ref"])["$ref"].rsplit("/", 1)[1]
        for operation in DOCUMENT["operations"].values()
        if operation["action"] == "send"
        for message in operation["messages"]
    }
    assert sent == set(MESSAGES)
    parties = {operation["tags"][0]["name"] for operation in DOCUMENT["operations"].values()}
    assert {"application", "worker", "annotator"} <= parties


def test_schema_keywords_are_those_of_the_dialect_that_asyncapi_takes() -> None:
    """Without `schemaFormat`, schemas are read as JSON Schema draft 7 and its extensions."""
    newer = {"$defs", "prefixItems", "unevaluatedProperties", "dependentRequired", "discriminator"}
    for path, each in walk(DOCUMENT["components"]["schemas"]):
        assert not newer & set(each), path


@pytest.mark.parametrize("name", [name for name in MESSAGES if name != "deadLetter"])
def test_examples_and_headers_of_a_message_fit(name: str) -> None:
    message = MESSAGES[name]
    assert {"headers", "payload", "correlationId", "bindings", "examples"} <= set(message)
    assert message["bindings"]["kafka"]["key"]["type"] == "string"
    payload = Draft202012Validator({**message["payload"], "components": DOCUMENT["components"]})
    for example in message["examples"]:
        payload.validate(example["payload"])
    headers = cloudevents.headers("1", message["name"], "/kafka-reranker", 0.0)
    as_text = {key: value.decode() for key, value in headers.items()}
    trace = {"traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"}
    valid = Draft202012Validator(message["headers"])
    valid.validate({**as_text, **trace})
    assert not valid.is_valid({**as_text, "ce_type": "another"})
    assert set(as_text) | set(trace) <= set(message["headers"]["properties"])


def test_payloads_are_the_committed_schemas() -> None:
    """The same models in two files: apart from where references lead, they are equal."""
    published = {"query": "query-event", "rankedList": "ranked-list", "impression": "impression"}
    for message, name in {**published, "click": "click", "judgement": "judgement"}.items():
        text = (files.JSON / f"{name}.schema.json").read_text(encoding="utf-8")
        own = json.loads(text.replace("#/$defs/", "#/components/schemas/"))
        there = resolve(MESSAGES[message]["payload"]["$ref"])
        assert there == {key: own[key] for key in there}


def test_it_is_made_anew_in_the_same_way() -> None:
    assert asyncapi.document() == asyncapi.document() == DOCUMENT
