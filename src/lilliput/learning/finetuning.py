"""`finetune`: a trained model learns on, or learns a new task with a new head."""

import copy
from dataclasses import replace

from lilliput.learning.adapters import merge_adapters
from lilliput.learning.learned import Learned
from lilliput.learning.lesson import Supervised
from lilliput.learning.loop import Surroundings, learn
from lilliput.learning.material import material_of
from lilliput.learning.pupil import restore_flags
from lilliput.learning.reach import Reach, new_head, take_reach
from lilliput.learning.training import Training
from lilliput.learning.watching import Watch
from lilliput.task import Task
from lilliput.validation import check_task


def finetune(
    task: Task,
    *,
    training: Training | None = None,
    reach: Reach | str | None = None,
    classes: int | None = None,
    around: Surroundings | None = None,
) -> Learned:
    """Trains a copy of the task's model on its training examples; the best by search examples.

    Args:
        task: With `train`. Its model is left as it was.
        training: How long, how fast: see `Training`.
        reach: How much of the model learns, or its ``part`` alone; by default all of it.
        classes: A new head for so many classes is put in the place of the old one first (transfer
            learning); the task's targets are of the new classes.
        around: Folder for checkpoints, and who is told.

    Raises:
        TaskError: The model, the loss or the targets do not fit together.
        TrainingError: There are no training examples, or the training cannot go on.
        CheckpointError, OutputError: See `learn`.
    """
    training = training or Training()
    reach = Reach(part=reach) if isinstance(reach, str) else reach or Reach()
    pupil = copy.deepcopy(task.model)
    inputs = task.sample(2)
    if classes is not None:
        new_head(pupil, classes, inputs=inputs, seed=training.seed)
        task = replace(task, model=copy.deepcopy(pupil))
    metric = check_task(task)
    split = task.split(training.seed)
    material = material_of(task, split=split, labelled=True, use="fine-tuning")
    told = take_reach(pupil, reach, inputs=inputs, seed=training.seed)
    found = learn(
        pupil,
        Supervised(task, str(reach)),
        material=material,
        training=training,
        watch=Watch.of(task, subset=split.search, metric=metric),
        around=around,
    )
    merge_adapters(found.model)
    restore_flags(found.model, task.model)
    return replace(found, notes=(f"learned: {told}", *found.notes))
