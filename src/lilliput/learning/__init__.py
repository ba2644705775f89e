"""The one training loop, its uses, and augmentation, as one calls them from Python."""

from lilliput.learning.attention import Attention
from lilliput.learning.augmenting import Policy, default_policy
from lilliput.learning.distilling import distill
from lilliput.learning.finetuning import finetune
from lilliput.learning.imitation import Blocks, Features, Logits, Relations
from lilliput.learning.learned import Learned, Moment
from lilliput.learning.loop import Surroundings, learn
from lilliput.learning.reach import Reach
from lilliput.learning.spaces import Range, choice
from lilliput.learning.teaching import Teaching
from lilliput.learning.training import Training
from lilliput.learning.tuning import Study, Tuned, tune

__all__ = [
    "Attention",
    "Blocks",
    "Features",
    "Learned",
    "Logits",
    "Moment",
    "Policy",
    "Range",
    "Reach",
    "Relations",
    "Study",
    "Surroundings",
    "Teaching",
    "Training",
    "Tuned",
    "choice",
    "default_policy",
    "distill",
    "finetune",
    "learn",
    "tune",
]
