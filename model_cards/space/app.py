"""A web page for a VM-HAN, which ranks the relations between two entities of a post and shows what carried them.

It knows the model by the environment variable VMHAN_MODEL alone, a repository's id or a folder, whose own code
answers: nothing of the vmhan package needs to be here.

    VMHAN_MODEL=outputs/demo python app.py
"""

import os
import re
from functools import partial
from pathlib import Path
from typing import Any

import gradio as gr
from rendering import EMPTY, LEGEND, STYLE, alert, figure, ranking
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
NO_PIXELS = "**This model takes no image:** it has no vision encoder, and answers from the text alone."
NO_ATTENTION = "This model has no attention over hyperedges, so there is no picture of what carried its answer."


def load_pipeline() -> Pipeline:
    """The pipeline of the model that VMHAN_MODEL names."""
    if not (model := os.environ.get("VMHAN_MODEL")):
        raise ValueError(
            "VMHAN_MODEL: expected a repository's id or a folder in this environment variable, received nothing. "
            "VMHAN_MODEL=outputs/demo python app.py, or a variable in the Space's settings."
        )
    return pipeline(model=model, trust_remote_code=True)


def read_pairs(head: str, tail: str, more: str) -> list[dict[str, Any]]:
    """The entity pairs as the pipeline takes them; `more` has one "head | tail" a line."""
    written = [(head or "", tail or "")]
    for line in filter(str.strip, (more or "").splitlines()):
        if line.count("|") != 1:
            raise ValueError(f"More pairs: write each as head | tail, one a line, not {line!r}.")
        written.append(tuple(line.split("|")))
    if len(written) > MAX_PAIRS:
        raise ValueError(f"At most {MAX_PAIRS} pairs at a time, received {len(written)}.")
    return [{"head": _mention(first), "tail": _mention(second)} for first, second in written]


def _mention(written: str) -> str | tuple[int, ...]:
    """Read a string of the text, or in brackets a span of its characters or a box in pixels."""
    numbers = SPAN_OR_BOX.fullmatch(written.strip())
    return tuple(int(number) for number in numbers.groups() if number) if numbers else written


def answer(
    pipe: Pipeline, text: str, head: str, tail: str, more: str, abstain_below: float, image: str | None = None
) -> tuple[str, str]:
    """What the button does: HTML of a ranking for each pair, and of the pictures of what carried the answers.

    What the page or the pipeline cannot take is answered by the message that says why.
    """
    try:
        pairs = read_pairs(head, tail, more)
        if len(text or "") > MAX_CHARACTERS:
            raise ValueError(f"The text must have at most {MAX_CHARACTERS} characters, received {len(text)}.")
        question = {"text": text or "", **({"pairs": pairs} if len(pairs) > 1 else pairs[0])}
        question |= {} if image is None else {"image": image}
        answers = pipe(question, abstain_below=abstain_below, explain=_has_attention(pipe))
    except (ValueError, OSError) as error:
        return alert(str(error)), ""
    answers, config = answers if isinstance(answers, list) else [answers], pipe.model.config
    page = "".join(ranking(result, config.none_label, len(config.id2label), abstain_below) for result in answers)
    figures = "".join(figure(result) for result in answers if "explanation" in result)
    return page, figures and LEGEND + figures


def _has_attention(pipe: Pipeline) -> bool:
    return pipe.model.config.hypergraph_encoder == "vhan"


def build_demo(pipe: Pipeline) -> gr.Blocks:
    """Build the page. For a model that takes no image it says so instead of asking for one."""
    takes_pixels = bool(pipe.model.config.visual_feature_size) and pipe.model.config.vision_encoder is not None
    with gr.Blocks(title="VM-HAN relation extraction", analytics_enabled=False) as demo:
        gr.Markdown(INTRODUCTION)
        name, labels = pipe.model.name_or_path, ", ".join(f"`{label}`" for label in pipe.model.config.labels)
        name = Path(name).resolve().name if Path(name).exists() else name  # of a folder only the name is told
        gr.Markdown(f"Model `{name}`. It knows: {labels}")
        with gr.Row():
            with gr.Column():
                inputs = _build_inputs(takes_pixels)
                button = gr.Button("Find the relation", variant="primary", elem_id="find")
            with gr.Column():
                relations = gr.HTML(EMPTY, label="Relations", css_template=STYLE, elem_id="ranking")
        if not _has_attention(pipe):
            gr.Markdown(NO_ATTENTION)
        pictures = gr.HTML("", label="What carried the answer", css_template=STYLE, elem_id="pictures")
        rows = EXAMPLES if takes_pixels else [row[:4] for row in EXAMPLES]
        written = [inputs[name] for name in ("text", "head", "tail", "more", "image") if name in inputs]
        gr.Examples(rows, written, cache_examples=False, label="Examples: click one, then the button")
        order = [inputs[name] for name in ("text", "head", "tail", "more", "abstain_below", "image") if name in inputs]
        events = [button.click, inputs["head"].submit, inputs["tail"].submit]
        gr.on(events, partial(answer, pipe), order, [relations, pictures], api_name="classify", concurrency_limit=1)
    return demo.queue(max_size=MAX_WAITING)


def _build_inputs(takes_pixels: bool) -> dict[str, Any]:
    fields: dict[str, Any] = {
        "text": gr.Textbox(label="Text of the post", lines=3, max_length=MAX_CHARACTERS, elem_id="text")
    }
    with gr.Row():
        fields["head"] = gr.Textbox(label="Head entity", placeholder="as written in the text", elem_id="head")
        fields["tail"] = gr.Textbox(label="Tail entity", placeholder="as written in the text", elem_id="tail")
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
        show_error=True,  # Gradio itself refuses a file that is no image, before `answer` sees it
        theme=gr.themes.Default(font=["system-ui", "sans-serif"], font_mono=["ui-monospace", "monospace"]),
    )


if __name__ == "__main__":
    main()
