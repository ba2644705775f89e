"""Hugging Face folders: the model its `config.json` names, and none of their code."""

import inspect
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from lilliput.errors import CheckpointError, MissingExtraError, TaskError
from lilliput.usercode import users_code

Role = Literal["encoder", "classifier", "tagger", "masked", "causal"]

ROLES: dict[str, Role] = {
    "ForSequenceClassification": "classifier",
    "ForTokenClassification": "tagger",
    "ForMaskedLM": "masked",
    "ForCausalLM": "causal",
    "LMHeadModel": "causal",
    "Model": "encoder",
}
METRICS: dict[Role, str] = {
    "encoder": "cosine",
    "classifier": "agreement",
    "tagger": "agreement",
    "masked": "agreement",
    "causal": "perplexity",
}


@dataclass(frozen=True)
class HuggingFace:
    """A model from a folder and how to use it.

    Attributes:
        model: In eval mode, float32; called as ``model(input_ids=..., attention_mask=...)``.
        tokenizer: A transformers tokenizer.
        role: What its head does.
        label_names: Classes in order, empty where it has none.
        longest: Most tokens it takes.
        notes: What was decided on the user's behalf, one sentence each.
    """

    model: nn.Module
    tokenizer: Any
    role: Role
    label_names: tuple[str, ...]
    longest: int
    notes: tuple[str, ...]

    @property
    def metric(self) -> str:
        """The metric that fits without labels."""
        return METRICS[self.role]


class SentenceEncoder(nn.Module):
    """A plain encoder and one vector per text: the mean over real tokens, or the first token.

    Attributes:
        encoder: The model; its ``last_hidden_state`` (N, T, D) is pooled.
    """

    def __init__(self, encoder: nn.Module, *, pooling: str = "mean", scale: bool = False) -> None:
        super().__init__()
        self.encoder = encoder
        self.pooling = pooling
        self.scale = scale

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """(N, T) tokens and mask -> (N, D) vectors, of length 1 if `scale`."""
        hidden = self.encoder(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        if self.pooling == "first":
            pooled = hidden[:, 0]  # (N, D)
        else:
            real = attention_mask.unsqueeze(-1).to(hidden.dtype)  # (N, T, 1)
            pooled = (hidden * real).sum(1) / real.sum(1).clamp(min=1e-9)  # (N, D)
        return nn.functional.normalize(pooled, dim=1) if self.scale else pooled


def hugging_face(folder: str | Path) -> HuggingFace:
    """The model and tokenizer of a folder, by the architecture in its ``config.json``.

    Loaded from local files only, with eager attention; code inside the folder never runs.

    Raises:
        CheckpointError: Not such a folder, an unknown architecture, or weights that lack a part.
        TaskError: An architecture whose inputs are not one text.
        MissingExtraError: transformers is not installed.
    """
    root = Path(folder)
    config = _read(root / "config.json")
    architecture = next(iter(config.get("architectures") or ()), None)
    if architecture is None:
        raise CheckpointError(f"{root}/config.json names no architecture")
    if "auto_map" in config:
        raise CheckpointError(
            f"{root} brings its own code for {architecture}, which is not run",
            "load it in a task file of yours",
        )
    role = next((role for end, role in ROLES.items() if architecture.endswith(end)), None)
    if role is None or config.get("is_encoder_decoder"):
        raise TaskError(
            f"{architecture} does not take one text",
            f"known are ...{', ...'.join(ROLES)}; for others write a task file",
        )
    model, notes = _load_model(root, architecture, role)
    if role == "encoder":
        model, pooled = _pool(model, root)
        notes = (*notes, pooled)
    names = _labels(config) if role in ("classifier", "tagger") else ()
    tokenizer = _load_tokenizer(root)
    longest = min(int(config.get("max_position_embeddings") or 512), 10**6)
    return HuggingFace(model.eval(), tokenizer, role, names, longest, notes)


def _read(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path} cannot be read: {error}") from error
    if not isinstance(found, dict):
        raise CheckpointError(f"{path} is not a configuration")
    return found


def _transformers() -> Any:
    try:
        import transformers
    except ImportError as error:
        raise MissingExtraError(
            "Hugging Face folders need transformers", "pip install lilliput[text]"
        ) from error
    return transformers


@contextmanager
def _quiet(logging: Any) -> Iterator[None]:
    """No progress bar and no list of left-out tensors: what matters is checked and said by us."""
    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()


def _load_model(root: Path, architecture: str, role: Role) -> tuple[nn.Module, tuple[str, ...]]:
    transformers = _transformers()
    kind = getattr(transformers, architecture, None)
    if kind is None:
        raise CheckpointError(f"this transformers does not know {architecture}")
    settings: dict[str, Any] = {}
    if "add_pooling_layer" in inspect.signature(kind.__init__).parameters and role == "encoder":
        settings["add_pooling_layer"] = False
    with users_code(f"loading {root}"), _quiet(transformers.utils.logging):
        model, found = kind.from_pretrained(
            root,
            attn_implementation="eager",
            local_files_only=True,
            output_loading_info=True,
            **settings,
        )
    missing = sorted(found["missing_keys"])
    if missing:
        raise CheckpointError(
            f"{root} lacks {missing[0]} and would start with random numbers there"
            + (f" ({len(missing)} tensors)" if len(missing) > 1 else ""),
            "save the fine-tuned model with save_pretrained()",
        )
    model.config.use_cache = False
    stored = next(model.parameters()).dtype
    if stored == torch.float32:
        return model, ()
    word = str(stored).removeprefix("torch.")
    note = f"The checkpoint holds {word}; the original was computed and measured as float32."
    return model.float(), (note,)


def _pool(model: nn.Module, root: Path) -> tuple[nn.Module, str]:
    """The encoder with the pooling its sentence-transformers files ask for, else the mean."""
    pooling = root / "1_Pooling" / "config.json"
    first = pooling.is_file() and bool(_read(pooling).get("pooling_mode_cls_token"))
    modules = root / "modules.json"
    scale = modules.is_file() and "models.Normalize" in modules.read_text(encoding="utf-8")
    how = "the first token's vector" if first else "the mean over its tokens"
    note = f"A plain encoder: each text's output is {how}{', scaled to length 1' * scale}."
    return SentenceEncoder(model, pooling="first" if first else "mean", scale=scale), note


def _load_tokenizer(root: Path) -> Any:
    with users_code(f"loading the tokenizer of {root}"):
        return _transformers().AutoTokenizer.from_pretrained(root, local_files_only=True)


def _labels(config: dict[str, Any]) -> tuple[str, ...]:
    named = config.get("id2label") or {}
    return tuple(str(named[key]) for key in sorted(named, key=int))
