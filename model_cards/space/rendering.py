"""HTML of the page: rankings, pictures and messages. Every word that comes from a user or a model is escaped."""

import base64
import html
import io
import math
from typing import Any


__all__ = ["EMPTY", "LEGEND", "STYLE", "alert", "figure", "ranking"]

EMPTY = "<p class='hint'>The ranked relations appear here.</p>"
SPAN_HELP = "<p class='hint'>Spans go into the field of an entity as they are written here, such as (0, 3).</p>"
LEGEND = (
    "<p class='hint'>A line joins a hyperedge, a group of words and parts of the image, to its members; wide lines "
    "and long bars got much attention. It is where the model looked, not what would have changed its answer.</p>"
)
STYLE = """
section { margin-bottom: 1.5em } h3 { margin: 0 0 .2em } table { width: 100%; border-collapse: collapse }
.verdict { font-size: 1.15em; margin: .3em 0 .6em } .hint { opacity: .7 }
table, tr, td, th { border: 0 !important }
td, th { border-bottom: 1px solid var(--border-color-primary) !important; padding: .3em .5em }
td, th { text-align: left; font-weight: normal } td:last-child, th:last-child { text-align: right }
tr.best td { font-weight: 600 } tr.none { font-style: italic } td.track { width: 45% }
.bar { height: .8em; border-radius: .2em; background: var(--color-accent) } tr.none .bar { opacity: .45 }
.error { border-left: .3em solid #c00; padding: .4em 1em; background: #c001; overflow-wrap: anywhere }
figure { margin: 0 0 1.5em } img { width: 100%; max-width: 1100px }
"""


def alert(message: str) -> str:
    """Show what was wrong with a question, and how spans are written on this page if the message speaks of them."""
    help_ = SPAN_HELP if "span" in message else ""
    return f"<div class='error' role='alert'>{html.escape(message)}</div>{help_}"


def title_of(result: dict[str, Any]) -> str:
    return f"{result['head']} → {result['tail']}"


def ranking(result: dict[str, Any], none_label: str, num_labels: int, abstain_below: float) -> str:
    """Show one pair: the verdict, the best relations with bars, the none relation, and how sure the model is."""
    ranked = list(result["top_k"])
    if none_label not in [entry["relation"] for entry in ranked]:
        ranked.append({"relation": none_label, "score": result["none_score"]})
    best = html.escape(result["top_k"][0]["relation"])
    verdict = f"<strong>{best}</strong>, probability {result['score']:.1%}"
    if result["abstained"]:
        verdict = (
            f"<strong>No answer:</strong> the best, {best}, has {result['score']:.1%}, less than {abstain_below:.0%}"
        )
    rows = "".join(_row(entry, i == 0, entry["relation"] == none_label) for i, entry in enumerate(ranked))
    return (
        f"<section><h3>{html.escape(title_of(result))}</h3><p class='verdict'>{verdict}</p><table>"
        f"<thead><tr><th>relation</th><th></th><th>probability</th></tr></thead><tbody>{rows}</tbody></table>"
        f"<p class='hint'>{_worth(result['uncertainty'], num_labels)}</p></section>"
    )


def _row(entry: dict[str, Any], is_best: bool, is_none: bool) -> str:
    name = html.escape(entry["relation"]) + (" (no relation)" if is_none else "")
    classes = " ".join(name for name, holds in (("best", is_best), ("none", is_none)) if holds)
    bar = f"<div class='bar' style='width: {entry['score']:.2%}'></div>"
    return f"<tr class='{classes}'><td>{name}</td><td class='track'>{bar}</td><td>{entry['score']:.1%}</td></tr>"


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
    file = io.BytesIO()
    result["explanation"]["picture"].save(file, "PNG")
    source = f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"
    title = html.escape(f"What carried the answer for {title_of(result)}")
    return f"<figure><figcaption>{title}</figcaption><img src='{source}' alt='{title}'></figure>"
