import io
import random

import pytest
from tensorboard.compat.tensorflow_stub import pywrap_tensorflow
from tensorboard.summary.writer.record_writer import RecordWriter

from lit_optim.tfrecord import frame, masked_crc32c, unframe, without


@pytest.mark.parametrize("length", [0, 1, 2, 7, 8, 173])
@pytest.mark.parametrize("count", [1, 4, 40])
def test_checksums_are_tensorboards_own(length: int, count: int) -> None:
    records = [random.Random(i).randbytes(length) for i in range(count)]
    expected = [pywrap_tensorflow.masked_crc32c(record) for record in records]
    assert masked_crc32c(records).tolist() == expected


def test_the_checksum_is_the_one_of_rfc_3720() -> None:
    unmasked = 0x8A9136AA  # appendix B.4: 32 bytes of zeroes
    masked = ((unmasked >> 15 | unmasked << 17) + 0xA282EAD8) & 0xFFFFFFFF
    for count in (1, 40):
        assert masked_crc32c([bytes(32)] * count).tolist() == [masked] * count


def test_records_of_mixed_lengths_are_framed_in_their_order() -> None:
    records = [random.Random(i).randbytes(length) for i, length in enumerate([5, 3, 5, 0, 3])]
    one_by_one = io.BytesIO()
    writer = RecordWriter(one_by_one)
    for record in records:
        writer.write(record)
    assert frame(records) == one_by_one.getvalue()
    assert frame([]) == b""


def test_what_was_framed_is_found_again() -> None:
    records = [random.Random(i).randbytes(length) for i, length in enumerate([5, 3, 5, 0, 3, 300])]
    assert unframe(frame(records)) == (records, True)
    assert unframe(frame(records), wanted=lambda record: len(record) == 5) == ([records[0], records[2]], True)
    assert unframe(b"") == ([], True)


@pytest.mark.parametrize("place", range(3 * 16 + 12))
def test_a_record_that_is_damaged_or_cut_off_ends_what_is_found(place: int) -> None:
    records = [b"abc", b"defg", b"hijkl"]
    data = frame(records)
    before = [record for record, end in zip(records, (19, 39, 60), strict=True) if end <= place]
    assert unframe(data[:place]) == (before, place in (0, 19, 39))
    flipped = bytearray(data)
    flipped[place] ^= 1
    assert unframe(bytes(flipped)) == (before, False)


def test_damage_to_what_is_not_wanted_is_no_concern() -> None:
    data = bytearray(frame([b"abc", b"wanted", b"def"]))
    data[12] ^= 1
    assert unframe(bytes(data), wanted=lambda record: record == b"wanted") == ([b"wanted"], True)


def test_records_are_left_out_and_all_else_stays_as_it_is() -> None:
    records = [b"abc", b"gone", b"def", b"gone"]
    tail = frame([b"cut off"])[:-1]
    kept = frame([b"abc", b"def"])
    assert without(frame(records) + tail, lambda record: record == b"gone") == kept + tail
    assert without(kept, lambda record: record == b"gone") == kept
    assert without(b"", lambda record: True) == b""
