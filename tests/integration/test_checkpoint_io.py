import resource
from pathlib import Path

import pytest
import torch
from forked import Server
from lightning.fabric.plugins.io.torch_io import TorchCheckpointIO

import lit_optim as lo
from lit_optim.integration.checkpoint_io import AtomicCheckpointIO

CONTENT = {"state_dict": {"w": torch.arange(300_000.0)}}


def test_a_checkpoint_is_written_whole_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "new" / "last.ckpt"
    AtomicCheckpointIO().save_checkpoint(CONTENT, path)
    assert torch.equal(torch.load(path, weights_only=True)["state_dict"]["w"], CONTENT["state_dict"]["w"])
    assert [one.name for one in path.parent.iterdir()] == ["last.ckpt"]


def test_a_full_disk_leaves_the_one_before_and_says_which_file_and_why(tmp_path: Path) -> None:
    path = tmp_path / "last.ckpt"
    AtomicCheckpointIO().save_checkpoint({"state_dict": {}}, path)
    before = path.read_bytes()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))
    try:
        with pytest.raises(lo.RunError) as refused:
            AtomicCheckpointIO().save_checkpoint(CONTENT, path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert str(refused.value).splitlines()[:2] == [
        "checkpoints: this checkpoint can't be written: File too large; the one before is as it was",
        f"    given:   {path}",
    ]
    assert path.read_bytes() == before
    assert [one.name for one in tmp_path.iterdir()] == ["last.ckpt"]


@pytest.mark.slow
def test_a_kill_during_the_write_leaves_the_one_before(forked: Server, tmp_path: Path) -> None:
    path = tmp_path / "last.ckpt"
    AtomicCheckpointIO().save_checkpoint({"state_dict": {}}, path)
    before = path.read_bytes()
    code = f"""
import os, signal, torch
from lit_optim.integration.checkpoint_io import AtomicCheckpointIO
os.fsync = lambda handle: os.kill(os.getpid(), signal.SIGKILL)
AtomicCheckpointIO().save_checkpoint({{"w": torch.zeros(1000)}}, {str(path)!r})
"""
    assert forked.run("-c", code, cwd=tmp_path).returncode == -9
    assert path.read_bytes() == before
    AtomicCheckpointIO().save_checkpoint(CONTENT, path)  # and what the killed one left is no hindrance
    assert [one.name for one in tmp_path.iterdir()] == ["last.ckpt"]


def test_it_is_what_a_fit_saves_with_unless_the_user_chose(trainer: object, tmp_path: Path) -> None:
    from digitnet import Net, loader

    class Own(TorchCheckpointIO):
        pass

    for plugins, kind in (([], AtomicCheckpointIO), ([Own()], Own)):
        module = lo.attach(Net(), {"optimizer": {"_target_": "torch.optim.SGD", "lr": 0.1}})
        made = trainer(plugins=plugins)  # type: ignore[operator]
        made.fit(module, loader(2))
        assert type(made.strategy.checkpoint_io) is kind
