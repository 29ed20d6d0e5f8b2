"""Settings of the network: which one, with which weights, and how its head starts."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, field_validator
from pydantic_core import PydanticCustomError

from clbench.models.batch_norm import StatisticsRule as BatchNormTraining
from clbench.settings import Section
from clbench.text.hub_id import is_hub_id, wrong_hub_id
from clbench.text.textfile import home

#: ``model.compile``: what a trial before the first task finds to pay.
AUTO = "auto"


class Probe(Section):
    """Training of a linear head on frozen features."""

    epochs: int = Field(20, ge=1, description="passes over the training images' features")
    lr: float = Field(0.01, gt=0, description="learning rate of SGD")
    momentum: float = Field(0.9, ge=0, lt=1, description="momentum of SGD")
    weight_decay: float = Field(5e-4, ge=0, description="weight decay of SGD")
    batch_size: int = Field(128, ge=1, description="samples of a batch")
    augment: bool = Field(
        False,
        description="train on augmented images: features are taken anew in every epoch, not once",
    )
    batch_norm: Literal["eval", "train"] = Field(
        "eval",
        description="of the frozen trunk: eval, or train: it normalises by the batch and its "
        "statistics move, and what comes after goes on with them (one pass an epoch, as for "
        "augment)",
    )


class Pretraining(Section):
    """Training from scratch on the stream's `pretrain_classes`, once; the result is cached."""

    epochs: int = Field(20, ge=1, description="passes over the pretraining classes")
    lr: float = Field(2e-3, gt=0, description="peak learning rate of AdamW (cosine schedule)")
    weight_decay: float = Field(0.05, ge=0, description="weight decay of AdamW")
    batch_size: int = Field(64, ge=1, description="samples of a batch")


class ModelConfig(Section):
    """The network: a timm backbone and one linear head over all classes of the stream."""

    backbone: str = Field(description="any timm model name, or tiny_cnn, tiny_vit")
    weights: str = Field(
        description="a timm tag (resnet18.tv_in1k), a repository of the Hugging Face hub "
        "(hf-hub:user/name, or …@revision), a file (safetensors or torch), packaged "
        "(EfficientNet-Lite0), pretrain (on stream.pretrain_classes), or none"
    )
    options: dict[str, Any] = Field(
        default_factory=dict, description="further arguments of the backbone, e.g. {width: 64}"
    )
    head: Literal["random", "linear_probe"] = Field(
        "random", description="how a task's rows of the head start"
    )
    probe: Probe = Field(default_factory=Probe, description="for head: linear_probe")
    pretraining: Pretraining = Field(
        default_factory=Pretraining, description="for weights: pretrain"
    )
    batch_norm: Literal["average", "recompute", "pretrained"] = Field(
        "average",
        description="running statistics after weights were averaged: averaged too, recomputed on "
        "the task's training data, or those of the pretrained weights",
    )
    batch_norm_training: BatchNormTraining = Field(
        "update",
        description="BatchNorm in training: update normalises by the batch and moves the running "
        "statistics, but not of layers and trunks that are frozen (linear_probe, lora); update_all "
        "of these too; frozen normalises by the statistics, and they stay. Its weights and biases "
        "train all the same",
    )
    checkpointing: bool = Field(
        False,
        description="gradient checkpointing (timm's): less memory in training, more time; not with "
        "BatchNorm",
    )
    compile: str | None = Field(
        None,
        description="torch.compile of the training step's forward pass: inductor; or auto: where "
        "a trial before the first task says that it pays, and channels_last likewise; default: no",
    )
    channels_last: bool | None = Field(
        None,
        description="memory format of convolutions; default: on a GPU, and for depthwise "
        "convolutions anywhere",
    )

    @field_validator("weights")
    @classmethod
    def _file_at_home(cls, weights: str) -> str:
        if is_hub_id(weights) and (wrong := wrong_hub_id(weights)):
            way = "write hf-hub:user/name, or hf-hub:user/name@revision"
            raise PydanticCustomError("hub", f"{wrong}: {way}")  # type: ignore[misc]
        return home(weights)
