"""Objects for questions that bring a picture and no boxes, found as when the model's training data were prepared."""

import logging
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from PIL import Image

from modeling_vmhan.configuration_vmhan import VMHANConfig
from modeling_vmhan.pipeline_vmhan import open_image


if TYPE_CHECKING:
    from datasets_scripts.detection.base import Detector


__all__ = ["NONE", "RECORDED", "DetectingPipeline", "detector_of"]

logger = logging.getLogger(__name__)

RECORDED, NONE = "recorded", "none"  # values of --detector beside a detector's name
OF_OBJECTS = ("boxes", "object_features", "image_features")  # with one of them, nothing is to be found
MENTIONS = ("head", "tail")


def detector_of(wanted: str | None, config: VMHANConfig, *, device: str) -> "Detector | None":
    """The detector that `--detector` names for this model, None for none.

    Left out, it is the one of the model's recipe, if there is one. A model that sees no objects in pictures gets none.
    ValueError for `recorded` without a record, or what `make_detector` finds wrong, with the flag that helps.
    """
    recipe = config.recipe or {}
    recorded = recipe.get("detector")
    if wanted == RECORDED and recorded is None:
        raise ValueError(
            "--detector recorded: expected a model whose recipe names the detector of its training data, received "
            f"recipe={config.recipe!r}. Name one, such as torchvision:fasterrcnn_resnet50_fpn_v2, or pass none."
        )
    name = wanted or (NONE if recorded is None else RECORDED)
    if name == NONE or not config.num_objects or config.vision_encoder is None:
        if wanted not in (None, NONE):
            logger.warning("--detector %s: this model sees no objects in pictures, so that none are sought", wanted)
        return None
    from datasets_scripts.detection.detectors import make_detector  # late: few questions need it, and all would wait

    options = recipe.get("detector_options") or {}
    try:
        if name != RECORDED:
            return make_detector(name, device=device)
        return make_detector(recorded, **{**options, "device": device})
    except (OSError, ValueError, ImportError) as error:
        raise ValueError(f"--detector {name}{f' ({recorded})' if name == RECORDED else ''}: {error}") from error


class DetectingPipeline:
    """A pipeline that gives questions with a picture and no objects the boxes that `detector` finds, and otherwise
    answers as `pipe` does, whose model, processor and device it has.

    A text-conditioned detector looks for the question's image phrases, or without any for its mentions, as
    `vmhan prepare` does. A question that cannot be read stays as it is, for `pipe` to say what is wrong.
    """

    def __init__(self, pipe: Any, detector: "Detector"):
        self.pipe, self.detector = pipe, detector
        self.model, self.processor, self.device = pipe.model, pipe.processor, pipe.device

    def __call__(self, questions: Sequence[Any], **options: Any) -> list:
        return self.pipe(self.with_objects(questions), **options)

    def with_objects(self, questions: Sequence[Any]) -> list[Any]:
        """The questions, in which a picture that was looked at is open already, with its boxes, labels and scores."""
        from datasets_scripts.schema import object_columns  # late, as above

        questions = list(questions)
        images = {i: image for i, question in enumerate(questions) if (image := self._image(question)) is not None}
        queries = [_queries(questions[i]) for i in images] if self.detector.text_conditioned else None
        for i, found in zip(images, self.detector.detect(list(images.values()), queries), strict=True):
            questions[i] = {**questions[i], "image": images[i], **object_columns(found)}
        return questions

    def _image(self, question: Any) -> Image.Image | None:
        """The picture in which objects are to be found; None if there is none, or it cannot be opened."""
        if not isinstance(question, Mapping) or question.get("image") is None:
            return None
        if any(question.get(key) is not None for key in OF_OBJECTS):  # [] says that there are none
            return None
        try:
            return open_image(question["image"])
        except (OSError, ValueError):  # as the pipeline will say
            return None


def _queries(question: Mapping[str, Any]) -> list[str]:
    phrases = question.get("image_phrases")
    if phrases:
        return [phrase for phrase in phrases if isinstance(phrase, str)]
    pairs = question.get("pairs") or [question]
    given = [pair.get(role) for pair in pairs if isinstance(pair, Mapping) for role in MENTIONS]
    given += question.get("mentions") or []
    return list(dict.fromkeys(filter(None, (_words(question, mention) for mention in given))))


def _words(question: Mapping[str, Any], mention: Any) -> str | None:
    """The words of a mention; None of a box, and of what is none."""
    if isinstance(mention, str):
        return mention
    if not isinstance(mention, (list, tuple)) or len(mention) != 2 or not all(type(place) is int for place in mention):
        return None
    tokens = question.get("tokens")
    return " ".join(tokens[slice(*mention)]) if tokens else str(question.get("text") or "")[slice(*mention)]
