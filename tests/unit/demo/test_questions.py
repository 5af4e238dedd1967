from demo.questions import ONE_BY_ONE, QUESTIONS


def test_at_least_twenty_questions_none_of_them_twice() -> None:
    assert len(QUESTIONS) >= 20
    everything = [*QUESTIONS, *ONE_BY_ONE]
    assert len(set(everything)) == len(everything)
    assert all(each.strip() == each != "" for each in everything)
