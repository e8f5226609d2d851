"""Where several texts agree, as a tree."""

from __future__ import annotations

from chat_app.chat.comparing.agreement import Fork, agreement


def test_what_all_say_then_how_they_part() -> None:
    texts = [
        ["The", " cat", " sat"],
        ["The", " cat", " ran", " off"],
        ["The", " dog"],
        ["The", " cat", " sat"],
    ]
    assert agreement(texts) == Fork(
        "The",
        (0, 1, 2, 3),
        (
            Fork(" cat", (0, 1, 3), (Fork(" sat", (0, 3)), Fork(" ran off", (1,)))),
            Fork(" dog", (2,)),
        ),
    )


def test_one_that_ends_is_a_way_of_its_own() -> None:
    tree = agreement([["Yes", "."], ["Yes", ".", " It", " is"], ["Yes", "."]])
    assert tree == Fork("Yes.", (0, 1, 2), (Fork("", (0, 2)), Fork(" It is", (1,))))


def test_those_that_agree_in_all_have_one_leaf() -> None:
    assert list(agreement([["a", "b"]] * 3).rows()) == [(0, Fork("ab", (0, 1, 2)))]
    assert agreement([[], []]) == Fork("", (0, 1))
    assert agreement([]) == Fork("", ())


def test_pieces_count_not_letters() -> None:
    tree = agreement([["ab", "c"], ["a", "bc"]])
    assert tree.text == ""
    assert [fork.text for fork in tree.forks] == ["abc", "abc"]


def test_rows_come_as_they_are_read() -> None:
    tree = agreement([["x", "1"], ["x", "2"], ["y"]])
    assert [(depth, fork.text) for depth, fork in tree.rows()] == [
        (0, ""),
        (1, "x"),
        (2, "1"),
        (2, "2"),
        (1, "y"),
    ]
