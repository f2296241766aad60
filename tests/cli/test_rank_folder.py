from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from lit_optim.cli.rank_folder import Assignment, RankFolder
from lit_optim.errors import Mistake, PlanError

ASSIGNMENT = Assignment({"seed": 1, "name": "a=b, 'c'"}, {"hydra": {}}, True, ["seed=1"])
CHILD = """
import sys, time
from pathlib import Path
from lit_optim.cli.rank_folder import RankFolder
RankFolder(Path(sys.argv[1])).end_with_it()
print("here", flush=True)
time.sleep(600)
"""


def test_a_rank_finds_the_work_as_it_was_put_there(tmp_path: Path) -> None:
    folder = RankFolder(tmp_path)
    lockstep = folder.open(ASSIGNMENT, 2)
    lockstep.note(1, 3)
    assert RankFolder(tmp_path).assignment() == ASSIGNMENT
    assert RankFolder(tmp_path).lockstep().training
    folder.close()


def test_reports_come_in_the_order_of_their_times(tmp_path: Path) -> None:
    folder = RankFolder(tmp_path)
    refusal = PlanError(Mistake("optimizer.lr", "too large", "7"))
    folder.report(2, None, "first")
    folder.report(0, refusal, "second")
    (tmp_path / "report.1.tmp").write_bytes(b"killed while it wrote")
    reports = folder.reports(3)
    assert [*reports] == [2, 0]
    assert reports[2].error is None
    assert isinstance(reports[0].error, PlanError)
    assert reports[0].error.mistakes == refusal.mistakes


def test_a_rank_ends_as_soon_as_the_folder_is_closed(tmp_path: Path) -> None:
    folder = RankFolder(tmp_path / "folder")
    folder.path.mkdir()
    folder.open(ASSIGNMENT, 1)
    command = [sys.executable, "-c", CHILD, str(folder.path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, process_group=0, text=True) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "here\n"
        assert child.poll() is None
        folder.close()
        assert child.wait(30) == -9
    assert not folder.path.exists()
