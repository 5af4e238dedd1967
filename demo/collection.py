"""The demo's questions as a test collection: `python -m demo.collection --out DIR`.

Documentation is a domain of its own. The folder is BEIR's, so that `python -m export evaluate` and
`python -m training fuse` read it: the demo's corpus of docstrings, its questions, and who answers
them by our own judgement. Not every right answer among ten thousand docstrings is known, so
figures compare orders with each other, and say little by themselves.
"""

import argparse
import json
import sys
from collections.abc import Iterable
from pathlib import Path

from demo.corpus import Places, read_texts, write_corpus
from demo.questions import ONE_BY_ONE, QUESTIONS

# Of each question, in their order; a long docstring's passages all count.
ANSWERS = (
    "difflib.SequenceMatcher.ratio difflib.SequenceMatcher difflib",
    "subprocess.getoutput subprocess.getstatusoutput subprocess.check_output "
    "subprocess.run subprocess",
    "heapq.nlargest",
    "functools.lru_cache functools.cache",
    "pathlib.Path.read_text",
    "shutil.rmtree",
    "datetime.datetime.strptime datetime.datetime.fromisoformat datetime.date.fromisoformat",
    "asyncio.tasks.gather asyncio.tasks.wait asyncio.taskgroups.TaskGroup",
    "collections.Counter list.count operator.countOf",
    "secrets",
    "urllib.parse.urlsplit urllib.parse.urlparse",
    "threading.Lock threading.RLock threading.Condition threading.Semaphore "
    "multiprocessing.context.BaseContext.Lock asyncio.locks.Lock",
    "tempfile.NamedTemporaryFile tempfile.TemporaryFile",
    "ipaddress.IPv4Address.is_private ipaddress.IPv6Address.is_private",
    "bisect.insort_right bisect.insort_left",
    "pprint pprint.pprint pprint.PrettyPrinter.__init__ pprint.pformat",
    "filecmp.cmp filecmp filecmp.cmpfiles difflib.unified_diff",
    "asyncio.timeouts.timeout asyncio.tasks.wait_for asyncio.timeouts.timeout_at",
    "re.sub re.subn",
    "statistics.median",
    "csv.DictReader csv",
    "timeit timeit.timeit",
    "textwrap.dedent",
    "copy.deepcopy copy",
    "smtplib.SMTP_SSL smtplib.SMTP.starttls",
    "os.walk pathlib.Path.rglob pathlib.Path.walk",
    "html.escape",
    "argparse argparse.ArgumentParser optparse",
    "hashlib.file_digest hashlib",
    "logging.handlers.RotatingFileHandler logging.handlers.RotatingFileHandler.__init__ "
    "logging.handlers.TimedRotatingFileHandler",
    "datetime.date.weekday datetime.date.isoweekday calendar.weekday",
    "zipfile.ZipFile.extract zipfile.ZipFile.extractall shutil.unpack_archive",
    "random.Random.shuffle",
    "os.getenv",
    "multiprocessing.shared_memory multiprocessing.shared_memory.SharedMemory",
    "base64.b64encode base64.encodebytes base64.standard_b64encode",
    "decimal.Decimal decimal",
    "posixpath.commonprefix genericpath.commonprefix posixpath.commonpath ntpath.commonpath",
)


def write_collection(out: Path, places: Places) -> int:
    """Write corpus, questions and judgements to a folder; returns how many judgements there are."""
    write_corpus(out / "corpus.jsonl", places)
    questions = (*QUESTIONS, *ONE_BY_ONE)
    lines = [{"_id": f"d{n}", "text": question} for n, question in enumerate(questions)]
    _write(out / "queries.jsonl", (json.dumps(line) for line in lines))
    rows = list(_judgements(read_texts(out / "corpus.jsonl")))
    _write(out / "qrels.tsv", ["query-id\tcorpus-id\tscore", *rows])
    return len(rows)


def _judgements(doc_ids: Iterable[str]) -> Iterable[str]:
    known = list(doc_ids)
    for number, names in enumerate(ANSWERS):
        right = set(names.split())
        for doc_id in known:
            if doc_id.split("#")[0] in right:
                yield f"d{number}\t{doc_id}\t1"


def _write(path: Path, lines: Iterable[str]) -> None:
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def main(arguments: list[str]) -> int:
    """Write the collection to --out."""
    parser = argparse.ArgumentParser(prog="python -m demo.collection", description=__doc__)
    parser.add_argument("--out", type=Path, required=True, metavar="DIR")
    out = parser.parse_args(arguments).out
    count = write_collection(out, Places.of_this_python())
    sys.stdout.write(f"{out}: {len(ANSWERS)} questions, {count} judgements\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
