"""Read the query parameter ``lzma``, in which clients of Windshaft send what is too long for an address.

It is the Base64 form of an LZMA stream with the old header ("alone"), whose text is a JSON object of query parameters;
clients put one into it, ``config``. The library that they compress with gives signed bytes, and they add 128 to each.
Sources: lib/api/middlewares/lzma.js of Windshaft-cartodb, and the windshaft client of carto.js (both BSD-3-Clause).
"""

from __future__ import annotations

import base64
import binascii
import lzma
from typing import Any

from flowmaps.api.requests import decode_json
from flowmaps.errors import InvalidRequest, RequestTooLarge

_USUAL_PROPERTIES = 0x5D
"""First byte of the header as every compressor writes it; signed and shifted it is 0xDD."""
_SIGN = bytes(byte ^ 0x80 for byte in range(256))
_DICTIONARY = slice(1, 5)
_SMALLEST_DICTIONARY = 4096
_OVERHEAD_BYTES = 1_048_576
_BASE64 = str.maketrans("-_ ", "+/+")
"""The alphabet for addresses, and a plus that was not escaped."""


def config_parameter(config: str | None, compressed: str | None, *, most_bytes: int) -> str | None:
    """Return the text of the parameter ``config``, which may come in ``lzma``; None where there is none.

    Raise `InvalidRequest` where both are given or the second cannot be read, `RequestTooLarge` where its text has more
    than *most_bytes*.
    """
    if not compressed:
        return config or None
    if config:
        raise InvalidRequest("config and lzma exclude each other", member="lzma")
    text = decompress(compressed, most_bytes=most_bytes)
    try:
        parameters: Any = decode_json(text)
    except ValueError as error:
        raise InvalidRequest(f"SyntaxError: the text in lzma is not JSON: {error}", member="lzma") from error
    found = parameters.get("config") if isinstance(parameters, dict) else None
    if not isinstance(found, str) or not found:
        raise InvalidRequest('the text in lzma must be {"config": "…"} with the MapConfig as text', member="lzma")
    return found


def decompress(compressed: str, *, most_bytes: int) -> str:
    """Return the text of a parameter ``lzma``; raise `InvalidRequest` or `RequestTooLarge`.

    Memory is bounded: no more than *most_bytes* is written, and a dictionary need not be larger than what is written.
    """
    stream = _stream(compressed)
    size = int.from_bytes(stream[_DICTIONARY], "little")
    stream[_DICTIONARY] = min(size, max(most_bytes + 1, _SMALLEST_DICTIONARY)).to_bytes(4, "little")
    reader = lzma.LZMADecompressor(lzma.FORMAT_ALONE, memlimit=most_bytes + _OVERHEAD_BYTES)
    try:
        raw = reader.decompress(stream, max_length=most_bytes + 1)
    except lzma.LZMAError as error:
        raise _unreadable(f"no LZMA stream can be read: {error}") from error
    if len(raw) > most_bytes:
        raise RequestTooLarge(f"the text in lzma has more than {most_bytes} bytes")
    if not reader.eof:
        raise _unreadable("the LZMA stream ends too early")
    if reader.unused_data:
        raise _unreadable("something follows the LZMA stream")
    try:
        text = raw.decode("utf-8", "surrogatepass")
    except UnicodeDecodeError as error:
        raise _unreadable("its text is not UTF-8") from error
    # Those clients write a character beyond the first 65,536 as its two halves.
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "surrogatepass")


def _stream(compressed: str) -> bytearray:
    """Return the LZMA stream with plain bytes."""
    text = compressed.translate(_BASE64).rstrip("=")
    try:
        body = base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except (binascii.Error, ValueError) as error:
        raise _unreadable("it is not Base64") from error
    return bytearray(body if body[:1] == bytes((_USUAL_PROPERTIES,)) else body.translate(_SIGN))


def _unreadable(reason: str) -> InvalidRequest:
    return InvalidRequest(f"Invalid lzma parameter: {reason}", member="lzma")
