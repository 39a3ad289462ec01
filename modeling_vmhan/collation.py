"""The collator: posts in, padded model inputs out, through the processor and nothing else."""

from dataclasses import dataclass
from typing import Any

from .processing_vmhan import VMHANProcessor


__all__ = ["VMHANCollator"]


@dataclass
class VMHANCollator:
    """Dynamic padding to the longest row of the batch.

    Args:
        processor: encodes the posts.
        label2id: of the model's config; None for posts without relations.

    Example:
        DataLoader(posts, batch_size=16, collate_fn=VMHANCollator(processor, model.config.label2id))
    """

    processor: VMHANProcessor
    label2id: dict[str, int] | None = None

    def __call__(self, posts: list[dict[str, Any]]) -> dict[str, Any]:
        return self.processor(posts, label2id=self.label2id)
