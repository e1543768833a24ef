import random
import re

from jobs.access.key_text import id_of, new_key_text


def test_keys_are_all_different_and_tell_their_id() -> None:
    keys = [new_key_text() for _ in range(200)]
    assert len({id_of(key) for key in keys}) == 200
    for key in keys:
        assert re.fullmatch(r"msk_[0-9A-Za-z]{10}_[0-9A-Za-z]{49}", key)
        assert id_of(key) == key.split("_")[1]


def test_what_is_mistyped_is_no_key() -> None:
    key, draw = new_key_text(), random.Random(0)
    for place in range(len(key)):
        other = draw.choice([c for c in "09AZaz_" if c != key[place]])
        assert id_of(key[:place] + other + key[place + 1 :]) is None
        assert id_of(key[:place] + key[place + 1 :]) is None
    for wrong in ("", "msk_", key + "x", " " + key, key + "\n", key.upper(), "é" * 64):
        assert id_of(wrong) is None
