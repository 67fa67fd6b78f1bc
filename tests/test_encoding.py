"""UTF-8 or Latin-1, told by the bytes."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from fedprep.sources.encoding import encoding_of

WESTERN = st.text(st.characters(codec="latin-1"), max_size=40)


def test_plain_ascii_is_utf8():
    assert encoding_of(b"") == encoding_of(b"plain") == "utf-8"


def test_text_with_accents_is_told_apart():
    assert encoding_of("Café, Müller".encode()) == "utf-8"
    assert encoding_of("Café, Müller".encode("latin-1")) == "latin-1"


def test_a_damaged_byte_does_not_turn_utf8_into_latin1():
    assert encoding_of("Café, Müller, Ünder, Ångström".encode() + b"\xff") == "utf-8"


@settings(deadline=None)
@given(st.text(max_size=40))
def test_valid_utf8_is_always_utf8(text):
    assert encoding_of(text.encode()) == "utf-8"


@settings(deadline=None)
@given(WESTERN)
def test_latin1_words_between_ascii_are_latin1(text):
    accents = [c for c in text if c >= "\xa0"]
    data = " ".join(accents).encode("latin-1")
    assert encoding_of(data) == ("latin-1" if accents else "utf-8")
