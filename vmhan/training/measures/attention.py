"""How often the attention finds the object that decides a pair, where the data say which one it is."""

import logging
from typing import Any

import datasets
import torch
from torch.utils.data import DataLoader

from modeling_vmhan.explanation import attention_rollout, read_nodes
from vmhan.training.loop.trainer import RelationTrainer


__all__ = ["attention_accuracy"]

logger = logging.getLogger(__name__)

GOLD = "gold_objects"  # the column, which no model reads


@torch.no_grad()
def attention_accuracy(trainer: RelationTrainer, posts: datasets.Dataset) -> float | None:
    """The share of the pairs with a gold object of which this has the highest weight among the pair's objects.

    The weight is `AttentionRollout.node_weight`, which the pipeline's explanation shows: of all layers, heads and
    hyperedges; in a post's hypergraph, which has an object once for all pairs, as the pair's own three nodes read it.
    A pair counts if its gold object is one of its nodes, and is not the only object. None: no pair does, the split has
    no such column, or the model, as the log says, is no V-HAN with objects.
    """
    if GOLD not in posts.features:
        return None
    config = trainer.model.config
    if getattr(config, "hypergraph_encoder", None) != "vhan" or not config.num_objects:
        logger.info("no attention_accuracy, although the data have %s: this model has no attention to objects", GOLD)
        return None

    def collate(rows: list[dict[str, Any]]) -> tuple[Any, torch.Tensor]:
        gold = [index for row in rows for index in row[GOLD]]
        return trainer.data_collator(rows), torch.tensor(gold)

    rows, found = trainer._remove_unused_columns(posts), []
    trainer.model.eval()
    for batch, gold in DataLoader(rows, batch_size=trainer.args.eval_batch_size, collate_fn=collate):
        if "pair_objects" not in batch:
            return None
        objects = batch["pair_objects"]  # (P, K)
        if not objects.shape[1]:
            continue  # no pair of the batch has an object
        inputs = trainer._prepare_inputs(batch)
        output = trainer.model(output_attentions=True, **inputs)
        weight = attention_rollout(output.attentions, output.incidence, read_nodes(inputs)).node_weight.cpu()  # (P, N)
        if "object_nodes" in batch:  # of a post's hypergraph
            places = batch["object_nodes"].clamp(min=0)  # (P, K)
        else:
            phrases = batch["text_phrase_tokens"].shape[1] if "text_phrase_tokens" in batch else 0
            places = 3 + phrases + torch.arange(objects.shape[1]).expand_as(objects)  # behind the image
        weight = weight.gather(1, places).masked_fill(objects < 0, -1)  # (P, K)
        is_gold = (objects == gold.unsqueeze(1)) & (objects >= 0)  # (P, K)
        counts = is_gold.any(dim=1) & ((objects >= 0).sum(dim=1) > 1)
        found.append(is_gold.gather(1, weight.argmax(dim=1, keepdim=True)).squeeze(1)[counts])
    hits = torch.cat([torch.empty(0, dtype=torch.bool), *found]).float()
    return hits.mean().item() if len(hits) else None
