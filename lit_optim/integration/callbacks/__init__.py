"""Lightning callbacks that record and show what the optimizer does; each works with any LightningModule."""

from lit_optim.integration.callbacks.direct import DirectBatches
from lit_optim.integration.callbacks.optimizer_monitor import OptimizerMonitor
from lit_optim.integration.callbacks.progress import ProgressBar
from lit_optim.integration.callbacks.recorder import Recorder
from lit_optim.integration.callbacks.run_files import RunFiles

__all__ = ["DirectBatches", "OptimizerMonitor", "ProgressBar", "Recorder", "RunFiles"]
