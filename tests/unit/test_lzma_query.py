"""The parameter lzma: what carto.js sends is read, and nothing that is sent costs more than the limit."""

import base64
import json
import lzma
import resource

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flowmaps.api.lzma_query import config_parameter, decompress
from flowmaps.errors import InvalidRequest, RequestTooLarge

LIMIT = 100_000
BY_LZMA_JS = (
    "3YCAiICDgYCAgICAgIC9CAjntIUbMkyt4S6xq5e/tuZxRdm36Q9i+h2dFmK4EQ4907TkUHq3cZlesRt+VrbFfN3jIol7DA+rf9JA51s1vnjNYm"
    "Aje8y+v66BjdK8z4Yzj9/BLX+HRkhIVlZfVWIhTPM9GZFYwNC/pgi9GH2GQ8rB5EikVgmowEnipTSGOQ3yAkSuPtVcVWBub3P+Y9ZRY6jV0amy"
    "b5zMbe/E3S32pbJg0AMc7QZjkM/P9mAswSbBTGjZLCi7LgcJ8gI2c8N8Nk7pg31qFSA="
)
"""LZMA-JS 2.3.2, mode 3, over `{"config": …}`, each signed byte with 128 added, as carto.js does it."""
MODE_9 = "3YCAgIKD" + BY_LZMA_JS[8:]
"""The same in mode 9, with a dictionary of 32 MiB."""


def alone(raw: bytes, preset: int = 6) -> bytes:
    return lzma.compress(raw, format=lzma.FORMAT_ALONE, preset=preset)


def sent(body: bytes, *, is_shifted: bool = True) -> str:
    return base64.b64encode(bytes(byte ^ 0x80 for byte in body) if is_shifted else body).decode()


def config(text: str) -> bytes:
    return json.dumps({"config": text}).encode()


@pytest.mark.parametrize("parameter", [BY_LZMA_JS, MODE_9])
def test_what_carto_js_sends_is_read(parameter: str) -> None:
    found = json.loads(config_parameter(None, parameter, most_bytes=LIMIT) or "")
    # Its library writes the two halves of a character beyond the first 65,536 as if they were two.
    assert found["layers"][0]["options"]["sql"] == "select * from datapoint where 'ñ日😀' <> ''"


@pytest.mark.parametrize("is_shifted", [True, False])
def test_plain_bytes_and_shifted_ones_are_told_apart(is_shifted: bool) -> None:
    for preset in range(10):
        parameter = sent(alone(config("{}"), preset), is_shifted=is_shifted)
        assert config_parameter(None, parameter, most_bytes=LIMIT) == "{}"


def test_base64_of_addresses_is_read_as_well() -> None:
    body = alone(config("".join(map(chr, range(32, 3000)))))
    parameter = sent(body)
    assert {"+", "/"} <= set(parameter)
    wanted = config_parameter(None, parameter, most_bytes=LIMIT)
    for other in (parameter.replace("+", " "), parameter.replace("+", "-").replace("/", "_").rstrip("=")):
        assert config_parameter(None, other, most_bytes=LIMIT) == wanted


def test_config_alone_is_itself() -> None:
    assert config_parameter("{}", None, most_bytes=LIMIT) == "{}"
    assert config_parameter("{}", "", most_bytes=LIMIT) == "{}"
    assert config_parameter("", None, most_bytes=LIMIT) is None


GOOD = alone(config("{}"))
KNOWN_SIZE = GOOD[:5] + len(config("{}")).to_bytes(8, "little") + GOOD[13:]


@pytest.mark.parametrize(
    ("parameter", "reason"),
    [
        ("***", "it is not Base64"),
        ("é", "it is not Base64"),
        ("A", "it is not Base64"),
        ("AA==AA==", "it is not Base64"),
        ("AAAA", "no LZMA stream can be read"),
        ("XQ==", "the LZMA stream ends too early"),
        (sent(b"\xff" * 40), "no LZMA stream can be read"),
        (sent(GOOD[:-3]), "the LZMA stream ends too early"),
        (sent(GOOD[:9]), "the LZMA stream ends too early"),
        (sent(GOOD + b"x"), "something follows the LZMA stream"),
        (sent(GOOD + GOOD), "something follows the LZMA stream"),
        (sent(lzma.compress(config("{}"))), "no LZMA stream can be read"),
        (sent(alone(b"\xff\xfe")), "its text is not UTF-8"),
        (sent(alone(b"{")), "SyntaxError: the text in lzma is not JSON"),
        (sent(alone(b"[" * 50_000)), "SyntaxError: the text in lzma is not JSON"),
        (sent(alone(b"[]")), "must be"),
        (sent(alone(b"{}")), "must be"),
        (sent(alone(b'{"config": {}}')), "must be"),
        (sent(alone(b'{"config": ""}')), "must be"),
    ],
)
def test_what_cannot_be_read_is_refused_by_its_name(parameter: str, reason: str) -> None:
    with pytest.raises(InvalidRequest, match="lzma") as raised:
        config_parameter(None, parameter, most_bytes=LIMIT)
    assert raised.value.member == "lzma"
    assert reason in raised.value.message


def test_both_parameters_are_one_too_many() -> None:
    with pytest.raises(InvalidRequest, match="exclude each other") as raised:
        config_parameter("{}", sent(GOOD), most_bytes=LIMIT)
    assert raised.value.member == "lzma"


def test_a_stream_may_state_its_size() -> None:
    assert decompress(sent(KNOWN_SIZE), most_bytes=LIMIT) == config("{}").decode()


@pytest.mark.parametrize("excess", [0, 1])
def test_the_limit_is_exact(excess: int) -> None:
    parameter = sent(alone(b"x" * (LIMIT + excess)))
    if excess:
        with pytest.raises(RequestTooLarge, match="the text in lzma has more than 100000 bytes"):
            decompress(parameter, most_bytes=LIMIT)
    else:
        assert decompress(parameter, most_bytes=LIMIT) == "x" * LIMIT


BOMB = alone(bytes(64_000_000), 1)


@pytest.mark.parametrize("dictionary", [0, 1, 1 << 31, (1 << 32) - 1])
def test_no_bomb_costs_more_than_the_limit(dictionary: int) -> None:
    bomb = bytearray(BOMB)
    bomb[1:5] = dictionary.to_bytes(4, "little")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(RequestTooLarge):
        decompress(sent(bytes(bomb)), most_bytes=LIMIT)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 16 * 1024


@settings(deadline=None, max_examples=300)
@given(st.binary(max_size=200), st.booleans(), st.integers(0, len(GOOD) - 1), st.integers(1, 255))
def test_nothing_but_a_refusal_comes_of_noise(noise: bytes, is_noise: bool, at: int, flip: int) -> None:
    body = bytearray(GOOD)
    body[at] ^= flip
    try:
        decompress(sent(noise if is_noise else bytes(body)), most_bytes=LIMIT)
    except (InvalidRequest, RequestTooLarge):
        return
