import pytest
import torch

from clbench import weights


def states():
    torch.manual_seed(0)
    a = {"w": torch.randn(3, 4), "n": torch.tensor(3)}
    return a, {"w": torch.randn(3, 4), "n": torch.tensor(9)}


def test_lerp_is_exact_at_both_ends_and_right_between():
    a, b = states()
    assert torch.equal(weights.lerp(a, b, 0.0)["w"], a["w"])
    assert torch.equal(weights.lerp(a, b, 1.0)["w"], b["w"])
    torch.testing.assert_close(weights.lerp(a, b, 0.3)["w"], 0.7 * a["w"] + 0.3 * b["w"])


def test_lerp_takes_counters_from_the_first_and_makes_new_tensors():
    a, b = states()
    middle = weights.lerp(a, b, 0.5)
    assert middle["n"] == 3
    middle["w"].zero_()
    assert a["w"].abs().sum() > 0


@pytest.mark.parametrize("t", [-0.1, 1.1])
def test_lerp_refuses_what_is_outside(t):
    with pytest.raises(ValueError, match=r"t must be in \[0, 1\]"):
        weights.lerp(*states(), t)


def test_lerp_names_keys_and_shapes_that_differ():
    a, b = states()
    with pytest.raises(ValueError, match="extra"):
        weights.lerp(a, b | {"extra": a["w"]}, 0.5)
    with pytest.raises(ValueError, match="shapes differ"):
        weights.lerp(a["w"], a["w"][:2], 0.5)


def test_distance_is_the_euclidean_norm_of_the_flattened_difference():
    a, b = states()
    a["v"], b["v"] = torch.randn(5), torch.randn(5)
    flat = torch.cat([(a["w"] - b["w"]).flatten(), a["v"] - b["v"]])
    assert weights.distance(a, b) == pytest.approx(float(flat.norm()))
    assert weights.distance(a["v"], b["v"]) == pytest.approx(float((a["v"] - b["v"]).norm()))
    assert weights.distance(a, a) == 0


def test_sha256_sees_every_change():
    a, _ = states()
    before = weights.sha256(a)
    assert weights.sha256({k: v.clone() for k, v in reversed(a.items())}) == before
    a["w"][0, 0] += 1e-6
    assert weights.sha256(a) != before
