from __future__ import annotations

import pytest

from lit_optim.cli.rank_zero import is_rank_zero, is_started_by_others

TORCHRUN = {"TORCHELASTIC_RUN_ID": "x", "LOCAL_RANK": "0"}
SRUN = {"SLURM_NTASKS": "2", "SLURM_LOCALID": "0"}


@pytest.mark.parametrize(
    ("environment", "speaks"),
    [
        ({}, True),
        ({"LOCAL_RANK": "1"}, False),
        ({"NODE_RANK": "1"}, False),
        ({"NODE_RANK": "0", "LOCAL_RANK": "0"}, True),
        ({**TORCHRUN, "RANK": "2"}, False),  # the first on its machine
        ({**TORCHRUN, "RANK": "0", "SLURM_PROCID": "1"}, True),  # under srun, and torchrun says who is first
        ({**SRUN, "SLURM_PROCID": "1"}, False),
        ({**SRUN, "SLURM_PROCID": "0"}, True),
    ],
)
def test_one_process_speaks_for_the_run(
    environment: dict[str, str], speaks: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert is_rank_zero() == speaks
    assert is_started_by_others() == any(name in environment for name in ("TORCHELASTIC_RUN_ID", "SLURM_NTASKS"))
