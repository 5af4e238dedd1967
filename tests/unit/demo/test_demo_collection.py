"""The demo's questions as a test collection."""

from pathlib import Path

from demo.collection import ANSWERS, write_collection
from demo.corpus import Places
from demo.questions import ONE_BY_ONE, QUESTIONS
from export.corpus import open_collection, read_corpus


def test_every_question_has_an_answer_in_the_corpus(tmp_path: Path) -> None:
    count = write_collection(tmp_path, Places.of_this_python())
    collection = open_collection(tmp_path)
    assert len(collection.queries) == len(ANSWERS) == len(QUESTIONS) + len(ONE_BY_ONE)
    assert collection.judgements.keys() == collection.queries.keys()
    assert sum(map(len, collection.judgements.values())) == count
    ids = {document.doc_id for document in read_corpus(collection.corpus)}
    assert all(doc_id in ids for grades in collection.judgements.values() for doc_id in grades)
