"""Going on from a checkpoint that was saved at a batch's end, before the validation and the epoch's end that follow."""

from __future__ import annotations

from math import inf

from lightning.pytorch import Trainer

__all__ = ["do_what_follows"]


def do_what_follows(trainer: Trainer) -> bool:
    """Let a resumed fit begin with what comes after the batch at whose end its checkpoint was saved.

    Lightning takes a validation that follows such a batch for done, and after an epoch's last batch the epoch's end as
    well: a schedule would lose a look at its metric, and the best checkpoint a candidate. It does go back into a
    validation that was cut short, and does what comes after it; so this validation is made one that was cut short
    before its first batch.

    Args:
        trainer: Of a fit in ``on_train_start``, when Lightning knows where it was restarted.

    Returns:
        Whether anything follows.
    """
    fit_loop = trainer.fit_loop
    loop, epochs = fit_loop.epoch_loop, fit_loop.epoch_progress
    if not (loop.restarted_on_train_batch_end and fit_loop.restarted_mid_epoch and fit_loop._data_fetcher is not None):
        return False
    ends, batches = loop.batch_progress.is_last_batch, loop.batch_progress.current.ready
    if ends and trainer.num_training_batches not in (batches, inf):  # an epoch had another length then: it is over
        loop.restarting = False  # or the next would begin behind so many batches
        return False
    if ends:  # which Lightning has just counted as an epoch that is over
        for count in (epochs.total, epochs.current):
            count.processed -= 1  # type: ignore[attr-defined]  # both are trackers that have it
            count.completed -= 1
    validates = loop._should_check_val_fx(fit_loop._data_fetcher)
    if not (ends or validates):
        return False
    loop.batch_progress.increment_completed()
    from lightning.pytorch.loops.evaluation_loop import RestartStage as ValidationStage
    from lightning.pytorch.loops.training_epoch_loop import RestartStage

    validation = loop.val_loop
    if validates:
        loop._restart_stage = RestartStage.RESTARTED_ON_LAST
        validation._restart_stage = ValidationStage.RESTARTED_MID_EVALUATION
        validation.batch_progress.reset_on_run()
    else:
        loop._restart_stage = RestartStage.NONE
        validation._has_run = True  # there is none to wait for
    return True
