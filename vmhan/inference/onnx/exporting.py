"""A trained classifier as one graph: torch.export's program, or ONNX.

What varies from batch to batch (posts, encoder rows, tokens, pairs, objects, phrases) stays open in the graph, and
class probabilities by the config's temperature and none_bias are part of it.
"""

from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from modeling_vmhan.decision import DecisionRule
from modeling_vmhan.text_encoding import num_positions
from vmhan.inference.onnx.check_posts import check_batches
from vmhan.inference.onnx.inputs import filled_inputs, input_axes
from vmhan.inference.onnx.runtime import OUTPUTS, need


__all__ = ["TOLERANCE", "ExportableClassifier", "Run", "export_program", "filled_tensors", "largest_difference"]
__all__ += ["save_onnx"]

TOLERANCE = 1e-4  # of logits and probabilities, against the model itself

Run = Callable[[Mapping[str, Tensor]], tuple[Tensor, Tensor]]


class ExportableClassifier(nn.Module):
    """The classifier with named tensors in and (logits, probabilities) out, both (P, R); see `VMHANModel.forward`."""

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = model
        self.rule = DecisionRule.of(model.config)

    def forward(self, inputs: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        logits = self.model(**inputs).logits
        return logits, self.rule.probabilities(logits)


def precise_norm(norm: nn.LayerNorm, inputs: tuple[Tensor], output: Tensor) -> Tensor:
    """A forward hook, region features normalised in float64: onnxruntime's LayerNorm in float32 rounds more coarsely
    than torch's, and the BatchNorm after it enlarges that for features that hardly vary.
    """
    return nn.functional.layer_norm(inputs[0].double(), norm.normalized_shape, eps=norm.eps).to(output.dtype)


def export_program(model: nn.Module, processor) -> ExportedProgram:
    """`torch.export` of a `VMHANForRelationClassification` in evaluation mode, made float32, with open axes.
    ValueError for a vision encoder in the model, or a part of it that torch.export cannot trace.
    """
    config = model.config
    if config.vision_encoder is not None:
        raise ValueError(
            f"a model with its vision encoder inside cannot be exported, received vision_encoder="
            f"{config.vision_encoder!r}: the graph takes image_features and object_features. Train it with "
            "run_mmre.py --visual features, and give posts the features of --features."
        )
    traced = processor(check_batches(model)[-1])
    axes = input_axes(config, list(traced))
    names = sorted({axis for of_input in axes.values() for axis in of_input if isinstance(axis, str)})
    # Tokens that the text encoder has positions for; at worst they begin after its padding id, as RoBERTa's do.
    text_config, longest = config.text_config, num_positions(config.text_config)
    if longest is None:
        longest = text_config.max_position_embeddings - (text_config.pad_token_id or 0) - 1
    limits = {} if config.entity_representation == "packed" else {"tokens": longest}
    dims = {name: Dim(name, min=1, max=limits.get(name)) for name in names}
    shapes = {name: {i: dims[axis] for i, axis in enumerate(axes[name]) if axis in dims} for name in axes}
    # Every open axis has a size of its own, 2 or more: torch.export takes a size of 1 for a constant, and equal ones
    # for related. The values are zeros, which point at what is there: none is looked at.
    sizes = {name: 2 + i for i, name in enumerate(names)}
    example = {name: traced[name].new_zeros([sizes.get(axis, axis) for axis in axes[name]]) for name in axes}
    projection = model.base_model.visual_projection
    hooks = [] if projection is None else [projection.feature_norm.register_forward_hook(precise_norm)]
    try:
        exportable = ExportableClassifier(model.float().eval())
        return torch.export.export(exportable, (example,), dynamic_shapes={"inputs": shapes}, strict=False)
    except Exception as error:  # torch.export raises whatever the traced code or its own many parts do
        raise ValueError(
            f"torch.export cannot trace this model (text encoder {config.text_config.model_type!r}, hyperedges "
            f"{config.hyperedges}, hypergraph_encoder {config.hypergraph_encoder!r}); expected one that has no step "
            f"which depends on the values of its inputs, received {type(error).__name__}: {error}. Serve it with "
            "transformers.pipeline instead."
        ) from error
    finally:
        for hook in hooks:
            hook.remove()


def save_onnx(program: ExportedProgram, path: Path, *, opset: int | None = None) -> int:
    """Write the program as ONNX; returns the opset, the version of ONNX's operators, which None leaves to torch.
    ValueError if packages are missing, or if the program has no form in this opset.
    """
    need("onnx", "onnxscript")
    try:
        onnx_program = torch.onnx.export(
            program,
            input_names=list(program.example_inputs[0][0]),
            output_names=OUTPUTS,
            opset_version=opset,
            dynamo=True,
            verbose=False,
        )
    except torch.onnx.OnnxExporterError as error:
        raise ValueError(
            f"this model has no form in ONNX opset {opset or '(default)'}: {error.__cause__ or error}. Try another "
            "--opset, or --format torch_export."
        ) from error
    for node in onnx_program.model.graph.all_nodes():
        node.metadata_props.clear()  # stack traces, with the folders of this machine
    onnx_program.save(path)
    return onnx_program.model.opset_imports[""]


@torch.no_grad()
def largest_difference(model: nn.Module, processor, run: Run) -> float:
    """Return the largest difference of logits and probabilities between the model and its exported form `run`."""
    reference, largest = ExportableClassifier(model.float().eval()), torch.zeros(())
    for posts in check_batches(model):
        encoded = processor(posts)
        filled = filled_tensors(encoded, model.config)
        for expected, received in zip(reference(dict(encoded)), run(filled), strict=True):
            largest = largest.maximum((expected - torch.as_tensor(received)).abs().max())  # NaN where one is
    return largest.item()


def filled_tensors(encoded: Mapping[str, Tensor], config) -> dict[str, Tensor]:
    """The processor's tensors as `filled_inputs` fills them, for a model of this `VMHANConfig`."""
    filled = filled_inputs(encoded, input_axes(config, list(encoded)))
    return {name: torch.as_tensor(array) for name, array in filled.items()}
