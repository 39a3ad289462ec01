"""Rows of a sweep over a text encoder that is trained before and then frozen: a trial takes a minute or two.

    vmhan sweep mnre_search --datasets mnre_order_blind --rows text --keep_weights text --results HALVES -- \\
        --data_dir DIR --max_samples 3678
    python -m benchmarks.findings.frozen_text HALVES/mnre_order_blind/text/seed-1 mnre_search --results R \\
        --datasets mnre_order_blind --rows text isolated --skipped 3678 -- --data_dir DIR

The first command trains an encoder on the first posts of the train split. The second one trains rows on the posts
behind them, which that encoder has not learned by heart, and leaves what `vmhan sweep` leaves, so that a report
compares them. The states of each text are computed once, without dropout, and kept in memory. What is compared is what
a row makes of the same states; it does not say what the row would make of an encoder that learns with it.
"""

import logging
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from unittest import mock

import datasets
import torch
import transformers
from torch import Tensor
from tqdm.auto import tqdm
from transformers import AutoTokenizer

from benchmarks.harness.command import new_parser
from modeling_vmhan import VMHANForRelationClassification, VMHANModel, VMHANProcessor
from modeling_vmhan.batching import EncodedPost
from vmhan.evaluation.sweep.plan import plan_runs, read_sweep
from vmhan.evaluation.sweep.runs import DONE, FAILURE, do_run, needs_work
from vmhan.training import command
from vmhan.training.flags import split_at_dashes, to_entries


__all__ = ["RememberedStates", "main"]


class RememberedStates:
    """Stands for `VMHANModel.encode_text`: the states of each encoder row, computed once, without gradient."""

    def __init__(self, encode_text: Callable[..., Tensor]):
        self.encode_text = encode_text
        self.states: dict[tuple[bytes, ...], Tensor] = {}  # of the inputs' bytes: (T, D) without padding

    @torch.no_grad()
    def __call__(self, model: VMHANModel, input_ids: Tensor, attention_mask: Tensor, *others: Tensor | None) -> Tensor:
        """States (S, T, D); others: the further arguments of `VMHANModel.encode_text`, the last ones None."""
        arrays = [input_ids, attention_mask, *(array for array in others if array is not None)]
        lengths = attention_mask.sum(dim=1).tolist()
        rows = zip(lengths, *(array.numpy() for array in arrays), strict=True)
        keys = [tuple(array[:length].tobytes() for array in of_row) for length, *of_row in rows]
        if missing := [i for i, key in enumerate(keys) if key not in self.states]:
            was_training = model.text_encoder.training
            model.text_encoder.eval()
            given = [None if array is None else array[missing] for array in (input_ids, attention_mask, *others)]
            for i, states in zip(missing, self.encode_text(model, *given), strict=True):
                self.states[keys[i]] = states[: lengths[i]].clone()
            model.text_encoder.train(was_training)
        found = [self.states[key] for key in keys]
        padded = torch.nn.utils.rnn.pad_sequence(found, batch_first=True)  # (S, longest row, D)
        return torch.nn.functional.pad(padded, (0, 0, 0, input_ids.shape[1] - padded.shape[1]))


def save_encoder(run: Path, folder: Path) -> None:
    """The text encoder and tokenizer of a finished run that kept its weights, as `--text_encoder` takes them."""
    model = VMHANForRelationClassification.from_pretrained(run)
    model.vmhan.text_encoder.save_pretrained(folder)
    AutoTokenizer.from_pretrained(run).save_pretrained(folder)


def once_a_post(encode: Callable[..., EncodedPost]) -> Callable[..., EncodedPost]:
    """`VMHANProcessor.encode` for one processor, which does not encode a post again in the next epoch."""
    encoded: dict[tuple[Any, ...], EncodedPost] = {}

    def remembered(processor: VMHANProcessor, post: dict[str, Any], *others: Any) -> EncodedPost:
        key = post["id"], post.get("text"), tuple(post.get("tokens") or ())  # an id is of one split
        if key not in encoded:
            encoded[key] = encode(processor, post, *others)
        return encoded[key]

    return remembered


def without_first(load_posts: Callable[..., datasets.DatasetDict], number: int) -> Callable[..., datasets.DatasetDict]:
    """`load_posts`, whose train split lacks its first posts."""

    def load(*args: Any, **options: Any) -> datasets.DatasetDict:
        posts = load_posts(*args, **options)
        posts["train"] = posts["train"].skip(number)
        return posts

    return load


def main(argv: Sequence[str] | None = None) -> int:
    """Train what is not trained yet; 1 if any run failed."""
    logging.basicConfig(format="%(message)s", level=logging.INFO)
    transformers.utils.logging.set_verbosity_error()
    own, extra = split_at_dashes(sys.argv[1:] if argv is None else argv)
    parser = new_parser(__spec__.name, __doc__)
    parser.add_argument("run", type=Path, help="of which the text encoder is: a folder with weights")
    parser.add_argument("sweep")
    parser.add_argument("--results", required=True)
    parser.add_argument("--datasets", nargs="+")
    parser.add_argument("--rows", nargs="+")
    parser.add_argument("--seeds", nargs="+", type=int)
    parser.add_argument("--skipped", type=int, default=0, help="first posts of the train split, that the run had")
    arguments = parser.parse_args(own)
    name = "-".join(arguments.run.parts[-2:])  # ROW-seed-N; the folder around it is another one each time
    chosen = {key: getattr(arguments, key) for key in ("datasets", "rows", "seeds")}
    remembered, failed = RememberedStates(VMHANModel.encode_text), 0
    with tempfile.TemporaryDirectory() as folder:
        encoder = Path(folder) / name
        save_encoder(arguments.run, encoder)
        flags = {**to_entries(extra), "text_encoder": str(encoder)}
        runs = plan_runs(read_sweep(arguments.sweep), arguments.results, **chosen, flags=flags)
        loading = mock.patch.object(command, "load_posts", without_first(command.load_posts, arguments.skipped))
        encoding = mock.patch.object(VMHANModel, "encode_text", lambda *args: remembered(*args))
        with loading, encoding:
            for run in tqdm(runs, unit="run"):
                if not needs_work(run):
                    continue
                with mock.patch.object(VMHANProcessor, "encode", once_a_post(VMHANProcessor.encode)):
                    outcome = do_run(run, keep_weights=False)
                if outcome != DONE:
                    failed += 1
                    tqdm.write(f"failed: {run.folder / FAILURE}")
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
