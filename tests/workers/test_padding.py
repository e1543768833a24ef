"""Texts of different lengths side by side."""

from workers.padding import padded, pads_little


def test_texts_are_padded_on_the_right() -> None:
    assert padded([(1, 2, 3), (4,), (5, 6)]).tolist() == [[1, 2, 3], [4, 0, 0], [5, 6, 0]]


def test_padding_stays_below_half_or_short() -> None:
    assert pads_little(100, 216)
    assert not pads_little(100, 217)
    assert pads_little(1, 18)
