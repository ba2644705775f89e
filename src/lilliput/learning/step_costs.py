"""What a step of training holds in memory at its peak, by torch's own account of allocations."""

import copy
from itertools import accumulate

from torch import nn
from torch.profiler import ProfilerActivity, profile

from lilliput.learning.lesson import Lesson
from lilliput.learning.machine import Machine
from lilliput.learning.material import Material
from lilliput.learning.pupil import Pupil
from lilliput.learning.training import Training

STEPS = 2  # the first one makes the optimizer's state


def step_bytes(model: nn.Module, lesson: Lesson, *, material: Material, training: Training) -> int:
    """Bytes that a step of training holds at once, beside the weights and the examples.

    Gradients, what the backward pass needs, and the optimizer's state: counted allocations, the
    same on every run with the same number of threads, not a reading of the process.

    Args:
        model: It is left as it was.
        lesson: What is learned from what.
        material: The examples.
        training: Its batch size, optimizer and average count.
    """
    machine = Machine(training, None)
    pupil = copy.deepcopy(model)
    examples = material.examples(0, size=training.batch_size, seed=training.seed)
    (batch, *_) = material.batches(examples, training.batch_size)
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as seen:
        learning = Pupil(pupil, extra=lesson.extra(), training=training, machine=machine)
        for _ in range(STEPS):
            learning.begin_step(training.rate, still_norms=False)
            loss = lesson.loss(learning.model, batch, targets=((batch.targets, 1.0),))
            machine.backward(loss)
            learning.end_step()
    events = [
        event for event in seen.profiler.kineto_results.events() if event.name() == "[memory]"
    ]
    changes = [event.nbytes() for event in sorted(events, key=lambda event: event.start_ns())]
    return max(accumulate(changes), default=0)
