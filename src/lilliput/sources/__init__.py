"""What users bring: data loaders, checkpoints, Hugging Face folders, task files."""

from lilliput.sources.arguments import (
    TaskArguments,
    graph_examples,
    inputs_of_shape,
    source_bytes,
    task_from_arguments,
    task_to_verify,
)
from lilliput.sources.arrays import Arrays, arrays
from lilliput.sources.checkpoints import load_weights, read_weights
from lilliput.sources.drafting import draft_task
from lilliput.sources.huggingface import HuggingFace, SentenceEncoder, hugging_face
from lilliput.sources.images import ImageFolder, images
from lilliput.sources.inspecting import FileInfo, inspect_file
from lilliput.sources.taskfile import load_task_file, model_from_spec
from lilliput.sources.texts import Texts, texts

__all__ = [
    "Arrays",
    "FileInfo",
    "HuggingFace",
    "ImageFolder",
    "SentenceEncoder",
    "TaskArguments",
    "Texts",
    "arrays",
    "draft_task",
    "graph_examples",
    "hugging_face",
    "images",
    "inputs_of_shape",
    "inspect_file",
    "load_task_file",
    "load_weights",
    "model_from_spec",
    "read_weights",
    "source_bytes",
    "task_from_arguments",
    "task_to_verify",
    "texts",
]
