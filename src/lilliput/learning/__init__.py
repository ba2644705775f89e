"""The one training loop and its uses, as one calls them from Python."""

from lilliput.learning.finetuning import finetune
from lilliput.learning.learned import Learned, Moment
from lilliput.learning.loop import Surroundings, learn
from lilliput.learning.reach import Reach
from lilliput.learning.training import Training

__all__ = ["Learned", "Moment", "Reach", "Surroundings", "Training", "finetune", "learn"]
