from __future__ import annotations

import os
import signal
from pathlib import Path
from subprocess import TimeoutExpired

import pytest
from forked import Server

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(
    ("code", "returned"),
    [
        ("", 0),
        ("raise SystemExit(7)", 7),
        ("1 / 0", 1),
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", -9),
    ],
)
def test_it_ends_as_python_does(forked: Server, tmp_path: Path, code: str, returned: int) -> None:
    ended = forked.run("-c", code, cwd=tmp_path)
    assert ended.returncode == returned
    assert ("ZeroDivisionError" in ended.stderr) == (returned == 1)


def test_its_surroundings_are_its_own(forked: Server, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(
        "import os, sys; print(os.getpid(), os.getcwd(), os.environ['X'], sys.argv[1:])\n"
    )
    first, second = (forked.run("-m", "mine", "a", "b", cwd=tmp_path, X=name).stdout.split(" ", 1) for name in "xy")
    assert len({first[0], second[0], str(os.getpid())}) == 3
    assert [first[1], second[1]] == [f"{tmp_path} {name} ['a', 'b']\n" for name in "xy"]


def test_what_is_imported_already_is_torch(forked: Server, tmp_path: Path) -> None:
    assert forked.run("-c", "import sys; print('torch' in sys.modules)", cwd=tmp_path).stdout == "True\n"


def test_it_can_be_ended(forked: Server, tmp_path: Path) -> None:
    with pytest.raises(TimeoutExpired):
        forked.run("-c", "import time; time.sleep(60)", cwd=tmp_path, timeout=0.1)
    with (tmp_path / "out").open("w") as out:
        process = forked.start(
            "-c", "import time; time.sleep(60)", cwd=tmp_path, stdout=out.fileno(), stderr=out.fileno()
        )
    assert process.poll() is None
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == process.poll() == -signal.SIGTERM
