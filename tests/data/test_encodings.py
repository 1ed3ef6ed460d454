"""The encoding of a text file: a mark, UTF-8, or the likeliest."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelwright.data.encodings import decode_text, detect_encoding, to_utf8
from modelwright.errors import DataError

TEXTS = {
    "gb18030": ["很好吃的外卖，味道好\n", "今天天气很好，我们去公园玩。\n"],
    "big5": ["很香很美味，下次還會光顧\n", "今天天氣很好，我們去公園玩。\n"],
    "cp932": ["今日はとても良い天気です。\n", "映画は面白かった、また見たい\n"],
    "euc_kr": ["오늘은 날씨가 좋습니다\n"],
    "euc_jp": ["今日はとても良い天気です。\n"],
    "koi8_r": ["Сегодня хорошая погода, фильм понравился\n"],
    "cp1253": ["Το δωμάτιο ήταν βρώμικο και ακριβό\n"],
    "cp1255": ["המלון היה טוב מאוד והצוות היה אדיב\n"],
    "cp1256": ["كان الفندق جيدا جدا والموظفون مهذبون\n"],
    "cp874": ["อาหารอร่อยมาก บริการแย่มาก\n"],
    "cp1250": ["Brudny pokój źle i głośno, łóżko złe\n"],
    "cp1254": ["Çok güzel bir otel, ışıklı ve şık\n"],
    "mac_roman": ["Dégoûtant, bruyant et cher, déçu\n"],
    "cp1251": ["Сегодня хорошая погода, фильм понравился\n"],
    "cp1252": ["the thé was awful\n", "Das ist größer\n", "“quoted” – dash\n", "naïve\n", "5 €\n"],
}
CASES = [(name, text) for name, texts in TEXTS.items() for text in texts]


@pytest.mark.parametrize(("encoding", "text"), CASES)
@pytest.mark.parametrize("plain", ["", "plain words, a\n" * 200])
def test_one_line_is_enough(encoding, text, plain):
    detected = detect_encoding((plain + text).encode(encoding))
    assert detected is not None
    assert detected.encoding == encoding
    assert detected.shown == text.strip()


def test_the_error_names_the_encoding_and_shows_lines():
    data = "a,b\n很好吃,好\n".encode("gb18030")
    with pytest.raises(DataError, match=r"gb18030.*line 2.*很好吃,好.*encoding: gb18030"):
        decode_text(data, where="t.csv")
    assert decode_text(data, where="t.csv", encoding="gb18030") == "a,b\n很好吃,好\n"
    with pytest.raises(DataError, match=r"isn't utf-16"):
        decode_text(b"\xff", where="t.csv", encoding="utf-16")


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-32"])
def test_a_mark_decides(encoding):
    data = "größer".encode(encoding)
    assert decode_text(data, where="") == "größer"
    assert to_utf8(data, where="") == "größer".encode()
    assert detect_encoding(data) is None


@given(st.binary(max_size=200))
def test_any_bytes_are_decoded_or_refused(data):
    with contextlib.suppress(DataError):
        decode_text(data, where="t")
    detected = detect_encoding(data)
    if detected is not None:
        data.decode(detected.encoding)
