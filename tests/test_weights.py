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


@pytest.mark.parametrize("layout", ["plain", "channels_last", "mixed", "slices", "halves", "empty"])
def test_recorded_distances_are_those_of_the_fused_kernels_bit_for_bit(layout):
    torch.manual_seed(0)
    a, b = ([torch.randn(7, 5, 3, 3), torch.randn(33), torch.randn(())] for _ in range(2))
    last = torch.channels_last
    if layout in ("channels_last", "mixed"):
        a[0] = a[0].to(memory_format=last)
        b[0] = b[0].to(memory_format=last if layout == "channels_last" else torch.contiguous_format)
    if layout == "slices":
        a[1], b[1] = torch.randn(66)[::2], torch.randn(66)[::2]
    if layout == "halves":
        a[0], b[0] = a[0].double(), b[0].half()
    if layout == "empty":
        a, b = [x[:0] for x in a[:2]], [x[:0] for x in b[:2]]
    norms = torch._foreach_norm(torch._foreach_sub(a, b))
    if layout != "halves":  # norms of one type can be stacked
        assert weights.recorded_distance(a, b) == float(torch.stack(norms).norm())
    assert [x.item() for x in weights._norms_apart(a, b)] == [x.item() for x in norms]
    assert weights.recorded_distance([], []) == 0
