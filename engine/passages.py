"""Long documents in passages: which tokens each one has."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Passages:
    """A document is read as at most `most` passages that share `overlap` tokens with the next.

    Its score is the best passage's. With `most` 1 only what fits into one is read.
    """

    most: int = 1
    overlap: int = 0


ONE_PASSAGE = Passages()


def cut(tokens: int, room: int, passages: Passages, *, from_end: bool = False) -> list[slice]:
    """Return the passages of a document of so many tokens, each of at most `room`, in its order.

    What is beyond the last passage is left out; before the first, where it is read `from_end`.
    An empty document is one empty passage. `overlap` is taken as at most half of the room.
    """
    if from_end:
        return [
            slice(tokens - each.stop, tokens - each.start)
            for each in reversed(cut(tokens, room, passages))
        ]
    step = room - min(passages.overlap, room // 2)
    found = [slice(0, min(room, tokens))]
    while len(found) < passages.most and found[-1].stop < tokens:
        start = found[-1].start + step
        found.append(slice(start, min(start + room, tokens)))
    return found
