"""The three tools of a preparation, made from the command line's words: detector, node selector, visual encoder."""

from dataclasses import dataclass
from typing import Any

from datasets_scripts.prepare.arguments import PrepareArguments


__all__ = ["Tools", "make_tools"]


@dataclass(frozen=True)
class Tools:
    """What is run over images and posts; None where nothing is.

    Attributes:
        detector: a `datasets_scripts.detection.detectors.Detector`.
        selector: a `datasets_scripts.nodes.selection.NodeSelector`.
        extractor: a `datasets_scripts.features.VisualFeatureExtractor`.
    """

    detector: Any = None
    selector: Any = None
    extractor: Any = None

    @property
    def descriptions(self) -> dict[str, Any]:
        """What each is, for provenance: JSON-able, None where there is none."""
        tools = {"detector": self.detector, "selector": self.selector, "features": self.extractor}
        return {name: None if tool is None else tool.description for name, tool in tools.items()}

    @property
    def feature_size(self) -> int | None:
        return None if self.extractor is None else self.extractor.feature_size


def _max_objects(arguments: PrepareArguments) -> dict[str, int]:
    """--max_objects, but where the detector's own words say it."""
    is_said = "max_objects=" in arguments.detector.partition("?")[2]
    return {} if is_said else {"max_objects": arguments.max_objects}


def make_tools(arguments: PrepareArguments, device: str | None) -> Tools:
    """The tools that `arguments` name, on `device` (None: each chooses); what is not named is not imported.

    Raises:
        ValueError: an unknown name or option.
        OSError, ImportError: weights or a library are missing. Each says what to do.
    """
    on_device = {"device": device} if device else {}
    detector = selector = extractor = None
    if arguments.detector != "none":
        from datasets_scripts.detection.detectors import make_detector

        options = {**_max_objects(arguments), **on_device, **arguments.parsed("detector_options")}
        detector = make_detector(arguments.detector, **options)
    if arguments.selector != "none":
        from datasets_scripts.nodes.selection import make_selector

        options = on_device if arguments.selector.startswith("transformers:") else {}
        selector = make_selector(arguments.selector, **{**options, **arguments.parsed("selector_options")})
    if arguments.features is not None:
        from datasets_scripts.features import VisualFeatureExtractor

        options = {**on_device, **arguments.parsed("feature_options")}
        extractor = VisualFeatureExtractor.from_spec(arguments.features, **options)
    return Tools(detector, selector, extractor)
