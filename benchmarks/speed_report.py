"""What benchmarks/speed.py writes: speed.json with every round, and speed.md and pictures made from it."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks import head
from benchmarks.breakdown import breakdown_markdown
from benchmarks.speed_figures import draw_report
from benchmarks.speed_targets import judge
from benchmarks.timing import quartiles, ratio, spread
from model_cards.run_metadata import write_atomically


__all__ = ["make_table", "markdown", "write_report"]

TITLES = {
    "step": "Steps",
    "pairs": "Sentences with so many pairs",
    "presets": "Presets (Table 2), packed",
    "baselines": "Baselines against VM-HAN packed",
    "loader": "Posts from disk to batches",
    "breakdown": "Where the time of a training step goes",
    "memory": "Memory of a training run",
    "growth": "Memory and time against the number of rows",
    "head": "The head over its matrix products",
}
PHASES = {"train": "training step", "inference": "inference"}
HEADER = "| what | {unit} per second | quartiles | time / {reference} | quartiles | wall | tokens | with padding |"


def make_table(
    times: dict[str, dict[str, list[float]]], work: dict[str, dict[str, int]], reference: str
) -> dict[str, Any]:
    """Rows by name: `work` of a round, `seconds` of each round, their `ratio` to the reference's, what is done a
    second; all by clock."""
    rows = {}
    for name, done in work.items():
        seconds = {clock: of[name] for clock, of in times.items()}
        count = done.get("pairs", done.get("posts"))
        rows[name] = {
            "work": done,
            "seconds": seconds,
            "ratio": {clock: ratio(own, times[clock][reference]) for clock, own in seconds.items()},
            "per_second": {clock: spread([count / s for s in own]) for clock, own in seconds.items()},
        }
    return {"reference": reference, "unit": "pairs" if "pairs" in work[reference] else "posts", "rows": rows}


def write_report(folder: Path, report: dict[str, Any]) -> str:
    """speed.json, speed.md and the pictures; returns the Markdown."""
    report["targets"] = judge(report)
    folder.mkdir(parents=True, exist_ok=True)
    pictures = draw_report(folder, report)
    text = markdown(report, pictures)
    write_atomically(folder / "speed.json", json.dumps(report, indent=2) + "\n")
    write_atomically(folder / "speed.md", text)
    return text


def markdown(report: dict[str, Any], pictures: dict[str, str] | None = None) -> str:
    """The report as a page; `pictures` is the file name of each part's."""
    lines = ["# Speed", "", *_facts(report["facts"]), "", *_targets(report)]
    parts = list(dict.fromkeys(name.split("/")[0] for name in report["tables"]))
    for part in parts:
        lines += ["", f"## {TITLES[part]}", *_picture(part, pictures)]
        for name, table in report["tables"].items():
            if name.split("/")[0] == part:
                lines += _table(name, table, _clock(report, name))
    lines += [f"\nLeft out: {name}: {reason}" for name, reason in report["skipped"].items()]
    if "breakdown" in report:
        lines += ["", f"## {TITLES['breakdown']}", *_picture("breakdown", pictures)]
        for title, part in report["breakdown"].items():
            lines += breakdown_markdown(title, part)
    for part in ("memory", "growth"):
        if part in report:
            lines += ["", f"## {TITLES[part]}", *_picture(part, pictures), *_memory(report[part])]
    if "head" in report:
        title, _, rest = head.markdown(report["head"]).partition("\n")
        lines += ["", f"#{title}", *_picture("head", pictures), rest]
    return "\n".join(lines).rstrip() + "\n"


def _clock(report: dict[str, Any], table: str) -> str:
    """The processor's time does not count the loader's workers, which are processes of their own."""
    return "wall" if table == "loader" else report["facts"]["clock"]


def _facts(facts: dict[str, Any]) -> Iterator[str]:
    environment = facts["environment"]
    versions = ", ".join(f"{name} {environment['packages'].get(name)}" for name in ("torch", "transformers"))
    revision = f"{environment['git_revision']}{' with changes' if environment['git_dirty'] else ''}"
    device = f"{facts['device']} ({facts.get('gpu', facts['processor'])}), {facts['threads']} thread(s)"
    yield f"- command: `{facts['command']}`"
    yield f"- device: {device}, {environment['cpu_count']} CPUs; {versions}, Python {environment['python']}"
    yield f"- code: {revision}"
    yield f"- text: {facts['sentences']}; {facts['posts']} posts, {facts['pairs']} pairs; encoder: {facts['encoder']}"
    yield f"- load average (1, 5, 15 minutes): {facts['load_average_before']} at the start, " + (
        f"{facts['load_average_after']} at the end"
    )
    yield (
        f"- rounds: {facts['rounds']}, each of {facts['batches']} batches of {facts['batch_size']} posts; median and "
        f"quartiles are over the rounds, of {facts['clock']} time where nothing else is said"
    )


def _targets(report: dict[str, Any]) -> Iterator[str]:
    yield "## Targets"
    yield ""
    if not report["targets"]:
        yield f"None are set for the encoder {report['facts']['encoder']}."
        return
    yield "| what | target | measured | quartiles | by the wall | verdict |"
    yield "| --- | ---: | ---: | ---: | ---: | --- |"
    for row in report["targets"]:
        cells = ["", "", ""]
        if row["measured"] is not None:
            own = row["measured"].get(report["facts"]["clock"], row["measured"].get("memory"))
            cells = [f"{own['median']:.2f}", quartiles(own, ".2f"), ""]
            if "wall" in row["measured"]:
                cells[2] = f"{row['measured']['wall']['median']:.2f}"
        yield f"| {row['what']} | {row['rule']} {row['bound']} | {' | '.join(cells)} | {row['verdict']} |"


def _picture(part: str, pictures: dict[str, str] | None) -> Iterator[str]:
    if pictures and part in pictures:
        yield ""
        yield f"![{TITLES[part]}]({pictures[part]})"


def _table(name: str, table: dict[str, Any], clock: str) -> Iterator[str]:
    phase, count = [*name.split("/")[1:], None, None][:2]
    words = ([PHASES[phase]] if phase else []) + ([f"{count} pair(s) a sentence"] if count else []) + [f"{clock} time"]
    yield ""
    yield ", ".join(words).capitalize()
    yield ""
    yield HEADER.format(unit=table["unit"], reference=table["reference"])
    yield "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |"
    for row_name, row in table["rows"].items():
        speed, time = row["per_second"][clock], row["ratio"][clock]
        cells = [f"{speed['median']:.4g}", quartiles(speed, ".4g"), f"{time['median']:.2f}", quartiles(time, ".2f")]
        cells += [
            f"{row['ratio']['wall']['median']:.2f}",
            *(str(row["work"].get(name, "")) for name in ("tokens", "places")),
        ]
        yield f"| {row_name} | {' | '.join(cells)} |"


def _memory(part: dict[str, Any]) -> Iterator[str]:
    """A row a run: its peaks, their ratios, and the time of a post."""
    names = {"peak_resident_mib": "resident MiB", "peak_anonymous_mib": "anonymous MiB"}
    names["seconds_a_post"] = "processor ms a post"
    header = [f"{title} | / {part['reference']} | quartiles" for title in names.values()]
    yield ""
    yield f"| run | {' | '.join(header)} |"
    yield "| --- " + "| ---: " * (3 * len(names)) + "|"
    reference = part["rows"][part["reference"]]
    for run, row in part["rows"].items():
        cells = []
        for name in names:
            scale = 1000 if name == "seconds_a_post" else 1
            against = ratio(row[name], reference[name])
            cells += [
                f"{scale * spread(row[name])['median']:.1f}",
                f"{against['median']:.3f}",
                quartiles(against, ".3f"),
            ]
        yield f"| {run} | {' | '.join(cells)} |"
