"""What a method is: a set of small hooks, each returning its contribution.

No method knows another: the :class:`~clbench.learner.learner.Learner` folds what they return::

    tasks = method.arrange(tasks)                        # composed      multitask
    for task in tasks:
        model = method.adapt(model, task)                # composed, for good   prompts
        theta = pretrained if any(method.rewinds) else theta   #         TIES, Task Arithmetic
        trained = method.surgery(model)                  # composed      LoRA
        examples = method.examples(examples)             # composed      replay
        method.start(context)                            # in order      most
        freeze every parameter unless method.trainable(name)   # and     linear probe, HFT, LoRA
        put back rows of the head unless a sample admits them or method.rows(context)   # or   LwF
        optimizer = method.optimizer(parameters, settings)   # at most one   MoFO
        optimizer's rate of each parameter *= method.rate(name)   # product
        for batch in batches(examples), unless nothing is trained:   #   NCM, SLDA
            among = method.admit(labels, classes the loss leaves out)   # composed
            forward = Forward(logits, losses of them among these classes, …)
            losses_B = method.sample_losses(forward)     # at most one   iCaRL
            weights_B = method.weights(forward)          # product       FLOW, DRO
            loss = mean(weights_B * losses_B) + method.penalty(forward)   # sum   EWC, l2, LwF
            method.observe(forward)                      # in order      replay, DER++
            loss.backward()
            method.project(model)                        # in order      GEM
            optimizer.step()
            method.after_step(model, step)               # in order      SFA
        method.finish(context)                           # in order      EWC, replay, Fisher merging
        theta = method.unwrap(theta)                     # composed, the last surgery first   LoRA
        for each method, in order:
            method.absorb(shown, context)                # once a task   TIES, NCM, SLDA
            shown = method.deploy(shown, context)        # composed      WiSE-FT, TIES, NCM
            theta = method.deploy(theta, context) where method.carries
        evaluate(shown, by method.classifier() in the head's place)   # at most one   RanPAC

A method is a pydantic model: fields are hyperparameters, attributes that start with an underscore
hold what it remembers. The order is the recipe's.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, ClassVar

import torch
from pydantic import ConfigDict
from torch import Tensor, nn

from clbench.data.batches import Examples
from clbench.methods.context import Context as Context
from clbench.methods.context import Needs as Needs
from clbench.methods.forward import Forward as Forward
from clbench.methods.statements import Swept
from clbench.models.backbone import features
from clbench.settings import Section
from clbench.weights import State

if TYPE_CHECKING:
    from torch.optim import Optimizer

    from clbench.methods.plan import Plan, Remark, Training
    from clbench.optim.settings import Optimizer as OptimizerSettings
    from clbench.streams import Task


class Method(Section):
    """One way to fight forgetting. Every hook does nothing by default; override what is needed."""

    model_config = ConfigDict(frozen=False, arbitrary_types_allowed=True)

    summary: ClassVar[str]
    needs: ClassVar[Needs] = Needs()
    #: Whether the method averages weights, so that running statistics must be looked after.
    averages: ClassVar[bool] = False
    #: What the scope is a share of, and how to raise it, for those whom it is told that it is low.
    scope_means: ClassVar[str] = ""
    #: Whether `penalty` only computes: asked once more, its share of the gradient is the scope.
    pure_penalty: ClassVar[bool] = False
    #: Whether `penalty` is about samples: asked for each of accumulated batches (`Forward.mean`).
    every_batch: ClassVar[bool] = False
    #: Whether every task starts from the pretrained trunk instead of the previous task's weights.
    rewinds: ClassVar[bool] = False
    #: The recipe's optimisers that the method works with; none: any.
    optimizers: ClassVar[tuple[str, ...]] = ()
    #: Kinds of network that it works with, no subclasses; none: any; and the setting for others.
    networks: ClassVar[tuple[type[nn.Module], ...]] = ()
    elsewhere: ClassVar[str] = ""
    #: Methods that it does not go with, and why; one of two need say it.
    clashes: ClassVar[Mapping[str, str]] = {}
    #: Why it goes with no other method, after its name.
    alone: ClassVar[str] = ""
    #: Whether all tasks are learned at once, so that none is past: a bound for the others.
    joint: ClassVar[bool] = False
    #: Whether it makes the head's rows, as one method alone can.
    makes_head: ClassVar[bool] = False
    #: Whether it goes with mixup and cutmix; None: if it weighs no samples.
    mixable: ClassVar[bool | None] = None
    #: Whether it acts at steps that it counts from the task's length, so that none may be left out.
    counts_steps: ClassVar[bool] = False
    #: Whether layers of the trunk rest by definition.
    still: ClassVar[bool] = False
    #: Whether it trains heads of its own by the settings of ``model.probe``.
    probes: ClassVar[bool] = False
    #: Whether its scope is about class-incremental accuracy alone.
    class_incremental: ClassVar[bool] = False
    #: Whether its name in reports says its ``anchor``, as papers mean one or the other.
    anchored: ClassVar[bool] = False
    #: Settings at which it changes nothing, in any task.
    neutral: ClassVar[Mapping[str, float]] = {}
    #: Fields that act in `deploy` alone, so that finished runs can be swept over them.
    swept: ClassVar[Mapping[str, Swept]] = {}
    #: The setting, in words, by which it lets something be trained.
    trained: ClassVar[str] = ""
    #: The setting, in words, by which it acts sooner than in :attr:`first_task`.
    sooner: ClassVar[str] = ""

    def take_settings(self, settings: Method) -> None:
        """Take up the fields of another of the kind; what is remembered stays."""
        for name in type(self).model_fields:
            setattr(self, name, getattr(settings, name))

    @property
    def first_task(self) -> int:
        """The first task in which the method acts, from 1, as far as its settings tell."""
        return 1

    @property
    def last_trained(self) -> int | None:
        """The last task, from 1, in which `trainable` lets anything be trained; None: all."""
        return None

    @property
    def carries(self) -> bool:
        """Whether the next task starts from the weights that `deploy` returns."""
        return True

    @property
    def looks_back(self) -> str:
        """The setting by which `deploy` reads θ_o's trunk, which sweeps then need; or empty."""
        return ""

    @property
    def needs_training(self) -> str:
        """Why, as it is set, other values in `swept` need training, and the way out; or empty."""
        return ""

    def refuses(self, recipe: Training, sketch: nn.Module | None) -> str:
        """Why settings or network (without memory, if it can be built so) will not do; or empty."""
        return ""

    def arrange(self, tasks: Sequence[Task]) -> Sequence[Task]:
        """The tasks to train on, in place of the stream's; composed."""
        return tasks

    def adapt(self, model: nn.Module, task: Task) -> nn.Module:
        """Change the network for good, before a task, itself or by another; composed.

        What is there keeps name and shape. What is added depends on settings, task and torch's
        generator alone, as on resume, and starts as its θ_*. A second call changes nothing.
        """
        return model

    def surgery(self, model: nn.Module) -> nn.Module:
        """A changed copy of the network, to train for a task; composed.

        Names of weights stay (torch's ``parametrize``); `unwrap` gives back what fits ``model``.
        """
        return model

    def remembered_labels(self) -> Tensor:
        """Global labels (K,) of past samples whose losses train rows, as the examples' do."""
        return torch.empty(0, dtype=torch.int64)

    @property
    def mixes(self) -> float:
        """The share of each batch that `examples` adds from task 2 on, in [0, 1); more steps."""
        return 0.0

    def added(self, past: int) -> int:
        """Samples that `examples` adds to an epoch where earlier tasks have ``past`` of them."""
        return 0

    def start(self, context: Context) -> None:
        """Prepare for a task; in order."""

    def remarks(self) -> Sequence[Remark]:
        """Reasons not to trust what the method does in the task it was just prepared for."""
        return ()

    def examples(self, examples: Examples) -> Examples:
        """Change what the task trains on; composed."""
        return examples

    def trainable(self, name: str) -> bool:
        """Whether the parameter ``name`` is trained; a parameter is if all methods agree."""
        return True

    def rows(self, context: Context) -> Tensor | None:
        """Rows of the head, bool (C,), that move though no sample admits them; or. None: none."""
        return None

    def rate(self, name: str) -> float:
        """A factor of the learning rate of the parameter ``name``; multiplied."""
        return 1.0

    def optimizer(
        self, parameters: Sequence[tuple[str, nn.Parameter]], settings: OptimizerSettings
    ) -> Optimizer | None:
        """An optimiser over the named trained parameters, by one method alone; or None."""
        return None

    def admit(self, labels_B: Tensor, excluded_BC: Tensor) -> Tensor:
        """Which classes but its own each sample is not compared with, bool (B, C); composed.

        ``excluded_BC`` is by ``train_logits`` at first.
        """
        return excluded_BC

    def weights(self, forward: Forward) -> Tensor | None:
        """Factors (B,) for the per-sample losses, without gradient; multiplied. None is one."""
        return None

    def sample_losses(self, forward: Forward) -> Tensor | None:
        """Losses (B,) in place of the cross-entropy, by one method alone; None: that one."""
        return None

    def penalty(self, forward: Forward) -> Tensor | None:
        """A term () for the loss, once a step unless :attr:`every_batch`; summed. None is zero."""
        return None

    def observe(self, forward: Forward) -> None:
        """Look at a batch, without gradients; in order. Nothing of it may be changed."""

    def project(self, model: nn.Module) -> None:
        """Edit the parameters' ``.grad`` before the optimiser's step; in order."""

    def after_step(self, model: nn.Module, step: int) -> None:
        """Edit the weights after the optimiser's step number ``step``, from 1; in order."""

    def finish(self, context: Context) -> None:
        """Remember what later tasks will need, or edit the trained weights; in order.

        The task's data is still at hand.
        """

    def unwrap(self, theta: State) -> State:
        """The weights of the network that :meth:`surgery` was given, from those of what it made."""
        return theta

    def absorb(self, theta: State, context: Context) -> None:
        """Remember the weights that methods before this one have made; in order, once a task."""

    def deploy(self, theta: State, context: Context) -> State:
        """The weights to evaluate, from those that were trained; composed.

        Asked for the weights to go on from, to show and by sweeps, it may change nothing but what
        :meth:`activity` tells, which is about the weights that are shown.
        """
        return theta

    def classifier(self) -> Callable[[Tensor], Tensor] | None:
        """Turns features (B, F) into logits (B, C) in place of the head; or None. At most one."""
        return None

    def to_classify(self, model: nn.Module, images: Tensor) -> Tensor:
        """The features (B, F) that `classifier` is given."""
        return features(model, images)

    def activity(self) -> dict[str, float]:
        """What the method did in the task just trained, for TensorBoard and the record.

        ``active`` is 1 if it changed anything, else 0; ``scope`` goes before :meth:`scope`.
        """
        return {"active": 1.0}

    def scope(self, plan: Plan) -> float:
        """How much the method could do in a task, in 0…1, as far as its settings tell.

        Below a tenth, it is told as next to nothing (:mod:`clbench.record.scopes`).
        """
        return 1.0

    def histograms(self) -> dict[str, Tensor]:
        """Distributions of the task just trained, for TensorBoard."""
        return {}

    def stored_samples(self) -> int:
        """How many images of past tasks the method keeps at hand."""
        return 0

    def state_dict(self) -> dict[str, object]:
        """What must survive from task to task: tensors and primitives only."""
        return {}

    def load_state_dict(self, state: dict[str, object]) -> None:
        """Take up what :meth:`state_dict` gave."""


def overriding(methods: Sequence[Method], hook: str) -> list[Method]:
    """The methods that override ``hook``, so that the others cost nothing."""
    return [m for m in methods if getattr(type(m), hook) is not getattr(Method, hook)]
