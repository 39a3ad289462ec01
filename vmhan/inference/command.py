"""Answer a file or a folder of questions with a trained model: `vmhan predict MODEL INPUT --output OUT.jsonl`.

A row that cannot be answered goes to OUT.errors.jsonl with its number and the reason. The same command continues a run
that was killed. "-" is standard input or standard output. Exit code: 0 all rows answered, 1 some failed, 2 bad
arguments.
"""

import argparse
import contextlib
import importlib
import logging
import shutil
import sys
import tempfile
import time
from collections.abc import Collection, Iterator
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from tqdm.auto import tqdm

from datasets_scripts.commands import check_folder_or_hub_name, check_needs, nearest_file
from datasets_scripts.ray_engine import connected
from modeling_vmhan.answers import NEEDS as OF_PIPELINE
from modeling_vmhan.direction import symmetric_relations
from modeling_vmhan.needs import Need
from vmhan.inference.answering import Answered, Pipe, answer_here, answer_on_ray
from vmhan.inference.answers import TRIPLE, Rows, triples_of, write_csv, write_jsonl, write_parquet
from vmhan.inference.mention_finders import FINDERS
from vmhan.inference.options import OPTIONAL
from vmhan.inference.question_files import QUESTION_SUFFIXES, count_questions, digest_of_questions
from vmhan.inference.resumable import Make, ResumableOutput


if TYPE_CHECKING:
    import torch

__all__ = ["main"]

logger = logging.getLogger(__name__)

ENGINES = ("local", "ray")
BACKENDS = {"torch": "vmhan.inference.torch_backend", "onnx": "vmhan.inference.onnx.backend"}  # imported when used
WRITERS = {".jsonl": write_jsonl, ".parquet": write_parquet, ".csv": write_csv}
SUFFIXES = {"jsonl": (".jsonl",), "parquet": (".parquet",), "triples": (".jsonl", ".csv"), "graph": (".graphml",)}
GRAPHS = {  # that a format writes, in the place of --output's suffix; GraphML is last, as --output is
    "triples": (".graphml",),
    "graph": (".jsonld", ".nodes.csv", ".relationships.csv", ".png", ".graphml"),
}
SAYS_ALL = ("format", "jsonl or parquet", ("jsonl", "parquet").__contains__)  # all that is said of a pair
NEEDS = (  # of flags, which change nothing without
    *OF_PIPELINE,
    *(Need(name, *SAYS_ALL) for name in ("with_post", "top_k", "num_samples")),
    Need("int8", "backend", "onnx", ("onnx",).__contains__),
    Need("num_workers", "engine", "ray", ("ray",).__contains__),
    Need("ray_address", "engine", "ray", ("ray",).__contains__),
)
STANDARD = Path("-")  # standard input or output


def main(argv: list[str] | None = None) -> int:
    """Run the command and return its exit code."""
    logging.basicConfig(format="%(levelname)s %(name)s: %(message)s", level=logging.INFO)
    arguments = parse_arguments(argv)
    with contextlib.ExitStack() as stack:
        stack.enter_context(standard_streams(arguments))
        stack.enter_context(ResumableOutput.only_here(arguments.output, also_made(arguments)))
        total = count_questions(arguments.input)
        if arguments.dry_run:
            print(dry_run(arguments, total))
            return 0
        if arguments.engine == "ray":
            stack.enter_context(connected(num_workers=arguments.num_workers, address=arguments.ray_address))
        pipe = load_pipeline(arguments)
        made = products(arguments, pipe)
        depends_on, options = fingerprint(arguments, pipe), {"overwrite": arguments.overwrite}
        output = ResumableOutput(arguments.output, depends_on, also=also_made(arguments), **options)
        if not output.complete:
            with tqdm(total=total, initial=output.rows, desc="predict", unit="row") as bar:
                for answered in answers(arguments, pipe, skip=output.rows, total=total):
                    output.append(*answered)
                    bar.update(answered.rows)
            check_input(arguments, depends_on["input"], output, total)
            output.finish(made)
    logger.info(
        "%s: %d pairs; %d of %d rows answered", output.output, output.pairs, output.rows - output.failed, output.rows
    )
    if output.failed:
        logger.error("%d of %d rows failed, see %s", output.failed, output.rows, output.errors)
    return int(output.failed > 0)


def dry_run(arguments: argparse.Namespace, total: int) -> str:
    """What `estimate` says of this run; --output is left as it is."""
    if not total:
        return f"{arguments.input} has no row: there is nothing to answer."
    from vmhan.inference.estimate import estimate, measure  # late: only a dry run needs it

    start = time.perf_counter()
    pipe = load_pipeline(arguments)
    start = time.perf_counter() - start
    made, rows = products(arguments, pipe), {"total": total, "batch_size": arguments.batch_size}
    sample = measure(pipe, arguments.input, arguments.image_root, made, **rows, with_post=arguments.with_post)
    return estimate(sample, **rows, start=start, workers=arguments.num_workers)


def parse_arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="vmhan predict", description=__doc__.split("\n")[0])
    parser.add_argument("model", help="folder or Hub name of a trained model")
    parser.add_argument(
        "input",
        type=Path,
        help=f"questions: a file ({', '.join(QUESTION_SUFFIXES)}), a folder of NAME.txt and NAME.jpg, - (JSONL)",
    )
    parser.add_argument("--output", type=Path, required=True, help="file to write; - (JSONL)")
    parser.add_argument("--format", choices=SUFFIXES, default="jsonl", help="what to write (default jsonl)")
    parser.add_argument("--backend", choices=BACKENDS, default="torch", help="onnx: MODEL is of vmhan export")
    parser.add_argument("--int8", action="store_true", default=None, help="of two exported models the int8 one")
    parser.add_argument("--with_post", action="store_true", help="answers have the post's text and image as well")
    parser.add_argument("--batch_size", type=_positive, default=16, help="rows answered in one pass (default 16)")
    parser.add_argument("--image_root", type=Path, help="folder of the images' paths (default: that of INPUT)")
    parser.add_argument("--device", type=_device, help="cpu, cuda:0, ... (default: an accelerator if there is one)")
    parser.add_argument(
        "--detector",
        help="what finds objects in pictures without boxes: recorded (as the training data's), ADAPTER:MODEL, or none "
        "(default: recorded, where a model has one)",
    )
    parser.add_argument("--abstain_below", type=float, default=0.0, help="no relation with a lower score (default 0)")
    parser.add_argument("--top_k", type=int, default=5, help="relations ranked for each pair (default 5)")
    parser.add_argument("--mentions", metavar="NAME", help=f"finds those of raw posts in the model's place: {FINDERS}")
    parser.add_argument("--min_score", type=float, help="no facts of raw posts or mentions with a lower score")
    parser.add_argument("--min_precision", type=float, help="the same, by the precision that it had on validation")
    parser.add_argument("--all_pairs", action="store_true", default=None, help="facts with no relation as well")
    parser.add_argument("--num_samples", type=int, help="Monte Carlo samples for uncertainty (default 0: none)")
    parser.add_argument("--trust_remote_code", action="store_true", help="run code that comes with the model")
    parser.add_argument("--engine", choices=ENGINES, default="local", help="who answers: this process, or Ray workers")
    parser.add_argument("--num_workers", type=_positive, default=1, help="of Ray, one a device (default 1)")
    parser.add_argument("--ray_address", help="of a Ray cluster, such as auto (default: start one on this machine)")
    parser.add_argument(
        "--dry_run", action="store_true", help="answer a sample, tell what all would take, write nothing"
    )
    parser.add_argument("--overwrite", action="store_true", help="start anew, whatever OUT holds")
    arguments = parser.parse_args(argv)
    is_folder = arguments.input.is_dir()
    if arguments.input != STANDARD and not (is_folder or arguments.input.is_file()):
        parser.error(f"INPUT: there is no file {arguments.input}{nearest_file(arguments.input)}")
    if is_folder and arguments.image_root is not None:
        parser.error(f"--image_root: of a folder the images are in it, received {arguments.image_root}")
    # a dry run counts the workers, and starts none
    check_needs(parser, arguments, [of for of in NEEDS if not (arguments.dry_run and of.option == "num_workers")])
    _check_backend(parser, arguments)
    if arguments.input != STANDARD and not is_folder and arguments.input.suffix not in QUESTION_SUFFIXES:
        parser.error(f"INPUT: expected a file that ends in {', '.join(QUESTION_SUFFIXES)}, received {arguments.input}")
    suffix = ".jsonl" if arguments.output == STANDARD else arguments.output.suffix
    if suffix not in SUFFIXES[arguments.format]:
        suffixes = " or ".join(SUFFIXES[arguments.format])
        parser.error(f"--output: expected {suffixes} for --format {arguments.format}, received {arguments.output}")
    written = (arguments.output, *also_made(arguments), *ResumableOutput.files_of(arguments.output))
    if arguments.input != STANDARD and arguments.input.resolve() in {path.resolve() for path in written}:
        parser.error(f"--output: expected a file that leaves INPUT as it is, received {arguments.output}")
    if is_folder and arguments.output.resolve().parent == arguments.input.resolve():
        parser.error(f"--output: expected a file outside of the folder INPUT, received {arguments.output}")
    folder = arguments.input if is_folder else arguments.input.parent
    arguments.image_root = (arguments.image_root or folder).absolute()
    return arguments


@contextlib.contextmanager
def standard_streams(arguments: argparse.Namespace) -> Iterator[None]:
    """Files of a temporary folder take the place of "-": standard input is read to its end before, and standard output
    (and standard error, with the rows that failed) is written after.
    """
    with tempfile.TemporaryDirectory() as folder:
        written = {}
        if arguments.input == STANDARD:
            arguments.input = Path(folder, "stdin.jsonl")
            with arguments.input.open("wb") as file:
                shutil.copyfileobj(sys.stdin.buffer, file)
        if arguments.output == STANDARD:
            arguments.output = Path(folder, "stdout.jsonl")
            _, errors, _ = ResumableOutput.files_of(arguments.output)
            written = {arguments.output: sys.stdout, errors: sys.stderr}
        yield
        for path, stream in written.items():
            if path.exists():
                with path.open(encoding="utf-8") as file:
                    shutil.copyfileobj(file, stream)


def _positive(text: str) -> int:
    if int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected at least 1, received {text}")
    return int(text)


def _check_backend(parser: argparse.ArgumentParser, arguments: argparse.Namespace) -> None:
    """What goes with --backend, and that MODEL is a model of it."""
    check_folder_or_hub_name("MODEL", arguments.model)
    folder, is_onnx = Path(arguments.model), arguments.backend == "onnx"
    for name, why in _backend(arguments).REFUSED.items() if is_onnx else ():
        if (value := getattr(arguments, name)) != parser.get_default(name):
            parser.error(f"--{name}: expected --backend torch with it, received --backend onnx and {value}: {why}")
    if not is_onnx and (folder / "export.json").is_file() and not any(folder.glob("model*.safetensors")):
        parser.error(f"--backend: expected onnx for what vmhan export wrote, received torch for {arguments.model}")


def _device(text: str) -> "torch.device":
    import torch  # late: onnxruntime answers without

    try:
        torch.empty(1, device=text).add(1)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise argparse.ArgumentTypeError(f"expected a device of this machine, received {text!r}: {reason}") from None
    return torch.device(text)


def load_pipeline(arguments: argparse.Namespace) -> Pipe:
    """What answers questions: the pipeline, or the exported model."""
    return _backend(arguments).load_pipeline(arguments)


def _backend(arguments: argparse.Namespace) -> ModuleType:
    return importlib.import_module(BACKENDS[arguments.backend])


def fingerprint(arguments: argparse.Namespace, pipe: Pipe) -> dict[str, Any]:
    """Return what the answers depend on. Of the images only the paths count."""
    return {
        **_backend(arguments).state_of_model(pipe),
        "input": state_of(arguments.input),
        "image_root": str(arguments.image_root),
        **{name: getattr(arguments, name) for name in ("format", "with_post", "batch_size", "abstain_below", "top_k")},
        **{name: getattr(arguments, name) for name in OPTIONAL},
    }


def state_of(path: Path) -> list[str]:
    return [path.name, digest_of_questions(path)]


def check_input(arguments: argparse.Namespace, before: list[str], output: ResumableOutput, total: int) -> None:
    """ValueError if INPUT is no longer what it was `before`, with `total` rows. What was answered is then dropped, as
    nobody knows of which state it is.
    """
    if output.rows != total or state_of(arguments.input) != before:
        output.part.unlink(missing_ok=True)
        raise ValueError(
            f"INPUT {arguments.input}: expected the {total} rows that it had at the beginning, but it was changed "
            f"while it was answered ({output.rows} rows are). Run the command again: it starts anew"
        )


def answers(arguments: argparse.Namespace, pipe: Pipe, *, skip: int, total: int) -> Iterator[Answered]:
    """Yield the answers to the input's `total` rows after the first `skip`, in order, by the engine that was asked
    for.
    """
    rows = {"skip": skip, "batch_size": arguments.batch_size, "with_post": arguments.with_post}
    if arguments.engine == "local":
        return answer_here(pipe, arguments.input, arguments.image_root, **rows)
    model = str(Path(arguments.model).absolute()) if Path(arguments.model).is_dir() else arguments.model
    load = partial(load_pipeline, argparse.Namespace(**{**vars(arguments), "model": model}))
    workers = {"num_workers": arguments.num_workers, "address": arguments.ray_address}
    return answer_on_ray(load, arguments.input.absolute(), arguments.image_root, **rows, total=total, **workers)


def products(arguments: argparse.Namespace, pipe: Pipe) -> dict[Path, Make]:
    """Return what is made of the answers at the end, by path; --output is the last."""
    path, config = arguments.output, _backend(arguments).config_of(pipe)
    triples = partial(triples_of, none_label=config.none_label, input_name=arguments.input.name)
    symmetric = symmetric_relations(config.labels, order_blind=config.order_blind)

    def graph_as(end: str) -> Make:
        return lambda rows, target: write_graph(triples(rows), target, end, symmetric)

    made = {path.with_suffix(end): graph_as(end) for end in GRAPHS.get(arguments.format, ())}
    if arguments.format == "graph":
        return made
    write = WRITERS[path.suffix]
    if arguments.format == "triples":
        return {
            **made,
            path: lambda rows, target: write(({name: of[name] for name in TRIPLE} for of in triples(rows)), target),
        }
    return {path: write}


def write_graph(triples: Rows, target: Path, end: str, symmetric: Collection[str]) -> None:
    from vmhan.inference import graph  # late: only these formats wait for networkx
    from vmhan.inference.graph_picture import write_picture

    writers = {
        ".jsonld": graph.write_jsonld,
        ".nodes.csv": graph.write_nodes,
        ".relationships.csv": graph.write_relationships,
        ".png": write_picture,
        ".graphml": graph.write_graphml,
    }
    writers[end](graph.fact_graph(triples, symmetric=symmetric), target)


def also_made(arguments: argparse.Namespace) -> list[Path]:
    """What `products` has beside --output."""
    paths = [arguments.output.with_suffix(end) for end in GRAPHS.get(arguments.format, ())]
    return [path for path in paths if path != arguments.output]
