from __future__ import annotations

import pytest

from lit_optim.cli.reporting import report
from lit_optim.errors import ConfigError, Mistake

REFUSAL = ConfigError(Mistake("seed", "this can't be", "-1", remedy="think again"))


def test_a_refusal_is_told_once_a_job_and_with_a_traceback_if_asked_for(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    report(REFUSAL)
    told = "lit-optim: ConfigError\nseed: this can't be\n    given:   -1\n    fix:     think again\n"
    assert capsys.readouterr() == ("", told)
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")
    report(REFUSAL)
    assert capsys.readouterr().err.endswith(told)
    monkeypatch.setenv("LOCAL_RANK", "1")
    report(REFUSAL)
    assert capsys.readouterr() == ("", "")
