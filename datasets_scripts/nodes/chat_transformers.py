"""Language models in process, by the name of any transformers checkpoint that chats about text or an image."""

import functools
import hashlib
import importlib.metadata
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from datasets_scripts.nodes.chat import ChatAnswer, ChatError, ChatRequest, OnAnswer
from datasets_scripts.nodes.pairs import check_whole_numbers
from modeling_vmhan.images import load_image


__all__ = ["TransformersChatModel"]

TASKS = {"text": "text-generation", "image": "image-text-to-text"}
WEIGHTS = ("*.safetensors", "*.bin", "config.json", "tokenizer.json", "*.jinja")  # what answers depend on


class TransformersChatModel:
    """A chat model in this process, greedy: the same request gets the same answer.

    The pipeline of the checkpoint's task is loaded at the first request, for its choice of classes, device and data
    type; batches go through the chat template and `generate`, because the pipeline's own batching fails on LLaVA-NeXT
    (transformers 5.24). Padding can tip a near tie in half precision: `batch_size=1` makes answers independent.

    `model` is a Hub name, NAME@REVISION, or a folder, `kind` "text" (Llama 3) or "image" (LLaVA, with or without an
    image). Answers are cut off after `max_new_tokens`. A `device` of None takes an accelerator when there is one; the
    `dtype` "auto" is the checkpoint's. ValueError or OSError for a bad argument, and at the first request for no such
    checkpoint or one without a chat template.
    """

    def __init__(
        self,
        model: str,
        kind: str,
        *,
        batch_size: int = 8,
        max_new_tokens: int = 256,
        device: str | None = None,
        dtype: str = "auto",
    ):
        if kind not in TASKS:
            raise ValueError(f"kind: expected one of {list(TASKS)}, received {kind!r}")
        check_whole_numbers(1, batch_size=batch_size, max_new_tokens=max_new_tokens)
        self.name, _, revision = (model, "", "") if Path(model).is_dir() else model.partition("@")
        if not self.name:
            raise ValueError(f"model: expected a Hub name, NAME@REVISION or a folder, received {model!r}")
        self.revision = revision or None
        self.kind, self.batch_size, self.max_new_tokens = kind, batch_size, max_new_tokens
        self.device, self.dtype = device, dtype

    @functools.cached_property
    def model(self) -> str:
        """The name and its version: the commit on the Hub, or a digest of the folder's files."""
        return f"{self.name}@{_version(self.name, self.revision)}"

    @property
    def parameters(self) -> dict[str, Any]:
        """What the answers depend on beside the weights; not the batch size, see above."""
        return {"max_new_tokens": self.max_new_tokens, "do_sample": False, "dtype": self.dtype}

    @property
    def description(self) -> dict[str, Any]:
        described = {"model": self.model, "task": TASKS[self.kind], "parameters": self.parameters}
        return {"adapter": "transformers", **described, "transformers": importlib.metadata.version("transformers")}

    def complete(self, requests: Sequence[ChatRequest], on_answer: OnAnswer) -> list[ChatAnswer | ChatError]:
        """See `ChatModel.complete`; answers arrive batch by batch, those of about equal length together."""
        answers: dict[int, ChatAnswer] = {}
        for batch in _batches(requests, self.batch_size):
            for index, answer in zip(batch, self._generate([requests[index] for index in batch]), strict=True):
                answers[index] = answer
                on_answer(index, answer)
        return [answers[index] for index in range(len(requests))]

    @functools.cached_property
    def _pipeline(self) -> Any:
        import transformers

        pipeline = transformers.pipeline(
            TASKS[self.kind], model=self.name, revision=self.revision, device=self.device, dtype=self.dtype
        )
        if self.device is not None:  # in launched processes a pipeline stays where its model was loaded
            pipeline.model.to(self.device)
        if getattr(self._encoder(pipeline), "chat_template", None) is None:
            raise ValueError(f"model: expected a checkpoint with a chat template, received {self.name!r} without one")
        if pipeline.tokenizer.pad_token is None:  # Llama 3
            pipeline.tokenizer.pad_token = pipeline.tokenizer.eos_token
        pipeline.tokenizer.padding_side = "left"  # the answer follows the last token
        return pipeline

    def _encoder(self, pipeline: Any) -> Any:
        """What holds the chat template."""
        return pipeline.processor if self.kind == "image" else pipeline.tokenizer

    def _generate(self, requests: list[ChatRequest]) -> Iterator[ChatAnswer]:
        import torch

        if self.kind == "text" and any(request.image is not None for request in requests):
            raise ValueError(f"image: expected none, as {self.name!r} was loaded as a model of text, received one")
        pipeline = self._pipeline
        options = {"tokenize": True, "return_dict": True, "return_tensors": "pt", "add_generation_prompt": True}
        options |= {"processor_kwargs": {"padding": True}} if self.kind == "image" else {"padding": True}
        chats = [self._chat(request) for request in requests]
        inputs = self._encoder(pipeline).apply_chat_template(chats, **options)
        inputs = inputs.to(pipeline.model.device)
        if self.kind == "image":
            inputs = inputs.to(dtype=pipeline.model.dtype)  # of the pixels; whole numbers keep their type
        with torch.inference_mode():
            greedy = {"do_sample": False, "num_beams": 1, "temperature": None, "top_p": None, "top_k": None}
            limits = {"max_new_tokens": self.max_new_tokens, "pad_token_id": pipeline.tokenizer.pad_token_id}
            tokens = pipeline.model.generate(**inputs, **greedy, **limits)
        ends = pipeline.model.generation_config.eos_token_id
        ends = set(ends) if isinstance(ends, list) else {ends}
        for row in tokens[:, inputs["input_ids"].shape[1] :].tolist():
            text = pipeline.tokenizer.decode(row, skip_special_tokens=True)
            yield ChatAnswer.cut(text, truncated=not ends.intersection(row))

    def _chat(self, request: ChatRequest) -> list[dict[str, Any]]:
        if self.kind == "text":
            return list(request.messages)
        chat = [{**turn, "content": [{"type": "text", "text": turn["content"]}]} for turn in request.messages]
        if request.image is not None:
            image = load_image(request.image)
            chat[0]["content"].insert(0, {"type": "image", "image": image})
        return chat


def _batches(requests: Sequence[ChatRequest], size: int) -> Iterator[list[int]]:
    """Indices in batches that have all an image or all none, sorted by length so that little is padded."""
    for has_image in (False, True):
        group = [index for index, request in enumerate(requests) if (request.image is not None) == has_image]
        group.sort(key=lambda index: sum(len(message["content"]) for message in requests[index].messages))
        yield from (group[start : start + size] for start in range(0, len(group), size))


def _version(name: str, revision: str | None) -> str:
    """The Hub's commit of a checkpoint, or 16 hexadecimal digits over the files of a folder that answers depend on."""
    import transformers

    try:
        config = transformers.AutoConfig.from_pretrained(name, revision=revision)
    except (OSError, ValueError) as error:  # transformers has either for what is no checkpoint
        raise OSError(f"model: expected a folder or Hub name of a checkpoint, received {name!r} ({error})") from error
    folder, digest = Path(name), hashlib.sha256()
    if not folder.is_dir():
        return config._commit_hash or revision or "unknown"
    for path in sorted({path for pattern in WEIGHTS for path in folder.glob(pattern)}):
        digest.update(path.name.encode())
        with path.open("rb") as file:
            while chunk := file.read(1 << 20):
                digest.update(chunk)
    return digest.hexdigest()[:16]
