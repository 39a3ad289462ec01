"""What does a trained model lose in bfloat16? F1, answers and processor time on the validation split.

    OMP_NUM_THREADS=1 python -m benchmarks.inference.halves MODEL configs/mnre_offline.yaml --data_dir MNRE_DIR

After MODEL come the CONFIG.yaml and the flags of run_mmre.py that name its data. Each batch of 16 posts of like length
is answered by the model, by its weights rounded to bfloat16, and all in bfloat16. Prints a row each.
"""

import argparse
import copy
import time

import torch
from torch import nn

from benchmarks.harness.command import new_parser
from model_cards.tables import markdown_table
from modeling_vmhan import VMHANForRelationClassification, VMHANProcessor
from modeling_vmhan.decision import DecisionRule
from vmhan.inference.onnx.evaluation import load_validation
from vmhan.scoring.scorer import score


__all__ = ["main"]

BATCH = 16
EXACT = "float32"


@torch.no_grad()
def main(argv: list[str] | None = None) -> None:
    parser = new_parser(__spec__.name, __doc__)
    parser.add_argument("folder", metavar="MODEL", help="folder of a trained model")
    parser.add_argument("data", nargs=argparse.REMAINDER, help="CONFIG.yaml and flags")
    arguments = parser.parse_args(argv)
    folder, data = arguments.folder, arguments.data
    model = VMHANForRelationClassification.from_pretrained(folder).float()
    processor, config = VMHANProcessor.from_pretrained(folder), model.config
    rule = DecisionRule.of(config)
    halved = copy.deepcopy(model).bfloat16()
    forms = {EXACT: model, "weights": copy.deepcopy(halved).float(), "all": halved}
    posts = sorted(load_validation(data), key=lambda post: len(post["tokens"]))
    gold, found, seconds = [], {name: [] for name in forms}, dict.fromkeys(forms, 0.0)
    for start in range(0, len(posts), BATCH):
        inputs = processor(posts[start : start + BATCH], label2id=config.label2id)
        gold += [config.labels[label] for label in inputs.pop("labels").tolist()]
        for name, form in forms.items():
            seconds[name] -= time.process_time()
            found[name].append(answered(form, inputs, rule))
            seconds[name] += time.process_time()
    found = {name: torch.cat(batches) for name, batches in found.items()}  # (pairs, R)
    rows = []
    for name, own in found.items():
        relations = [config.labels[label] for label in own.argmax(-1).tolist()]
        f1 = score(gold, relations, labels=config.labels, none_label=config.none_label)["f1"]
        same = (own.argmax(-1) == found[EXACT].argmax(-1)).float().mean()
        difference = (own.amax(-1) - found[EXACT].amax(-1)).abs().max()
        time_ratio = seconds[name] / seconds[EXACT]
        rows.append([name, f"{100 * f1:.2f}", f"{same:.2%}", f"{difference:.4f}", f"{time_ratio:.2f}"])
    print(markdown_table(["bfloat16", "F1", "same answer", "largest difference of a score", "processor time"], rows))


def answered(model: nn.Module, inputs, rule: DecisionRule) -> torch.Tensor:
    """Probabilities (P, R)."""
    return rule.probabilities(model(**inputs).logits.float())


if __name__ == "__main__":
    main()
