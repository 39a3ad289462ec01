"""Does a card say what the files say?

    python -m model_cards.checking OUTPUT_DIR ...

compares every number of each OUTPUT_DIR/README.md with metrics.json, config.json and run.json; exit 1 if one differs.
"""

import argparse
import re
import sys
from pathlib import Path

from huggingface_hub import ModelCard

from model_cards.cards import PAPER_RESULTS, SCORES
from model_cards.run_metadata import RunMetadata, leak_reasons, numbers, read_metadata
from model_cards.tables import SPLITS, read_tables, score_keys, show_score, show_setting


__all__ = ["check_card", "main"]

WARNING = "**The results below are leaky"
DECIMAL = re.compile(r"(?<![\w.-])\d+\.\d+(?!\.?\w)")


def check_card(folder: str | Path) -> list[str]:
    """What is wrong with the folder's README.md, one sentence each; [] when all is right.

    Each number in a table must be the one that its key has in the files, the scores must all be there, no other
    decimal number may stand outside code, the metadata's results must be the metrics, and leaky results must be marked
    as such and left out of the metadata.

    Raises:
        ValueError: README.md or one of the files is missing.
    """
    folder = Path(folder)
    facts = read_metadata(folder)
    if not (folder / "README.md").is_file():
        raise ValueError(f"{folder}: expected a README.md, received none. Run `python -m model_cards.cards {folder}`.")
    card = ModelCard((folder / "README.md").read_text(encoding="utf-8"), ignore_metadata_errors=True)
    return [*_check_tables(card.text, facts), *_check_other_numbers(card.text), *_check_metadata(card, facts)]


def _check_tables(text: str, facts: RunMetadata) -> list[str]:
    # what the model has counts, not what its flags asked for: --no_visual leaves out the objects of --num_objects
    settings = {**facts.run["model"], **facts.config, **facts.run["data"], **facts.run["training"]}
    expected = {name: show_setting(value) for name, value in settings.items()}
    expected |= {name: show_score(value) for name, value in numbers(facts.metrics).items()}
    stated = read_tables(text)
    wrong = [
        f"{name} is {cell} in the card and {expected.get(name, 'not there')} in the files"
        for name, cell in stated.items()
        if cell != expected.get(name, "-")
    ]
    scores = [f"{split}_{key}" for split in SPLITS for key in score_keys(facts.metrics)]
    return wrong + [f"{name} is missing in the card" for name in scores if name in expected and name not in stated]


def _check_other_numbers(text: str) -> list[str]:
    """Decimal numbers outside code and the rows that name their key can only be the paper's."""
    quoted = {f"{value:.2f}" for scores in PAPER_RESULTS.values() for value in scores.values()}
    rest = re.sub(r"```.*?```|^\|[^|\n]*`.*?$", "", text, flags=re.DOTALL | re.MULTILINE)
    return [
        f"{number} stands in the card and comes from no file"
        for number in DECIMAL.findall(rest)
        if number not in quoted
    ]


def _check_metadata(card: ModelCard, facts: RunMetadata) -> list[str]:
    results = card.data.eval_results or []
    if leak_reasons(facts.metrics):
        marked = [] if WARNING in card.text else ["the results are leaky and the card does not warn"]
        return marked + (["leaky results stand in the metadata"] if results else [])
    values = numbers(facts.metrics)
    stated = {f"{result.dataset_split}_{result.metric_type}": result.metric_value for result in results}
    wrong = [
        f"{name} is {value} in the metadata and {values.get(name, 'not there')} in metrics.json"
        for name, value in stated.items()
        if value != values.get(name)
    ]
    expected = [f"{split}_{score}" for split in SPLITS for score in SCORES]
    return wrong + [f"{name} is missing in the metadata" for name in expected if name in values and name not in stated]


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Compare cards with the files that they are made from.")
    parser.add_argument("output_dirs", nargs="*", metavar="OUTPUT_DIR", help="A finished --output_dir of run_mmre.py.")
    problems = 0
    for folder in parser.parse_args(argv).output_dirs:
        for problem in check_card(folder):
            problems += 1
            print(f"{folder}/README.md: {problem}")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
