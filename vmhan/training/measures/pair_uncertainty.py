"""What the node variances say of each pair of a split that was evaluated: a second pass, after the rule was fitted."""

from collections.abc import Mapping

import datasets
import torch
from torch.utils.data import DataLoader
from tqdm.auto import tqdm

from modeling_vmhan.decision import DecisionRule
from modeling_vmhan.monte_carlo import monte_carlo_probabilities
from modeling_vmhan.uncertainty import uncertainty
from vmhan.scoring.predictions import UNCERTAINTIES
from vmhan.training.loop.trainer import RelationTrainer


__all__ = ["pair_uncertainties"]

NUM_SAMPLES = 32

Columns = dict[str, list[float]]


def pair_uncertainties(trainer: RelationTrainer, splits: Mapping[str, datasets.Dataset]) -> dict[str, Columns]:
    """Of each split UNCERTAINTIES, a value a pair in the data's order, by the rule of the model's config.

    {} for a model without variances, a baseline included, and under FSDP, where no process has all weights.
    """
    config = trainer.model.config
    if not getattr(config, "variational", False) or trainer.is_fsdp_enabled:
        return {}
    return {split: _of_split(trainer, posts, DecisionRule.of(config), split) for split, posts in splits.items()}


@torch.inference_mode()
def _of_split(trainer: RelationTrainer, posts: datasets.Dataset, rule: DecisionRule, split: str) -> Columns:
    model, rows = trainer.model.eval(), trainer._remove_unused_columns(posts)
    options = {"batch_size": trainer.args.per_device_eval_batch_size, "collate_fn": trainer.data_collator}
    values: Columns = {name: [] for name in UNCERTAINTIES}
    for batch in tqdm(DataLoader(rows, **options), f"uncertainty, {split}", disable=trainer.args.disable_tqdm):
        output = model(**batch.to(trainer.args.device), output_gaussians=True)
        mean, variance = output.read_mean, output.read_variance  # (P, n, D) each
        samples = monte_carlo_probabilities(model.classifier, mean, variance, num_samples=NUM_SAMPLES, rule=rule)
        worth = uncertainty(samples.cpu().numpy())
        found = (worth.entropy, worth.mutual_information, variance.float().sum(dim=(1, 2)))  # (P,) each
        for name, of_pairs in zip(UNCERTAINTIES, found, strict=True):
            values[name] += of_pairs.tolist()
    return values
