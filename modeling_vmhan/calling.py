"""How the pipeline is called: what its arguments ask, one post after the other, and what one bad post does."""

import dataclasses
from collections.abc import Mapping, Sized
from typing import Any

from torch.utils.data import Dataset, Subset
from transformers import Pipeline

from .questions import PASSED, QUESTION_KEYS, passed_on, without_pandas
from .values import reworded


__all__ = ["CallingPipeline"]

Parameters = dict[str, Any]

BAD_POST = (ValueError, OSError)  # what a post can cause; anything else is a fault of the program or the machine


class CallingPipeline(Pipeline):
    """A Pipeline of posts. One that fails in a step (`preprocess`, `_forward`, `postprocess`) fails alone.

    The steps get neither `on_error` nor `with_post`, which come with the parameters of `postprocess`.
    """

    def __call__(self, inputs: Any = None, image: Any = None, **keywords) -> Any:
        """Answer what `question_of` makes of the arguments; other keywords are options."""
        asked = {key: keywords.pop(key) for key in list(keywords) if _is_of_post(key, keywords[key])}
        given = {**asked, "image": image} if image is not None else asked
        question = question_of(inputs, {key: value for key, value in given.items() if value is not None})
        if isinstance(question, (list, tuple)) and not question:
            return []
        return super().__call__(as_inputs(question), **keywords)

    def get_iterator(self, inputs, num_workers, batch_size, *parameters: Parameters):
        steps, parameters = _Steps.of(self, parameters)
        numbered = _NumberedItems(inputs) if isinstance(inputs, Sized) else enumerate(inputs)
        return Pipeline.get_iterator(steps, numbered, num_workers, batch_size, *parameters)  # its loop, our steps

    def run_single(self, inputs, *parameters: Parameters):
        steps, (of_preprocess, of_forward, of_postprocess) = _Steps.of(self, parameters)
        asked = steps.preprocess((None, inputs), **of_preprocess)
        return steps.postprocess(steps.forward(asked, **of_forward), **of_postprocess)


def _is_of_post(key: str, value: Any) -> bool:
    """Whether a keyword is a key of a post; `mentions` is one as a list, where a name or a function is an option."""
    return key in QUESTION_KEYS and not (key == "mentions" and (isinstance(value, str) or callable(value)))


def question_of(inputs: Any, given: Mapping[str, Any]) -> Any:
    """What is asked by `inputs` and by keywords, which are the keys of one post, or complete it; lists of texts and of
    images are one post each.
    """
    inputs = without_pandas(inputs)
    if inputs is None and not given:
        raise ValueError("a question must be a dict, received nothing: give a post, or text=... and perhaps image=...")
    if inputs is None and isinstance(given.get("text"), (list, tuple)):
        inputs, given = given["text"], {key: value for key, value in given.items() if key != "text"}
    if not given:
        return inputs
    if inputs is None:
        return dict(given)
    if isinstance(inputs, (str, Mapping)):
        post = {"text": inputs} if isinstance(inputs, str) else inputs
        if both := [key for key in given if post.get(key) is not None]:
            raise ValueError(
                f"{both[0]} must be given once, received it in the post and as an argument: leave one out."
            )
        return {**post, **given}
    images = given.get("image")
    if set(given) == {"image"} and isinstance(inputs, (list, tuple)) and isinstance(images, (list, tuple)):
        if len(images) != len(inputs) or not all(isinstance(text, str) for text in inputs):
            rule = "a list of as many images as there are texts"
            raise ValueError(f"image must be {rule}, received {len(images)} for {len(inputs)} inputs.")
        return [{"text": text, "image": image} for text, image in zip(inputs, images)]
    raise ValueError(f"{sorted(given)} must stand in the posts, where several are asked, received them as arguments.")


def as_inputs(inputs: Any) -> Any:
    """What Pipeline can take: a question, a list, a torch data set or a generator."""
    features = getattr(inputs, "features", None)
    image = features.get("image") if isinstance(features, Mapping) else None
    if hasattr(image, "decode"):  # `datasets` would open what Pillow can; `load_image` takes fewer formats
        inputs = inputs.cast_column("image", dataclasses.replace(image, decode=False))
    if isinstance(inputs, (Mapping, str, bytes, Dataset)):
        return inputs
    try:
        iter(inputs)
    except Exception:  # no question and no questions, as `preprocess` will say
        return inputs
    if isinstance(inputs, (list, tuple)):
        return list(inputs)
    if hasattr(inputs, "__len__") and hasattr(inputs, "__getitem__"):
        return Subset(inputs, range(len(inputs)))  # another library's data set as one of torch's
    return (question for question in inputs)


@dataclasses.dataclass
class _NumberedItems(Dataset):
    """The items of a list or data set with their indices."""

    items: Any

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> tuple[int, Any]:
        return index, self.items[index]


@dataclasses.dataclass
class _Item:
    """A question on its way through the steps: `state` is what the last one made of it, or `error` says why none."""

    index: int | None  # None: of a question that was asked alone
    identity: Any = None
    passed: dict[str, Any] = dataclasses.field(default_factory=dict)
    state: dict[str, Any] | None = None
    error: str | None = None


@dataclasses.dataclass
class _Steps:
    """The steps of a pipeline, in which a post that fails does not stop the others."""

    pipe: Pipeline
    on_error: str = "raise"
    with_post: bool = False

    def __post_init__(self):
        for name in ("tokenizer", "feature_extractor", "image_processor"):  # by which Pipeline's loop pads tensors
            setattr(self, name, getattr(self.pipe, name))

    @classmethod
    def of(cls, pipe: Pipeline, parameters: tuple[Parameters, ...]) -> tuple["_Steps", tuple[Parameters, ...]]:
        """These steps, and the parameters of the pipeline's own."""
        own = {name: parameters[-1][name] for name in ("on_error", "with_post") if name in parameters[-1]}
        rest = {name: value for name, value in parameters[-1].items() if name not in own}
        return cls(pipe, **own), (*parameters[:-1], rest)

    def preprocess(self, numbered: tuple[int | None, Any], **parameters) -> dict[str, _Item]:
        index, question = numbered
        item = _Item(index)
        try:
            question, item.passed = passed_on(question, with_post=self.with_post)
            item.identity = question.get("id")
            item.state = self.pipe.preprocess(question, **parameters)
        except BAD_POST as error:
            self._fail(item, error)
        return {"item": item}

    def forward(self, model_inputs: dict[str, Any], **parameters) -> dict[str, Any]:
        items = model_inputs["item"]
        self._forward(items if isinstance(items, list) else [items], parameters)
        return model_inputs

    def _forward(self, items: list[_Item], parameters: Parameters) -> None:
        """One pass for all; where that fails, one for each, to know which one it was."""
        items = [item for item in items if item.error is None]
        if not items:
            return
        try:
            batch = {key: [item.state[key] for item in items] for key in items[0].state}
            outputs = self.pipe.forward(batch, **parameters)
        except BAD_POST as error:
            if len(items) == 1:
                return self._fail(items[0], error)
            for item in items:
                self._forward([item], parameters)
        else:
            for i, item in enumerate(items):
                item.state = {key: values[i] for key, values in outputs.items()}

    def postprocess(self, model_outputs: dict[str, Any], **parameters) -> Any:
        item = model_outputs["item"]
        try:
            answer = self.pipe.postprocess(item.state, **parameters) if item.error is None else None
        except BAD_POST as error:
            self._fail(item, error)
        if item.error is not None:
            answer = {"error": item.error, "index": item.index or 0, "id": item.identity}
        for each in (answer if isinstance(answer, list) else [answer]) if item.passed else ():
            each[PASSED] = item.passed
        return answer

    def _fail(self, item: _Item, error: Exception) -> None:
        if self.on_error == "return":
            item.error = str(error)
        elif item.index is None:
            raise error
        else:
            raise reworded(error, f"input {item.index}: {error}") from error
