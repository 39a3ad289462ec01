"""Could `packed` be faster than `marker` by the ratio of tokens? The floor of a step, and what attention costs.

    OMP_NUM_THREADS=1 python -m benchmarks.model.packed --data_dir MNRE_DIR --output_dir outputs/packed

The floor of a step is the time of its matrix products at the peak of one large product, and of AdamW as it is, which
reads and writes the same weights in both. Share: how many times as fast as `marker`, over how many times fewer tokens
(without padding). Then a forward and backward pass of `packed` with other attentions: "none" computes none at all, so
that no other layout of it could gain more. Writes packed.md and packed.json.
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
import transformers
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode
from transformers import AttentionInterface

from benchmarks.harness.command import new_parser
from benchmarks.harness.competitors import ENCODERS, Bench, Competitor, load_encoder, with_so_many_pairs
from benchmarks.harness.posts import load_posts, with_features
from benchmarks.harness.report import Row, Table, write_report
from benchmarks.harness.timing import take_turns


__all__ = ["main"]

ATTENTIONS = ("sdpa", "eager", "none")
BATCH_SIZE, FEATURE_SIZE = 16, 4096
PEAK_SIZE = 1024  # of the square matrices whose product is the peak


def main(argv: list[str] | None = None) -> None:
    """Print the floor at each size of a batch, time the attentions, and write the report."""
    arguments = parse_arguments(argv)
    torch.set_num_threads(1)
    transformers.utils.logging.set_verbosity_error()  # no weights of a pooler are missed here
    AttentionInterface.register("none", no_attention)
    posts, relations = load_posts(arguments.data_dir, BATCH_SIZE, batches=1)
    with tempfile.TemporaryDirectory() as folder:
        stored = list(with_features(posts, relations, Path(folder), feature_size=FEATURE_SIZE))
        bench = Bench(*load_encoder(arguments.encoder), stored, relations, BATCH_SIZE)
        about: dict[str, Any] = {"pairs a sentence": arguments.pairs, "peak, GFLOP/s": round(peak() / 1e9, 1)}
        for size in arguments.pairs_per_batch:
            both = with_so_many_pairs(bench, arguments.pairs, ("marker", "packed"), pairs_per_batch=size)
            about[f"{size} pairs a batch"] = floor_of_both(**both)
        size = arguments.pairs_per_batch[0]
        packed = with_so_many_pairs(bench, arguments.pairs, ["packed"], pairs_per_batch=size)["packed"]
        turns = {name: [partial(pass_with, name, packed)] for name in ATTENTIONS}
        times = take_turns(turns, arguments.rounds)
    table = Table({name: Row(times[name], "sdpa", packed.work) for name in ATTENTIONS})
    print(write_report(arguments.output_dir, __spec__.name, argv, about, {"attention": table}))


def parse_arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = new_parser(__spec__.name, __doc__)
    parser.add_argument("--encoder", choices=ENCODERS, default="offline", help="offline: all-MiniLM-L6-v2")
    parser.add_argument("--data_dir", help="folder of MNRE; postcards are drawn when left out")
    parser.add_argument("--output_dir", type=Path, default=Path("outputs/packed"))
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--pairs", type=int, default=20, help="pairs a sentence")
    parser.add_argument("--pairs_per_batch", type=int, nargs="+", default=[40, 160])
    return parser.parse_args(argv)


def no_attention(module: Any, query: Tensor, key: Tensor, value: Tensor, *others: Any, **options: Any):
    """Each token's own sum, (S, T, heads, d_head), through which all weights get gradients."""
    return (query + key + value).transpose(1, 2), None


def best(work: Callable[[], Any], times: int = 10) -> float:
    """Return the least processor time of so many calls, in seconds: what other processes take counts least in it."""
    seconds = []
    for _ in range(times):
        start = time.process_time()
        work()
        seconds.append(time.process_time() - start)
    return min(seconds)


def peak() -> float:
    """Return the floating-point operations a second of one large product in float32."""
    one = torch.rand(PEAK_SIZE, PEAK_SIZE)
    return 2 * PEAK_SIZE**3 / best(lambda: one @ one)


def floor_of_both(marker: Competitor, packed: Competitor) -> str:
    """Say the floors of a step with markers and packed, and the share of the ratio of tokens at these floors."""
    operations_a_second, floors, parts = peak(), [], []
    for name, competitor in (("marker", marker), ("packed", packed)):
        with FlopCounterMode(display=False) as counter:
            competitor.model.train()(**competitor.batches[0]).loss.backward()
        products = counter.get_total_flops() / operations_a_second
        updates = sum(best(optimizer.step) for optimizer in competitor.optimizers)
        competitor.update()
        floors.append(products + updates)
        parts.append(f"{name} {1000 * products:.0f} + {1000 * updates:.0f}")
    share = floors[0] / floors[1] * packed.work["tokens"] / marker.work["tokens"]
    return f"products + AdamW at least {', '.join(parts)} ms a batch, a share of {share:.2f} at most"


def pass_with(attention: str, packed: Competitor) -> None:
    """Run the text encoder forward and backward in training with this attention."""
    model, batch = packed.model.train(), packed.batches[0]
    model.vmhan.text_encoder.config._attn_implementation = attention
    names = ("input_ids", "attention_mask", "token_type_ids", "position_ids", "marker_pair")
    model.vmhan.encode_text(**{name: batch[name] for name in names if name in batch}).sum().backward()
    model.zero_grad()


if __name__ == "__main__":
    main()
