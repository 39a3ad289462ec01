"""A web page for a VM-HAN: a text, an image and two entities in; ranked relations and what carried them out.

It knows the model by the environment variable VMHAN_MODEL alone, a repository's id or a folder, whose own code answers:
nothing of the vmhan package needs to be here.

    VMHAN_MODEL=outputs/demo python app.py
"""

import html
import math
import os
import re
from functools import partial
from pathlib import Path
from typing import Any

import gradio as gr
from transformers import Pipeline, pipeline


__all__ = ["answer", "build_demo", "load_pipeline", "main", "read_pairs"]

MAX_CHARACTERS, MAX_PAIRS, MAX_FILE_SIZE, MAX_WAITING = 5000, 20, "20mb", 32
SPAN_OR_BOX = re.compile(r"\((\d+), *(\d+)(?:, *(\d+), *(\d+))?\)")
POSTCARD = Path(__file__).with_name("postcard.jpg")
EXAMPLES = [  # text, head, tail, more pairs, image
    [
        "Greetings ! Anna Keller poses beside Bruno Haas in red and on the way to Lindau marked in blue .",
        "Anna Keller",
        "Bruno Haas",
        "Anna Keller | Lindau",
        str(POSTCARD),
    ],
    ["Ann Keller and Bob Haas back home in Oslo", "Ann Keller", "Oslo", "", None],
    ["Oslo to Bergen and back to Oslo with Ann", "Ann", "(0, 4)", "", None],
]

INTRODUCTION = """# Which relation holds between two entities of a post?
Write a post, name two things that it mentions, add its image if there is one. The model, a Variational Multi-Modal
Hypergraph Attention Network, ranks the relations that may hold between the two, and shows what it looked at."""
MENTION_HELP = (
    "As written in the text. If it stands there more than once: its characters, such as (0, 10); the error lists them."
)
NO_PIXELS = "**This model takes no image:** it has no vision encoder, and answers from the text alone."
NO_ATTENTION = "This model has no attention over hyperedges, so there is no picture of what carried its answer."
EMPTY = "<p class='hint'>The ranked relations appear here.</p>"
STYLE = """
section { margin-bottom: 1.5em } h3 { margin: 0 0 .2em } table { width: 100%; border-collapse: collapse }
.verdict { font-size: 1.15em; margin: .3em 0 .6em } .hint { color: var(--body-text-color-subdued) }
td, th { padding: .25em .5em; text-align: left; font-weight: normal } td:last-child, th:last-child { text-align: right }
tr.best { font-weight: 600 } tr.none { font-style: italic } td.track { width: 45% }
.bar { height: .8em; border-radius: .4em; background: var(--color-accent) } tr.none .bar { opacity: .45 }
"""


def load_pipeline() -> Pipeline:
    """The pipeline of the model that VMHAN_MODEL names.

    Raises:
        ValueError: the variable is not set.
    """
    model = os.environ.get("VMHAN_MODEL")
    if not model:
        raise ValueError(
            "the environment variable VMHAN_MODEL must name a model, a repository's id or a folder, and is not set: "
            "VMHAN_MODEL=outputs/demo python app.py, or a variable in the Space's settings."
        )
    return pipeline(model=model, trust_remote_code=True)


def read_pairs(head: str, tail: str, more: str) -> list[dict[str, Any]]:
    """The entity pairs as the pipeline takes them; `more` has one "head | tail" a line.

    Raises:
        gr.Error: a line that is no pair, or too many pairs.
    """
    written = [(head or "", tail or "")]
    for line in filter(str.strip, (more or "").splitlines()):
        if line.count("|") != 1:
            raise gr.Error(f"More pairs: write each as head | tail, one a line, not {html.escape(line)!r}.")
        written.append(tuple(line.split("|")))
    if len(written) > MAX_PAIRS:
        raise gr.Error(f"At most {MAX_PAIRS} pairs at a time, received {len(written)}.")
    return [{"head": _mention(first), "tail": _mention(second)} for first, second in written]


def _mention(written: str) -> str | tuple[int, ...]:
    """A string of the text; in brackets a span of its characters, or a box in pixels."""
    numbers = SPAN_OR_BOX.fullmatch(written.strip())
    return tuple(int(number) for number in numbers.groups() if number) if numbers else written


def answer(
    pipe: Pipeline, text: str, head: str, tail: str, more: str, abstain_below: float, image: str | None = None
) -> tuple[str, list[tuple[Any, str]]]:
    """What the button does.

    Args:
        pipe: of `load_pipeline`. image: path. The others: what the boxes and the slider of the same name hold.

    Returns:
        (HTML with a ranking for each pair, pictures of the explanations with captions).

    Raises:
        gr.Error: what the pipeline could not take; its message is shown to the user.
    """
    if len(text or "") > MAX_CHARACTERS:
        raise gr.Error(f"The text must have at most {MAX_CHARACTERS} characters, received {len(text)}.")
    pairs = read_pairs(head, tail, more)
    question = {"text": text or "", **(pairs[0] if len(pairs) == 1 else {"pairs": pairs})}
    if image is not None:
        question["image"] = image
    try:
        answers = pipe(question, abstain_below=abstain_below, explain=_has_attention(pipe))
    except (ValueError, OSError) as error:
        raise gr.Error(html.escape(str(error), quote=False), duration=None, print_exception=False) from error
    answers = answers if isinstance(answers, list) else [answers]
    config = pipe.model.config
    page = "".join(_ranking(result, config.none_label, len(config.id2label), abstain_below) for result in answers)
    explained = [(result["explanation"]["picture"], _title(result)) for result in answers if "explanation" in result]
    return page, explained


def _has_attention(pipe: Pipeline) -> bool:
    return pipe.model.config.hypergraph_encoder == "vhan"


def _title(result: dict[str, Any]) -> str:
    return f"{result['head']} → {result['tail']}"


def _ranking(result: dict[str, Any], none_label: str, num_labels: int, abstain_below: float) -> str:
    """HTML of one pair: the verdict, the best relations with bars, the none relation, and how sure the model is."""
    ranked = list(result["top_k"])
    if none_label not in [entry["relation"] for entry in ranked]:
        ranked.append({"relation": none_label, "score": result["none_score"]})
    best = html.escape(result["top_k"][0]["relation"])
    verdict = f"<strong>{best}</strong>, probability {result['score']:.1%}"
    if result["abstained"]:
        verdict = f"<strong>No answer:</strong> the best, {best}, has {result['score']:.1%}, less than {abstain_below:.0%}"
    rows = "".join(_row(entry, i == 0, entry["relation"] == none_label) for i, entry in enumerate(ranked))
    return (
        f"<section><h3>{html.escape(_title(result))}</h3><p class='verdict'>{verdict}</p><table>"
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


def _described(pipe: Pipeline) -> str:
    """Which model this is and what it can answer; of a folder only the name is told."""
    name = pipe.model.name_or_path
    name = Path(name).resolve().name if Path(name).exists() else name
    return f"Model `{name}`. It knows: " + ", ".join(f"`{label}`" for label in pipe.model.config.labels)


def build_demo(pipe: Pipeline) -> gr.Blocks:
    """The page, not yet launched. A model without a vision encoder gets no place for an image, but a line saying so."""
    takes_pixels = bool(pipe.model.config.visual_feature_size) and pipe.model.config.vision_encoder is not None
    with gr.Blocks(title="VM-HAN relation extraction", analytics_enabled=False) as demo:
        gr.Markdown(INTRODUCTION)
        with gr.Row():
            with gr.Column():
                inputs = _build_inputs(takes_pixels)
                button = gr.Button("Find the relation", variant="primary", elem_id="find")
            with gr.Column():
                ranking = gr.HTML(EMPTY, label="Relations", css_template=STYLE, elem_id="ranking")
                gr.Markdown(_described(pipe))
        if not _has_attention(pipe):
            gr.Markdown(NO_ATTENTION)
        pictures = gr.Gallery(label="What carried the answer", columns=1, height="auto", object_fit="contain",
                              format="png", visible=_has_attention(pipe), elem_id="pictures")  # fmt: skip
        rows = EXAMPLES if takes_pixels else [row[:4] for row in EXAMPLES]
        written = [inputs[name] for name in ("text", "head", "tail", "more", "image") if name in inputs]
        gr.Examples(rows, written, cache_examples=False, label="Examples: click one, then the button")
        order = [inputs[name] for name in ("text", "head", "tail", "more", "abstain_below", "image") if name in inputs]
        events = [button.click, inputs["head"].submit, inputs["tail"].submit]
        gr.on(events, partial(answer, pipe), order, [ranking, pictures], api_name="classify", concurrency_limit=1)
    return demo.queue(max_size=MAX_WAITING)


def _build_inputs(takes_pixels: bool) -> dict[str, Any]:
    fields: dict[str, Any] = {
        "text": gr.Textbox(label="Text of the post", lines=3, max_length=MAX_CHARACTERS, elem_id="text")
    }
    with gr.Row():
        fields["head"] = gr.Textbox(label="Head entity", info=MENTION_HELP, elem_id="head")
        fields["tail"] = gr.Textbox(label="Tail entity", info="Likewise.", elem_id="tail")
    if takes_pixels:
        fields["image"] = gr.Image(label="Image (optional)", type="filepath", image_mode=None, height=260,
                                   sources=["upload", "clipboard"], elem_id="image")  # fmt: skip
    else:
        gr.Markdown(NO_PIXELS)
    with gr.Accordion("More options", open=False):
        fields["more"] = gr.Textbox(label="More pairs", info="head | tail, one pair a line", lines=2, elem_id="more")
        fields["abstain_below"] = gr.Slider(
            0, 1, 0, step=0.05, label="Abstain below", info="Give no answer if its probability is lower than this."
        )
    return fields


def main() -> None:
    build_demo(load_pipeline()).launch(
        share=False,
        ssr_mode=False,
        max_file_size=MAX_FILE_SIZE,
        show_error=True,  # a file that is no image is refused before `answer` sees it
        theme=gr.themes.Default(font=["system-ui", "sans-serif"], font_mono=["ui-monospace", "monospace"]),
    )


if __name__ == "__main__":
    main()
