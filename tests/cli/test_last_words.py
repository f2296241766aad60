from __future__ import annotations

import pytest
from torch.distributed import DistBackendError

import lit_optim as lo
from lit_optim.cli.last_words import cause, is_loss, loss, packed, refusal, unpacked
from lit_optim.errors import Mistake

MISTAKE = Mistake("data.root", "no such folder", "/data", ("/scratch",), remedy="correct it")
LATE = "[gloo/transport/tcp/unbound_buffer.cc:81] Timed out waiting 3000ms for recv operation to complete"
CLOSED = "[gloo/transport/tcp/pair.cc:547] Connection closed by peer [127.0.0.1]:4711"


def test_mistakes_cross_as_text() -> None:
    assert unpacked(packed([MISTAKE, Mistake("a", "b")])) == (MISTAKE, Mistake("a", "b"))


def test_a_refusal_is_told_as_it_is_and_a_bug_by_its_name() -> None:
    error = lo.DataError(MISTAKE)
    assert refusal(error) == (MISTAKE,)
    assert refusal(ValueError("a bug")) == (Mistake("train", "ValueError: a bug"),)
    assert cause(error, "rank 1 of 2") == (Mistake("rank 1 of 2", "it is refused, and the others end with it"), MISTAKE)
    [told] = cause(KeyboardInterrupt(), "rank 1 of 2")
    assert told.problem == "it failed, and the others with it: KeyboardInterrupt"


@pytest.mark.parametrize(
    ("error", "lost"),
    [
        (RuntimeError(LATE), True),
        (RuntimeError(CLOSED), True),
        (DistBackendError("NCCL error: remote process exited or there was a network error"), True),
        (DistBackendError("NCCL error: Duplicate GPU detected"), False),
        (RuntimeError("[enforce fail at gloo/allreduce.cc:42] op.preamble.length <= op.nbytes"), False),
        (RuntimeError(), False),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), False),
        (ValueError("gloo"), False),
    ],
)
def test_who_has_lost_another_is_told_from_who_has_failed(error: Exception, lost: bool) -> None:
    assert is_loss(error) == lost


def test_who_waited_says_how_to_wait_longer() -> None:
    assert str(loss(RuntimeError(LATE), "rank 0 of 2")).startswith("trainer.timeout: rank 0 of 2 waited for another")
    assert str(loss(RuntimeError(CLOSED), "rank 0 of 2")).startswith("trainer: rank 0 of 2 lost another, which has")
