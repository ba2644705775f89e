"""The one training loop, its uses, and augmentation, as one calls them from Python."""

from lilliput.learning.augmenting import Policy, default_policy
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
    "Policy",
    "Range",
    "Reach",
    "Study",
    "Surroundings",
    "Training",
    "Tuned",
    "choice",
    "default_policy",
    "finetune",
    "learn",
    "tune",
]
