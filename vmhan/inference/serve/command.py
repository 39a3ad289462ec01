"""Serve a trained model over HTTP: `vmhan serve MODEL`, on Ray Serve, until Ctrl-C.

POST a post as JSON to it; docs/serving.md says more.
"""

import argparse
import logging
import signal
import threading
from functools import partial
from operator import not_
from pathlib import Path

from datasets_scripts.commands import check_folder_or_hub_name, check_needs
from modeling_vmhan.needs import Need
from vmhan.inference.mention_finders import FINDERS


__all__ = ["main", "parse_arguments"]

logger = logging.getLogger(__name__)

NEEDS = (Need("metrics_port", "ray_address", "left out", not_),)  # a running cluster has its own


def main(argv: list[str] | None = None) -> int:
    """Run the command and return its exit code, 0 after Ctrl-C or SIGTERM."""
    arguments = parse_arguments(argv)
    logging.basicConfig(format="%(levelname)s %(name)s: %(message)s", level=logging.INFO)
    from vmhan.inference.serve.engine import Settings, served
    from vmhan.inference.serve.requests import Limits
    from vmhan.inference.torch_backend import load_pipeline
    from vmhan.training.checkpoints import check_model_folder

    check_model_folder("MODEL", arguments.model)
    model = str(Path(arguments.model).absolute()) if Path(arguments.model).is_dir() else arguments.model
    of_pipe = {name: getattr(arguments, name) for name in ("trust_remote_code", "mentions", "detector")}
    defaults = {"device": None, "top_k": 5, "abstain_below": 0.0}
    defaults |= dict.fromkeys(("min_score", "min_precision", "all_pairs", "num_samples"))
    load = partial(load_pipeline, argparse.Namespace(model=model, **of_pipe, **defaults))
    limits = {name: getattr(arguments, name) for name in Limits.__dataclass_fields__}
    settings = {name: getattr(arguments, name) for name in Settings.__dataclass_fields__ if name != "limits"}
    ended = threading.Event()
    with served(load, Settings(limits=Limits(**limits), **settings)) as address:
        for name in (signal.SIGINT, signal.SIGTERM):  # in here, as Ray has its own handlers
            signal.signal(name, lambda *_: ended.set())
        logger.info("ready: POST a post to %s", address)
        ended.wait()
        logger.info("no new requests; those that run are answered")
    return 0


def parse_arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="vmhan serve", description=__doc__.split("\n")[0])
    parser.add_argument("model", help="folder or Hub name of a trained model")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen at (default 127.0.0.1: this machine)")
    parser.add_argument("--port", type=_count, default=8000, help="port to listen at (default 8000)")
    parser.add_argument("--metrics_port", type=_count, help="Ray's metrics for Prometheus (default: a free port)")
    parser.add_argument("--num_replicas", type=_count, default=1, help="one a device, a GPU or a CPU (default 1)")
    parser.add_argument("--ray_address", help="of a Ray cluster, such as auto (default: start one on this machine)")
    parser.add_argument("--batch_size", type=_count, default=16, help="posts in one pass, at most (default 16)")
    parser.add_argument(
        "--batch_wait", type=_seconds, default=0.0, help="seconds that a batch waits to be full (default 0)"
    )
    parser.add_argument("--max_ongoing", type=_count, default=64, help="requests that are in one replica (default 64)")
    parser.add_argument(
        "--max_queued", type=_count, default=256, help="requests that wait for one; more get 503 (default 256)"
    )
    parser.add_argument("--timeout", type=_seconds, default=60.0, help="seconds until a request gets 408 (default 60)")
    parser.add_argument(
        "--max_body_bytes", type=_count, default=16 << 20, help="of a request; more get 413 (default 16 MiB)"
    )
    parser.add_argument("--max_pixels", type=_count, default=1 << 24, help="of a picture (default 16.8 million)")
    parser.add_argument("--url_timeout", type=_seconds, default=5.0, help="seconds for one by address (default 5)")
    parser.add_argument("--url_max_bytes", type=_count, default=16 << 20, help="of what it gives (default 16 MiB)")
    parser.add_argument(
        "--allow_private_urls", action="store_true", help="fetch from hosts that are not public, such as this one"
    )
    parser.add_argument("--mentions", metavar="NAME", help=f"finds those of raw posts in the model's place: {FINDERS}")
    parser.add_argument("--detector", help="finds objects in pictures without boxes, as in vmhan predict")
    parser.add_argument("--trust_remote_code", action="store_true", help="run code that comes with the model")
    arguments = parser.parse_args(argv)
    check_needs(parser, arguments, NEEDS)
    check_folder_or_hub_name("MODEL", arguments.model)
    return arguments


def _count(text: str) -> int:
    if int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected at least 1, received {text}")
    return int(text)


def _seconds(text: str) -> float:
    if not 0 <= float(text) <= 86_400:
        raise argparse.ArgumentTypeError(f"expected seconds from 0 to a day, received {text}")
    return float(text)
