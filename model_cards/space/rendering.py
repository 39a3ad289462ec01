"""HTML of the page: marked text, facts, pictures and messages. Every word of a user or a model is escaped."""

import base64
import html
import io
import math
from collections.abc import Iterable, Sequence
from typing import Any

from PIL import Image


__all__ = ["EMPTY", "LEGEND", "STYLE", "alert", "colours_of", "fact_table", "figure", "image_url", "marked", "ranking"]

EMPTY = "<p class='hint'>The facts appear here.</p>"
NO_FACTS = "<p class='hint'>No facts: the model sees no relation between any two of the mentions.</p>"
SCORE = "<p class='hint'>Score: the relation's probability, times those of mentions that the model found.</p>"
SPAN_HELP = "<p class='hint'>A span is written as (0, 3): the first character counts, from 0, the last does not.</p>"
LEGEND = (
    "<p class='hint'>A line joins a hyperedge, a group of words and parts of the image, to its members; wide lines "
    "and long bars got much attention. It is where the model looked, not what would have changed its answer.</p>"
)
# Light grounds for dark letters, of the types of mentions in the order in which they come (Tol's "light" scheme).
COLOURS = ("#99ddff", "#eedd88", "#ffaabb", "#bbcc33", "#ee8866", "#44bb99", "#aaaaff", "#dddddd")
STYLE = """
section { margin-bottom: 1.5em } h3 { margin: 0 0 .2em } table { width: 100%; border-collapse: collapse }
.verdict { font-size: 1.15em; margin: .3em 0 .6em } .hint { opacity: .7 }
table, tr, td, th { border: 0 !important }
td, th { border-bottom: 1px solid var(--border-color-primary) !important; padding: .3em .5em }
td, th { text-align: left; font-weight: normal } td:last-child, th:last-child { text-align: right }
tr.best td { font-weight: 600 } tr.none { font-style: italic } td.track { width: 45% } .facts td.track { width: 18% }
.bar { height: .8em; border-radius: .2em; background: var(--color-accent) } tr.none .bar { opacity: .45 }
.error { border-left: .3em solid #c00; padding: .4em 1em; background: #c001; overflow-wrap: anywhere }
.marked { font-size: 1.15em; line-height: 2; white-space: pre-wrap; overflow-wrap: anywhere; margin: 0 }
mark { color: #222; padding: .15em .35em; border-radius: .3em } mark small { opacity: .75; margin-inline-start: .4em }
details { margin-bottom: .6em } summary { cursor: pointer }
figure { margin: 0 0 1.5em } img { width: 100%; max-width: 1100px } svg { width: 100% }
"""


def alert(message: str) -> str:
    """Show what was wrong with a question, and how spans are written on this page if the message speaks of them."""
    help_ = SPAN_HELP if "span" in message else ""
    return f"<div class='error' role='alert'>{html.escape(message)}</div>{help_}"


def colours_of(types: Iterable[str | None]) -> dict[str | None, str]:
    """A ground for each type of mentions; of more types than there are colours the last ones share theirs."""
    return {type_: COLOURS[min(i, len(COLOURS) - 1)] for i, type_ in enumerate(dict.fromkeys(types))}


def marked(text: str, mentions: Sequence[Any], colours: dict[str | None, str]) -> str:
    """The text with its mentions (start, end, type, ...) marked; of those that overlap the first is shown."""
    parts, place = [], 0
    for start, end, type_, *_ in sorted(mentions, key=lambda of: (of[0], -of[1])):
        if start < place:
            continue
        name = f"<small>{html.escape(type_)}</small>" if type_ else ""
        words = f"<mark style='background: {colours[type_]}'>{html.escape(text[start:end])}{name}</mark>"
        parts += [html.escape(text[place:start]), words]
        place = end
    return f"<p class='marked' dir='auto'>{''.join(parts)}{html.escape(text[place:])}</p>"


def title_of(result: dict[str, Any]) -> str:
    return f"{result['head']} → {result['tail']}"


def fact_table(facts: Sequence[dict[str, Any]]) -> str:
    """The facts, best first."""
    if not facts:
        return NO_FACTS
    rows = "".join(
        f"<tr><td>{html.escape(str(fact['head']))}</td><td>{html.escape(fact['relation'])}</td>"
        f"<td>{html.escape(str(fact['tail']))}</td><td class='track'>{_bar(fact['score'])}</td>"
        f"<td>{fact['score']:.1%}</td></tr>"
        for fact in facts
    )
    names = "".join(f"<th>{name}</th>" for name in ("head", "relation", "tail", "", "score"))
    return f"<table class='facts'><thead><tr>{names}</tr></thead><tbody>{rows}</tbody></table>{SCORE}"


def ranking(result: dict[str, Any], none_label: str, num_labels: int, *, is_open: bool) -> str:
    """Show one pair, folded: the best relations with bars, the none relation, and how sure the model is."""
    ranked = list(result["top_k"])
    if none_label not in [entry["relation"] for entry in ranked]:
        ranked.append({"relation": none_label, "score": result["none_score"]})
    rows = "".join(_row(entry, i == 0, entry["relation"] == none_label) for i, entry in enumerate(ranked))
    return (
        f"<details{' open' * is_open}><summary>{html.escape(title_of(result))}</summary><table>"
        f"<thead><tr><th>relation</th><th></th><th>probability</th></tr></thead><tbody>{rows}</tbody></table>"
        f"<p class='hint'>{_worth(result['uncertainty'], num_labels)}</p></details>"
    )


def _row(entry: dict[str, Any], is_best: bool, is_none: bool) -> str:
    name = html.escape(entry["relation"]) + (" (no relation)" if is_none else "")
    classes = " ".join(name for name, holds in (("best", is_best), ("none", is_none)) if holds)
    return (
        f"<tr class='{classes}'><td>{name}</td><td class='track'>{_bar(entry['score'])}</td>"
        f"<td>{entry['score']:.1%}</td></tr>"
    )


def _bar(score: float) -> str:
    return f"<div class='bar' style='width: {score:.2%}'></div>"


def _worth(uncertainty: dict[str, float | None], num_labels: int) -> str:
    said = (
        f"Uncertainty: entropy {uncertainty['entropy']:.2f} nats, between 0 (sure) and {math.log(num_labels):.2f} "
        f"(all {num_labels} labels equally likely)"
    )
    if uncertainty["mutual_information"] is None:
        return said + "."
    return (
        f"{said}; {uncertainty['mutual_information']:.3f} of it from the model's own variances. Averaged over samples "
        f"of these, the best relation has {uncertainty['monte_carlo_score']:.1%}."
    )


def figure(result: dict[str, Any]) -> str:
    """Put the explanation's picture inside the page, so that no file is left on the server."""
    title = html.escape(f"What carried the answer for {title_of(result)}")
    source = image_url(result["explanation"]["picture"], "PNG")
    return f"<figure><figcaption>{title}</figcaption><img src='{source}' alt='{title}'></figure>"


def image_url(image: Image.Image, form: str) -> str:
    file = io.BytesIO()
    image.save(file, form)
    return f"data:image/{form.lower()};base64,{base64.b64encode(file.getvalue()).decode()}"
