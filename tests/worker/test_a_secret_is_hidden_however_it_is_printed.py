"""A program's secrets are hidden in its log: whole, in pieces, and as dicts, JSON and addresses write them."""

import json
from urllib.parse import quote, quote_plus, urlencode

import pytest

from training.runner.secret_mask import HIDDEN, SecretMask

PASSWORD = "p\u00e4ss'\"w\\rd /&?+"
KEY = "-----BEGIN KEY-----\nabcdefgh\n-----END KEY-----\n"


@pytest.mark.parametrize(
    "printed",
    [
        PASSWORD,
        str({"API_KEY": PASSWORD}),
        json.dumps({"API_KEY": PASSWORD}),
        json.dumps({"API_KEY": PASSWORD}, ensure_ascii=False),
        f"https://me:{quote(PASSWORD, safe='')}@example.org/{quote(PASSWORD)}",
        urlencode({"key": PASSWORD}),
        quote_plus(PASSWORD),
    ],
)
def test_a_secret_is_hidden_in_every_form_in_which_programs_print_it(printed):
    said = SecretMask([PASSWORD]).hide(f"before {printed} after")
    assert HIDDEN in said
    assert not [piece for piece in ("rd /", "w\\\\rd", "%26", "rd%20", "rd+") if piece in said]
    mask = SecretMask([PASSWORD])
    pieces = [mask.pass_on(sign) for sign in f"before {printed} after"] + [mask.rest()]
    assert "".join(pieces) == said


def test_a_secret_of_several_lines_is_hidden_in_each_of_them_and_in_a_dict():
    mask = SecretMask([KEY])
    assert mask.hide(f"{KEY}abcdefgh {[KEY]}") == f"{HIDDEN}{HIDDEN} ['{HIDDEN}']"


def test_secrets_that_overlap_leave_nothing_of_each_other():
    first, second = "correct horse", "horse battery"
    for printed in ("correct horse battery", "a correct horse battery staple", "correct horse horse battery"):
        said = SecretMask([first, second]).hide(printed)
        assert not [word for word in ("correct", "horse", "battery") if word in said]
    words, text = ["aabaab", "abaaba", "bbbbbb"], "aabaabaabaab bbbbbbbb aabaababbbbbb"
    covered = {place for word in words for at in range(len(text)) if text.startswith(word, at)
               for place in range(at, at + len(word))}  # fmt: skip
    whole = SecretMask(words).hide(text)
    assert whole.replace(HIDDEN, "") == "".join(sign for at, sign in enumerate(text) if at not in covered)
    for size in range(1, 9):
        mask = SecretMask(words)
        pieces = [mask.pass_on(text[at : at + size]) for at in range(0, len(text), size)]
        assert "".join([*pieces, mask.rest()]) == whole, size


def test_half_of_a_surrogate_pair_in_a_secret_ends_nothing():
    assert SecretMask(["abc\udcffdef"]).hide("abc\udcffdef") == HIDDEN
