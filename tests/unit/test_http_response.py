"""Tests of the parser of HTTP/1.1 responses."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from broker.infrastructure.outbound.http import HTTPResponse, ResponseTooLarge
from broker.infrastructure.outbound.http_response import (
    CHUNKS_MAX,
    HEAD_MAX_BYTES,
    INTERIM_MAX,
    MalformedResponse,
    ResponseParser,
)

MAX_BYTES = 1024

JSON = HTTPResponse(200, "application/json", b'{"reply":1}')

COMPLETE: dict[str, tuple[bytes, HTTPResponse, bool]] = {
    "length": (
        b"HTTP/1.1 200 OK\r\nContent-Type: application/json; charset=utf-8\r\n"
        b'Content-Length: 11\r\n\r\n{"reply":1}',
        JSON,
        True,
    ),
    "chunks": (
        b"HTTP/1.1 200 OK\r\ncontent-type:Application/JSON\r\nTransfer-Encoding: Chunked\r\n\r\n"
        b'5\r\n{"rep\r\n006;name="a b"\r\nly":1}\r\n0\r\nTrailer: x\r\n\r\n',
        JSON,
        True,
    ),
    "interim": (
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"
        b"HTTP/1.1 204 No Content\r\n\r\n",
        HTTPResponse(204, "application/octet-stream", b""),
        True,
    ),
    "no reason": (
        b"HTTP/1.1 404\r\nContent-Length: 0\r\n\r\n",
        HTTPResponse(404, "application/octet-stream", b""),
        True,
    ),
    "close": (
        b"HTTP/1.1 200 OK\r\nConnection: foo, Close\r\nContent-Length: 1\r\n\r\nx",
        HTTPResponse(200, "application/octet-stream", b"x"),
        False,
    ),
    "1.0": (
        b"HTTP/1.0 200 OK\r\nContent-Length: 1\r\n\r\nx",
        HTTPResponse(200, "application/octet-stream", b"x"),
        False,
    ),
    "body of 204": (
        b"HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\n",
        HTTPResponse(204, "application/octet-stream", b""),
        True,
    ),
}
"""The bytes of a response, the response, and whether the connection is reusable."""

CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"

MALFORMED: dict[str, bytes] = {
    "not HTTP": b"SSH-2.0-OpenSSH_9.6\r\n\r\n",
    "HTTP/2": b"HTTP/2 200 OK\r\n\r\n",
    "status of two digits": b"HTTP/1.1 20 OK\r\n\r\n",
    "status 600": b"HTTP/1.1 600 OK\r\n\r\n",
    "switching protocols": b"HTTP/1.1 101 Switching Protocols\r\n\r\n",
    "endless interim": b"HTTP/1.1 100 Continue\r\n\r\n" * (INTERIM_MAX + 1),
    "space before colon": b"HTTP/1.1 200 OK\r\nContent-Length : 1\r\n\r\nx",
    "folded field": b"HTTP/1.1 200 OK\r\nA: b\r\n c\r\n\r\n",
    "line feed without return": b"HTTP/1.1 200 OK\nContent-Length: 1\r\n\r\nx",
    "carriage return without feed": b"HTTP/1.1 200 OK\r\nA: b\rContent-Length: 1\r\n\r\nx",
    "zero byte": b"HTTP/1.1 200 OK\r\nA: \0\r\n\r\n",
    "negative length": b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
    "length with sign": b"HTTP/1.1 200 OK\r\nContent-Length: +1\r\n\r\nx",
    "two lengths": b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\nx",
    "long length": b"HTTP/1.1 200 OK\r\nContent-Length: " + b"9" * 5000 + b"\r\n\r\n",
    "length and chunks": b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n"
    b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "two codings": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
    "unknown coding": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: xchunked\r\n\r\n",
    "chunk size without digits": CHUNKED + b"\r\n",
    "chunk size with sign": CHUNKED + b"+1\r\nx\r\n0\r\n\r\n",
    "chunk size with prefix": CHUNKED + b"0x1\r\nx\r\n0\r\n\r\n",
    "chunk size of nine digits": CHUNKED + b"000000001\r\nx\r\n0\r\n\r\n",
    "chunk without end": CHUNKED + b"1\r\nxx\r\n0\r\n\r\n",
    "long chunk extension": CHUNKED + b"1;" + b"e" * 1000 + b"\r\nx\r\n",
    "many chunks": CHUNKED + b"1\r\nx\r\n" * (CHUNKS_MAX + 1),
    "long trailers": CHUNKED + b"0\r\n" + b"Trailer: x\r\n" * HEAD_MAX_BYTES,
    "long head": b"HTTP/1.1 200 OK\r\nA: " + b"b" * HEAD_MAX_BYTES,
}

TOO_LARGE: dict[str, bytes] = {
    "length": b"HTTP/1.1 200 OK\r\nContent-Length: 1025\r\n\r\n",
    "chunks": CHUNKED + b"400\r\n" + b"x" * 1024 + b"\r\n1\r\n",
    "chunk": CHUNKED + b"FFFFFFFF\r\n",
    "rest": b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 1025,
}


def parse(parts: Sequence[bytes], *, max_bytes: int = MAX_BYTES) -> ResponseParser:
    parser = ResponseParser(max_bytes)
    for part in parts:
        assert parser.response is None
        parser.feed(part)
    return parser


def split(data: bytes, cuts: Sequence[int]) -> list[bytes]:
    places = sorted({0, len(data), *(cut % len(data) for cut in cuts)})
    return [data[a:b] for a, b in pairwise(places)]


CUTS = st.lists(st.integers(0, 100_000), max_size=12)


@given(st.sampled_from(sorted(COMPLETE)), CUTS)
def test_response_is_the_same_in_any_parts(name: str, cuts: list[int]) -> None:
    data, response, is_reusable = COMPLETE[name]

    parser = parse(split(data, cuts))

    assert (parser.response, parser.is_reusable) == (response, is_reusable)


@given(st.binary(max_size=MAX_BYTES), st.booleans(), st.integers(1, 300), CUTS)
def test_body_is_returned_unchanged(
    body: bytes, is_chunked: bool, chunk: int, cuts: list[int]
) -> None:
    if is_chunked:
        parts = [body[n : n + chunk] for n in range(0, len(body), chunk)]
        data = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in (*parts, b""))
        data = CHUNKED + data
    else:
        data = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)

    parser = parse(split(data, cuts))

    assert parser.response is not None
    assert parser.response.content == body
    assert parser.is_reusable


@pytest.mark.parametrize("name", MALFORMED)
def test_malformed_response_is_refused(name: str) -> None:
    with pytest.raises(MalformedResponse):
        parse([MALFORMED[name]], max_bytes=1024 * 1024)


@pytest.mark.parametrize("name", TOO_LARGE)
def test_long_body_is_refused(name: str) -> None:
    with pytest.raises(ResponseTooLarge):
        parse([TOO_LARGE[name]])


@given(st.sampled_from(sorted(COMPLETE)), st.integers(1, 200))
def test_response_that_ends_early_is_refused(name: str, missing: int) -> None:
    data = COMPLETE[name][0]
    parser = parse([data[: max(0, len(data) - missing)]])

    with pytest.raises(MalformedResponse):
        parser.feed_end()


def test_body_without_length_ends_with_the_connection() -> None:
    parser = parse([b"HTTP/1.1 200 OK\r\n\r\nsome", b" text"])

    response = parser.feed_end()

    assert response is not None
    assert response.content == b"some text"
    assert not parser.is_reusable


@pytest.mark.parametrize("name", COMPLETE)
def test_bytes_after_the_response_prevent_reuse(name: str) -> None:
    data, response, _ = COMPLETE[name]

    parser = parse([data + b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"])

    assert parser.response == response
    assert not parser.is_reusable


PIECES = st.sampled_from(
    [
        *(b"HTTP/1.1 ", b"200", b"204", b" OK", b"\r\n", b"\n", b":", b"Content-Length"),
        *(b"Transfer-Encoding", b"chunked", b"0", b"5", b"ffffffff", b";", b" ", b"\0"),
    ]
)


@settings(max_examples=500)
@given(st.lists(st.one_of(PIECES, st.binary(max_size=8)), max_size=40), CUTS)
def test_any_bytes_give_a_response_or_an_error(pieces: list[bytes], cuts: list[int]) -> None:
    data = b"".join(pieces) or b"\n"
    parser = ResponseParser(MAX_BYTES)
    try:
        for part in split(data, cuts):
            if parser.feed(part):
                return
        parser.feed_end()
    except (MalformedResponse, ResponseTooLarge):
        return

    assert parser.response is not None
    assert len(parser.response.content) <= MAX_BYTES
