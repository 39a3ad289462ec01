"""A web page for a VM-HAN: a post in, its mentions and the facts between them out, and what carried them.

It knows the model by the environment variable VMHAN_MODEL alone, a repository's id or a folder, whose own code
answers: nothing of the vmhan package needs to be here.

    VMHAN_MODEL=outputs/demo python app.py
"""

import os
import re
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import gradio as gr
from PIL import Image, ImageOps
from rendering import EMPTY, LEGEND, STYLE, alert, colours_of, fact_table, figure, marked, ranking
from svg import boxed_image, fact_graph
from transformers import Pipeline, pipeline


__all__ = ["answer", "build_demo", "load_pipeline", "main", "read_mentions", "read_objects", "read_pairs", "written"]

MAX_CHARACTERS, MAX_PAIRS, MAX_MENTIONS, MAX_OBJECTS, MAX_PICTURES = 5000, 20, 20, 50, 3
MAX_FILE_SIZE, MAX_WAITING = "20mb", 32
SPAN_OR_BOX = re.compile(r"\((\d+), *(\d+)(?:, *(\d+), *(\d+))?\)")
OBJECT = re.compile(r"\(?(\d+), *(\d+), *(\d+), *(\d+)\)? *(.*)")
POSTCARD = Path(__file__).with_name("postcard.jpg")
EXAMPLES = [  # text, mentions, image
    [
        "Greetings ! Anna Keller poses beside Bruno Haas in red and on the way to Lindau marked in blue .",
        "Anna Keller\nBruno Haas\nLindau",
        str(POSTCARD),
    ],
    ["Ann Keller and Bob Haas back home in Oslo", "Ann Keller\nBob Haas\nOslo", None],
    ["Oslo to Bergen and back to Oslo with Ann", "Bergen\n(27, 31)\nAnn", None],
]
ORDER = ("text", "mentions", "pairs", "objects", "threshold", "image")

INTRODUCTION = """# Which facts does a post state?
Write a post and add its image if there is one. The model, a Variational Multi-Modal Hypergraph Attention Network,
says which relations hold between the people, places and other things that the post mentions, and shows what it
looked at."""
NO_PIXELS = "**This model takes no image:** it has no vision encoder, and answers from the text alone."
NO_ATTENTION = "This model has no attention over hyperedges, so there is no picture of what carried its answers."


def load_pipeline() -> Pipeline:
    """The pipeline of the model that VMHAN_MODEL names."""
    if not (model := os.environ.get("VMHAN_MODEL")):
        raise ValueError(
            "VMHAN_MODEL: expected a repository's id or a folder in this environment variable, received nothing. "
            "VMHAN_MODEL=outputs/demo python app.py, or a variable in the Space's settings."
        )
    return pipeline(model=model, trust_remote_code=True)


def read_pairs(lines: str) -> list[dict[str, Any]]:
    """The entity pairs as the pipeline takes them, of one "head | tail" a line."""
    pairs = []
    for line in _lines(lines, MAX_PAIRS, "pairs"):
        if line.count("|") != 1:
            raise ValueError(f"Pairs: write each as head | tail, one a line, not {line!r}.")
        pairs.append(dict(zip(("head", "tail"), map(_place, line.split("|")))))
    return pairs


def read_objects(lines: str) -> dict[str, Any]:
    """Boxes and labels as the pipeline takes them, of one "x1, y1, x2, y2 label" a line."""
    found = [(line, OBJECT.fullmatch(line)) for line in _lines(lines, MAX_OBJECTS, "objects")]
    if wrong := [line for line, match in found if match is None]:
        raise ValueError(f"Objects: write each as x1, y1, x2, y2 name, one a line, not {wrong[0]!r}.")
    *sides, labels = zip(*(match.groups() for _, match in found)) if found else [()]
    boxes = [[int(side) for side in box] for box in zip(*sides)]
    return {"boxes": boxes, "object_labels": list(labels)} if boxes else {}


def read_mentions(pipe: Pipeline, text: str, lines: str) -> list[Any]:
    """The mentions, of one a line: words of the text or a span, and perhaps a bar and a type."""
    mentions = []
    for line in _lines(lines, MAX_MENTIONS, "mentions"):
        words, type_ = line, ""
        if "|" in line and line not in text:
            words, type_ = line.rsplit("|", 1)
        (mention,) = pipe.find_mentions({"text": text, "mentions": [_place(words)]})
        mentions.append(mention._replace(type=type_.strip() or None))
    return mentions


def written(text: str, mentions: Sequence[Any]) -> str:
    """The mentions as `read_mentions` reads them: words where they stand there first, else their span."""
    lines = []
    for start, end, type_, *_ in mentions:
        words = text[start:end]
        is_plain = text.find(words) == start and "|" not in words and len(words.splitlines()) == 1
        lines.append((words if is_plain else f"({start}, {end})") + (f" | {type_}" if type_ else ""))
    return "\n".join(lines)


def _lines(written: str | None, limit: int, name: str) -> list[str]:
    lines = [line.strip() for line in (written or "").splitlines() if line.strip()]
    if len(lines) > limit:
        raise ValueError(f"At most {limit} {name} at a time, received {len(lines)}.")
    return lines


def _place(words: str) -> str | tuple[int, ...]:
    """Read a string of the text, or in brackets a span of its characters or a box in pixels."""
    numbers = SPAN_OR_BOX.fullmatch(words.strip())
    return tuple(int(number) for number in numbers.groups() if number) if numbers else words.strip()


def answer(
    pipe: Pipeline,
    known: tuple[str, str],
    text: str,
    mentions: str,
    pairs: str,
    objects: str,
    threshold: float,
    image: str | None = None,
) -> tuple:
    """What the button does: known, the mentions as lines, and HTML: marked text, facts, graph, rankings, pictures.

    known is the text and the lines of mentions that the model found last: they are found anew where the text is
    another and the person did not change them. What cannot be taken is answered by the message that says why.
    """
    text, mentions = text or "", mentions or ""
    try:
        if len(text) > MAX_CHARACTERS:
            raise ValueError(f"The text must have at most {MAX_CHARACTERS} characters, received {len(text)}.")
        post = {"text": text, **read_objects(objects), **({} if image is None else {"image": image})}
        if _lines(pairs, MAX_PAIRS, "pairs"):
            found, facts, shown = [], *_asked_pairs(pipe, post, read_pairs(pairs), threshold)
        else:
            is_old = known[0] != text and mentions.strip() == known[1].strip()
            found = _found(pipe, post) if is_old or not mentions.strip() else read_mentions(pipe, text, mentions)
            if is_old or not mentions.strip():
                mentions = written(text, found)
                known = (text, mentions)
            facts, shown = _asked_mentions(pipe, post, found, threshold)
    except (ValueError, OSError) as error:
        return known, mentions, alert(str(error)), "", "", "", ""
    types = [mention.type for mention in found]
    types += [fact.get(f"{role}_type") for fact in facts for role in ("head", "tail")]
    colours, config = colours_of(types), pipe.model.config
    rankings = [ranking(of, config.none_label, len(config.id2label), is_open=i == 0) for i, of in enumerate(shown)]
    explained = [of for of in shown if "explanation" in of]
    pictures = [boxed_image(*_with_boxes(image, post, explained))] if image is not None else []
    pictures += [LEGEND, *map(figure, explained)] if explained else []
    shown_text, graph = marked(text, found, colours), fact_graph(facts, colours)
    return known, mentions, shown_text, fact_table(facts), graph, "".join(rankings), "".join(pictures)


def _found(pipe: Pipeline, post: dict[str, Any]) -> list[Any]:
    """The mentions that the model itself finds, the surest ones where they are too many, in text order."""
    if not _finds_mentions(pipe):
        raise ValueError("This model finds no mentions itself: write them into their field, one a line.")
    found = sorted(pipe.find_mentions(post["text"]), key=lambda mention: -mention.score)[:MAX_MENTIONS]
    return sorted(found)


def _asked_mentions(pipe: Pipeline, post: dict[str, Any], found: list[Any], threshold: float) -> tuple[list, list]:
    """The facts between the mentions, and the best ones with what carried them."""
    option = {_threshold(pipe): threshold} if threshold else {}
    facts, shown = pipe(post, mentions=lambda _: found, **option), []
    ends = {(mention.start, mention.end): mention for mention in found}
    for fact in facts:
        pair = [ends[tuple(fact[f"{role}_span"])] for role in ("head", "tail")]
        shown.append(_explained(pipe, post, fact, pair) if len(shown) < MAX_PICTURES else fact)
    return facts, shown


def _explained(pipe: Pipeline, post: dict[str, Any], fact: dict[str, Any], pair: list[Any]) -> dict[str, Any]:
    """The fact with what carried it, asked about its pair alone, as pictures of all pairs would take long; the fact as
    it is where its pair would be answered otherwise alone.
    """
    if not _has_attention(pipe) or getattr(pipe.model.config, "hypergraph_scope", "pair") == "post":
        return fact
    alone = pipe(post, mentions=lambda _: pair, explain=True)
    return next((of for of in alone if of["relation"] == fact["relation"]), fact)


def _asked_pairs(pipe: Pipeline, post: dict[str, Any], pairs: list, threshold: float) -> tuple[list, list]:
    """The answers about given pairs that are facts, best first, and all of them with what carried them."""
    answers = pipe({**post, "pairs": pairs}, explain=_has_attention(pipe))
    least = threshold if _threshold(pipe) == "min_score" else 0.0
    facts = [of for of in answers if of["relation"] != pipe.model.config.none_label and of["score"] >= least]
    return sorted(facts, key=lambda fact: -fact["score"]), answers


def _with_boxes(image: str, post: dict[str, Any], explained: list) -> tuple[Image.Image, list]:
    """The image, upright, and the boxes in it that were given or looked at, each once."""
    boxes = dict(zip(map(tuple, post.get("boxes", [])), post.get("object_labels", [])))
    for node in (node for of in explained for node in of["explanation"]["nodes"]):
        if node["box"] is not None:
            boxes.setdefault(tuple(node["box"]), node["text"])
    return ImageOps.exif_transpose(Image.open(image)), list(boxes.items())


def _has_attention(pipe: Pipeline) -> bool:
    return pipe.model.config.hypergraph_encoder == "vhan"


def _finds_mentions(pipe: Pipeline) -> bool:
    return pipe.model.config.mentions


def _threshold(pipe: Pipeline) -> str:
    """The option of the pipeline that the slider sets: a precision, where the model's validation measured it."""
    return "min_precision" if pipe.model.config.precision_table else "min_score"


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
                inputs = _build_inputs(pipe, takes_pixels)
                button = gr.Button("Find the facts", variant="primary", elem_id="find")
            with gr.Column():
                shown = [gr.HTML(EMPTY, label="Mentions", css_template=STYLE, elem_id="marked")]
                for of in ("facts", "graph", "rankings"):
                    shown.append(gr.HTML("", label=of.title(), css_template=STYLE, elem_id=of))
        if not _has_attention(pipe):
            gr.Markdown(NO_ATTENTION)
        shown.append(gr.HTML("", label="What carried the facts", css_template=STYLE, elem_id="pictures"))
        rows = [[text, "" if _finds_mentions(pipe) else mentions, image] for text, mentions, image in EXAMPLES]
        written_in = [inputs[name] for name in ("text", "mentions", "image") if name in inputs]
        rows = rows if takes_pixels else [row[:2] for row in rows]
        gr.Examples(rows, written_in, cache_examples=False, label="Examples: click one, then the button")
        known = gr.State(("", ""))
        given = [known, *(inputs[name] for name in ORDER if name in inputs)]
        results = [known, inputs["mentions"], *shown]
        button.click(partial(answer, pipe), given, results, api_name="facts", concurrency_limit=1)
    return demo.queue(max_size=MAX_WAITING)


def _build_inputs(pipe: Pipeline, takes_pixels: bool) -> dict[str, Any]:
    fields: dict[str, Any] = {
        "text": gr.Textbox(label="Text of the post", lines=3, max_length=MAX_CHARACTERS, elem_id="text")
    }
    if takes_pixels:
        fields["image"] = gr.Image(label="Image (optional)", type="filepath", image_mode=None, height=260,
                                   sources=["upload", "clipboard"], elem_id="image")  # fmt: skip
    else:
        gr.Markdown(NO_PIXELS)
    who = "Left empty, the model finds them." if _finds_mentions(pipe) else "This model finds none itself."
    types = ", ".join(pipe.model.config.mention_types)
    typed = f", and if you like | and a type ({types})" if types else ""
    about = f"One a line: words of the text, or a span such as (0, 3){typed}. {who}"
    fields["mentions"] = gr.Textbox(label="Mentions", info=about, lines=3, max_lines=MAX_MENTIONS, elem_id="mentions")
    with gr.Accordion("More options", open=False):
        if _threshold(pipe) == "min_precision":
            label, about = "Precision", "Show facts of a score that had this precision on the validation posts."
        else:
            label, about = "Least score", "Show no fact of a lower score."
        fields["threshold"] = gr.Slider(0, 1, 0, step=0.05, label=label, info=about, elem_id="threshold")
        about = "head | tail, one a line; a tail may be a box (x1, y1, x2, y2). They are asked instead of all pairs."
        fields["pairs"] = gr.Textbox(label="Pairs", info=about, lines=2, elem_id="pairs")
        about = "x1, y1, x2, y2 name, one a line, in pixels of the image."
        fields["objects"] = gr.Textbox(label="Objects", info=about, lines=2, visible=takes_pixels, elem_id="objects")
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
