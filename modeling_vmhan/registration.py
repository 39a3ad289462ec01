"""By what transformers' Auto classes and `pipeline` find the public names. Imports torch."""

from transformers import AutoConfig, AutoModel, AutoModelForSequenceClassification, AutoProcessor
from transformers.pipelines import PIPELINE_REGISTRY

from .configuration_vmhan import VMHANConfig
from .modeling_vmhan import VMHANForRelationClassification
from .pipeline_vmhan import TASK, MultimodalRelationClassificationPipeline
from .processing_vmhan import VMHANProcessor


__all__ = ["TASK"]

AutoConfig.register("vmhan", VMHANConfig)
AutoModel.register(VMHANConfig, VMHANForRelationClassification)
AutoModelForSequenceClassification.register(VMHANConfig, VMHANForRelationClassification)
AutoProcessor.register(VMHANConfig, VMHANProcessor)
PIPELINE_REGISTRY.register_pipeline(
    TASK,
    pipeline_class=MultimodalRelationClassificationPipeline,
    pt_model=AutoModelForSequenceClassification,
    type="multimodal",
)

# Saved folders carry the code, so that they load with trust_remote_code=True where this package is not installed.
VMHANConfig.register_for_auto_class()
VMHANForRelationClassification.register_for_auto_class("AutoModelForSequenceClassification")
VMHANProcessor.register_for_auto_class()
