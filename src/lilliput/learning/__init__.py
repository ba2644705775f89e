"""The one training loop, its uses, and augmentation, as one calls them from Python."""

from lilliput.learning.augmenting.policy import Policy, default_policy
from lilliput.learning.constraints.constrained import Constrained
from lilliput.learning.distilling.attention import Attention
from lilliput.learning.distilling.distill import distill
from lilliput.learning.distilling.imitation import Blocks, Features, Logits, Relations
from lilliput.learning.distilling.teaching import Teaching
from lilliput.learning.finetuning import finetune
from lilliput.learning.learned import Learned, Moment
from lilliput.learning.loop import Surroundings, learn
from lilliput.learning.pruning import Thinned, prune
from lilliput.learning.reach import Reach
from lilliput.learning.recovery import Recover
from lilliput.learning.thinning import Pruning
from lilliput.learning.training import Training
from lilliput.learning.tuning.spaces import Range, choice
from lilliput.learning.tuning.tune import Study, Tuned, tune

__all__ = [
    "Attention",
    "Blocks",
    "Constrained",
    "Features",
    "Learned",
    "Logits",
    "Moment",
    "Policy",
    "Pruning",
    "Range",
    "Reach",
    "Recover",
    "Relations",
    "Study",
    "Surroundings",
    "Teaching",
    "Thinned",
    "Training",
    "Tuned",
    "choice",
    "default_policy",
    "distill",
    "finetune",
    "learn",
    "prune",
    "tune",
]
