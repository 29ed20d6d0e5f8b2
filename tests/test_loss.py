import pytest
import torch
import torch.nn.functional as F

from clbench.models.loss import ClassLoss

OWNER = torch.tensor([0, 0, 1, 1, 1, 2, 2])  # 3 tasks of 2, 3 and 2 classes
SEEN = OWNER <= 1
LABELS = torch.tensor([2, 0, 4, 1, 3])
PRESENT = torch.arange(5)
ADMITTED = {
    "task": lambda label: OWNER.eq(OWNER[label]),
    "seen": lambda label: SEEN,
    "all": lambda label: torch.ones(7, dtype=torch.bool),
}


def logits():
    return torch.randn(5, 7, generator=torch.Generator().manual_seed(0)) * 3


@pytest.mark.parametrize("rule", ADMITTED)
def test_losses_are_those_of_the_admitted_logits_alone(rule):
    found = ClassLoss(rule, PRESENT, OWNER, SEEN)(logits(), LABELS)
    for loss, row, label in zip(found, logits(), LABELS.tolist(), strict=True):
        admitted = ADMITTED[rule](label)
        place = admitted[:label].sum()
        torch.testing.assert_close(loss, F.cross_entropy(row[admitted], place))


@pytest.mark.parametrize("rule", ADMITTED)
def test_logits_left_out_have_no_gradient(rule):
    given = logits().requires_grad_()
    ClassLoss(rule, PRESENT, OWNER, SEEN)(given, LABELS).sum().backward()
    for gradient, label in zip(given.grad, LABELS.tolist(), strict=True):
        admitted = ADMITTED[rule](label)
        assert (gradient[~admitted] == 0).all()
        assert (gradient[admitted] != 0).all()


@pytest.mark.parametrize(
    ("rule", "present", "idle"),
    [
        ("task", [2, 3, 4], [0, 1, 5, 6]),
        ("task", [2], [0, 1, 5, 6]),
        ("task", [0, 1, 2, 3, 4], [5, 6]),
        ("task", list(range(7)), []),
        ("seen", [2, 3, 4], [5, 6]),
        ("all", [2, 3, 4], []),
    ],
)
def test_idle_classes_are_those_that_no_sample_admits(rule, present, idle):
    loss = ClassLoss(rule, torch.tensor(present), OWNER, SEEN)
    assert loss.idle.nonzero().flatten().tolist() == idle


def test_losses_are_float32_under_mixed_precision():
    loss = ClassLoss("task", PRESENT, OWNER, SEEN)
    found = loss(logits().bfloat16(), LABELS)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, loss(logits().bfloat16().float(), LABELS))
