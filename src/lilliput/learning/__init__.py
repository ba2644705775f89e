"""The one training loop and its uses, as one calls them from Python."""

from lilliput.learning.finetuning import finetune
from lilliput.learning.learned import Learned, Moment
from lilliput.learning.loop import Surroundings, learn
from lilliput.learning.reach import Reach
from lilliput.learning.spaces import Range, choice
from lilliput.learning.training import Training
from lilliput.learning.tuning import Study, Tuned, tune

__all__ = [
    "Learned",
    "Moment",
    "Range",
    "Reach",
    "Study",
    "Surroundings",
    "Training",
    "Tuned",
    "choice",
    "finetune",
    "learn",
    "tune",
]
