import io
import random

import pytest
from tensorboard.compat.tensorflow_stub import pywrap_tensorflow
from tensorboard.summary.writer.record_writer import RecordWriter

from lit_optim.integration.tfrecord import frame, masked_crc32c


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
