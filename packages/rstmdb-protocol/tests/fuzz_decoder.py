"""Coverage-guided fuzzing of everything that reads foreign bytes.

    python packages/rstmdb-protocol/tests/fuzz_decoder.py --seconds 60 [--corpus DIRECTORY]

The property: whatever the bytes, a reader returns, or raises the one exception that it documents, and

- a stream gives the same messages and the same fault however it is cut into pieces
- what is returned can be written again, and then reads the same
- an id that was recovered from a malformed request can be answered

Anything else ends the run with a stack trace, a non-zero exit code, and the input in a `crash-…` file.
The conformance vectors are the seeds.
"""

import argparse
import contextlib
import sys
import tempfile
from pathlib import Path

import msgspec

from rstmdb_protocol import (
    OPERATIONS,
    VECTOR_SETS,
    Framing,
    MalformedRequest,
    MessageDecoder,
    MessageError,
    ParamsError,
    Response,
    decode_message,
    decode_params,
    decode_request,
    decode_result,
    encode_error,
    encode_frame,
    encode_ok,
    encode_request,
    expand_bytes,
    frame_for,
    load_vectors,
)

LIMIT = 4096
Outcome = tuple[list[tuple[bytes, Framing]], str | None, int]


def decode_in_pieces(stream: bytes, piece: int) -> Outcome:
    """Return what a decoder makes of a stream that arrives in pieces of this many bytes."""
    decoder = MessageDecoder(payload_bytes_max=LIMIT)
    messages = []
    for start in range(0, len(stream), piece):
        messages += decoder.feed(stream[start : start + piece])
    # The verdict on a message over the limit may be held back while messages come before it.
    messages += decoder.feed(b"")
    assert decoder.feed(b"") == []
    return messages, decoder.error.fault.name if decoder.error else None, decoder.buffered_bytes


def check_stream(stream: bytes) -> None:
    """Decode a stream whole and in pieces; check each message in it."""
    if not stream:
        return
    whole = decode_in_pieces(stream, len(stream))
    for piece in (1, 2, 17, 18, 19, max(len(stream) // 2, 1)):
        assert decode_in_pieces(stream, piece) == whole, f"pieces of {piece} bytes change the outcome"
    messages, fault, buffered = whole
    assert not (fault and buffered)
    for payload, framing in messages:
        if framing is Framing.FRAME or b"\n" not in payload:
            again = MessageDecoder(payload_bytes_max=LIMIT).feed(frame_for(payload, framing))
            assert again == [(payload, framing)]
        check_payload(payload)


def check_payload(payload: bytes) -> None:
    """Read one payload in every role it may have."""
    request = decode_request(payload)
    if isinstance(request, MalformedRequest):
        if request.id is not None:
            answer = decode_message(encode_error(request.id, "BAD_REQUEST", request.message))
            assert isinstance(answer, Response)
            assert answer.id == request.id
    else:
        again = decode_request(encode_request(request.id, request.op, bytes(request.params)))
        assert not isinstance(again, MalformedRequest)
        assert (again.id, again.op, again.params) == (request.id, request.op, request.params)
        if request.op in OPERATIONS:
            check_params(request.op, bytes(request.params))
    try:
        message = decode_message(payload)
    except MessageError:
        pass
    else:
        if isinstance(message, Response) and message.error is None and bytes(message.result):
            decode_message(encode_ok(message.id, bytes(message.result)))


def check_params(op: str, text: bytes) -> None:
    """Read parameters and a result of one operation."""
    operation = OPERATIONS[op]
    with contextlib.suppress(ParamsError):
        params = decode_params(operation.params_type, text)
        written = msgspec.json.encode(params)
        assert msgspec.json.encode(decode_params(operation.params_type, written)) == written
    with contextlib.suppress(MessageError):
        decode_result(operation.result_type, text)


def check(data: bytes) -> None:
    """Check one input: its first byte says what the rest is."""
    if not data:
        return
    kind, rest = data[0] % 4, data[1:]
    if kind == 0:
        check_stream(rest)
    elif kind == 1:
        # A checksum that fits, so that mutations of the payload are not all caught by it.
        check_stream(encode_frame(rest[:LIMIT]) + rest[LIMIT:])
    elif kind == 2:
        check_payload(rest)
    elif rest:
        names = sorted(OPERATIONS)
        check_params(names[rest[0] % len(names)], rest[1:])


def seeds() -> list[bytes]:
    """Return the conformance vectors as inputs of `check`."""
    found = []
    names = sorted(OPERATIONS)
    for vector_set in VECTOR_SETS:
        for group in load_vectors(vector_set).values():
            for vector in group if isinstance(group, list) else ():
                if "stream" in vector:
                    found.append(b"\x00" + expand_bytes(vector["stream"]))
                if "payload" in vector:
                    found.append(b"\x01" + expand_bytes(vector["payload"]))
                    found.append(b"\x02" + expand_bytes(vector["payload"]))
                if ("params" in vector and "op" in vector and "members" in vector) or "place" in vector:
                    number = names.index(vector["op"])
                    found.append(b"\x03" + bytes([number]) + expand_bytes(vector["params"]))
    return [seed for seed in found if len(seed) <= LIMIT]


def main(arguments: list[str]) -> None:
    """Fuzz for some seconds; atheris ends the process."""
    parser = argparse.ArgumentParser(description="Fuzz the readers of rstmdb-protocol.")
    parser.add_argument("--seconds", type=int, default=60, help="how long to fuzz (default: 60)")
    parser.add_argument("--corpus", help="a directory that keeps interesting inputs between runs")
    options = parser.parse_args(arguments)

    import atheris  # type: ignore[import-untyped]

    directory = options.corpus or tempfile.mkdtemp(prefix="fuzz-decoder-")
    for number, seed in enumerate(seeds()):
        Path(directory, f"seed-{number:04}").write_bytes(seed)
    atheris.instrument_all()
    flags = [
        f"-max_total_time={options.seconds}",
        f"-max_len={2 * LIMIT}",
        "-rss_limit_mb=2048",
        "-timeout=20",
    ]
    atheris.Setup([sys.argv[0], *flags, directory], check)
    atheris.Fuzz()


if __name__ == "__main__":
    main(sys.argv[1:])
