"""Compression on the way to a host: some data is compressed, some is not; any receiver reads both."""

from __future__ import annotations

import random
import zlib

from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.engine.ssh.compression import SelectiveCompressor

DICE = random.Random(14)
TEXT = b"".join(b"    assert answer.status == %d, answer\n" % number for number in range(2000))
NOISE = DICE.randbytes(70_000)
PACKETS = st.lists(st.tuples(st.booleans(), st.integers(0, 70_000)), max_size=12)


@given(PACKETS)
@settings(max_examples=60, deadline=None)
def test_a_receiver_reads_what_was_sent_packet_by_packet(packets: list[tuple[bool, int]]) -> None:
    compressor, receiver = SelectiveCompressor(), zlib.decompressobj()
    for text, size in packets:
        packet = (TEXT if text else NOISE)[:size]
        assert receiver.decompress(compressor(packet)) == packet


def test_text_shrinks_and_what_does_not_shrink_is_sent_as_it_is() -> None:
    compressor = SelectiveCompressor()
    assert len(compressor(TEXT[:32_000])) < 8_000
    assert NOISE[:32_000] in compressor(NOISE[:32_000])
    assert len(compressor(NOISE[:32_000])) == 32_005
    assert len(compressor(TEXT[:32_000])) < 8_000
