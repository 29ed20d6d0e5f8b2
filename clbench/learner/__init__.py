"""One task's training: the only LightningModule, its Trainer, and what is deployed."""

from typing import TYPE_CHECKING

from clbench import late

if TYPE_CHECKING:
    from clbench.learner.learner import Learner as Learner

__getattr__ = late("clbench.learner.learner")
