import threading
import time
from collections import Counter

import pytest
import torch
from lightning.fabric.utilities import move_data_to_device

from clbench.data import batches as module
from clbench.data.ahead import fetch_ahead
from clbench.data.batches import Batches, Examples, Mixed, Split
from clbench.data.images import TensorImages
from clbench.data.transforms import DRAWS, Augment
from clbench.errors import ClbenchError


class SlowImages(TensorImages):
    slow = True


def source(count=40, kind=TensorImages):
    """Images that hold their own number."""
    return kind(torch.arange(count, dtype=torch.uint8).view(-1, 1, 1, 1).expand(-1, 3, 2, 2))


def split(images, *positions):
    index = torch.tensor(positions)
    return Split(images, index, index + 100)


def plain(count=23, kind=TensorImages):
    return Examples(split(source(kind=kind), *range(5, 5 + count)))


def epoch(examples, batch_size=8, keys=(0, 3), number=0, workers=0, **fields):
    made = Batches(examples, batch_size, keys, workers, **fields)
    made.epoch = number
    return list(made)


def test_a_batch_goes_to_a_device_whole_and_only_once():
    batch = epoch(plain(), augment=Augment(mixup=1.0))[0]
    assert move_data_to_device(batch, torch.device("cpu")) is batch
    moved = move_data_to_device(batch, torch.device("meta"))
    assert (moved.share, moved.partners.kept) == (batch.share, batch.partners.kept)
    tensors = [x for part in (moved, moved.partners) for x in part if isinstance(x, torch.Tensor)]
    assert [x.device.type for x in tensors] == ["meta"] * 7


@pytest.fixture
def processes(monkeypatch):
    """The batches of every one of several processes."""

    def run(world, examples, batch_size=8, **fields):
        found = []
        for rank in range(world):
            with monkeypatch.context() as patch:
                patch.setattr(module, "rank_and_world", lambda rank=rank: (rank, world))
                found.append(epoch(examples, batch_size, **fields))
        return found

    return run


@pytest.mark.parametrize("batch_size", [1, 7, 8, 23, 100])
def test_every_sample_comes_once_an_epoch(batch_size):
    found = epoch(plain(), batch_size)
    indices = torch.cat([batch.indices for batch in found])
    assert sorted(indices.tolist()) == list(range(5, 28))
    assert [len(batch.labels) for batch in found[:-1]] == [batch_size] * (len(found) - 1)
    assert len(Batches(plain(), batch_size, ())) == len(found)


def test_images_labels_and_draws_belong_together():
    for batch in epoch(plain()):
        assert torch.equal(batch.images[:, 0, 0, 0].long(), batch.indices)
        assert torch.equal(batch.labels, batch.indices + 100)
        assert batch.draws.shape == (len(batch.labels), DRAWS)
        assert ((batch.draws >= 0) & (batch.draws < 1)).all()
        assert batch.share == 1


def order(found):
    return torch.cat([batch.indices for batch in found]).tolist()


def test_order_and_draws_depend_on_keys_and_epoch_only():
    first = epoch(plain())
    torch.manual_seed(5)
    torch.rand(3)
    again = epoch(plain())
    assert order(first) == order(again)
    assert all(torch.equal(a.draws, b.draws) for a, b in zip(first, again, strict=True))
    others = [order(epoch(plain(), keys=(1, 3))), order(epoch(plain(), keys=(0, 4)))]
    others.append(order(epoch(plain(), number=1)))
    assert len({tuple(x) for x in [order(first), *others]}) == 4


def test_epochs_follow_one_another():
    made = Batches(plain(), 8, (0, 3))
    assert [order(made), order(made)] == [order(epoch(plain(), number=i)) for i in (0, 1)]


@pytest.mark.parametrize("world", [2, 3])
@pytest.mark.parametrize("batch_size", [6, 8, 16])
def test_processes_share_out_the_same_global_batches(processes, world, batch_size):
    alone = epoch(plain(), batch_size)
    together = processes(world, plain(), batch_size)
    for number, batch in enumerate(alone):
        parts = [mine[number] for mine in together if mine[number].share]
        for name in ("images", "labels", "indices", "draws"):
            whole = getattr(batch, name)
            dealt = torch.empty_like(whole)
            for rank, part in enumerate(parts):
                dealt[rank::world] = getattr(part, name)
            assert torch.equal(dealt, whole)


@pytest.mark.parametrize(
    ("count", "batch_size", "world"), [(8, 8, 2), (23, 7, 2), (23, 8, 3), (5, 2, 4), (1, 8, 3)]
)
def test_mean_over_processes_is_the_mean_over_the_global_batch(processes, count, batch_size, world):
    def loss(batch):
        return (batch.indices.double() ** 1.5).mean()

    alone = epoch(plain(count), batch_size)
    together = processes(world, plain(count), batch_size)
    assert [len(mine) for mine in together] == [len(alone)] * world
    for number, batch in enumerate(alone):
        parts = [mine[number] for mine in together]
        found = sum(loss(part) * part.share for part in parts) / world
        torch.testing.assert_close(found, loss(batch))


@pytest.mark.parametrize("world", [1, 2, 4])
@pytest.mark.parametrize(
    ("count", "batch_size", "sizes"),
    [
        (25, 8, [8, 8, 9]),  # one sample was left
        (9, 4, [4, 5]),
        (5, 2, [2, 3]),
        (26, 8, [8, 8, 8, 2]),
        (8, 8, [8]),
        (3, 8, [3]),
    ],
)
def test_no_process_ever_gets_a_single_sample(processes, count, batch_size, sizes, world):
    """Where the network needs two; global batches are the same on any number of processes."""
    alone = epoch(plain(count), batch_size, least=2)
    assert [len(batch.labels) for batch in alone] == sizes
    assert sorted(order(alone)) == list(range(5, 5 + count))
    together = processes(world, plain(count), batch_size, least=2)
    assert min(len(batch.labels) for mine in together for batch in mine) >= 2
    for number, batch in enumerate(alone):
        parts = [mine[number] for mine in together]
        counted = torch.cat([part.indices for part in parts if part.share])
        assert sorted(counted.tolist()) == sorted(batch.indices.tolist())
        found = sum((part.indices.double() ** 1.5).mean() * part.share for part in parts) / world
        torch.testing.assert_close(found, (batch.indices.double() ** 1.5).mean())


@pytest.mark.parametrize("fraction", [0.05, 0.3, 0.5, 0.9])
@pytest.mark.parametrize("count", [16, 17, 31, 50])
def test_no_single_sample_with_mixes_either(fraction, count):
    for batch_size in (3, 4, 10, 16):
        found = epoch(mixed(fraction, count), batch_size, least=2)
        assert min(len(batch.labels) for batch in found) >= 2
        assert sum(int((batch.labels < 100).sum()) for batch in found) == count


@pytest.mark.parametrize("batch_size", [2, 7, 8, 11, 100])
def test_batches_that_are_large_enough_stay_as_they_are(batch_size):
    count = min(2 * batch_size + 2, 30)
    found, wanted = (epoch(plain(count), batch_size, least=least) for least in (2, 1))
    assert all(torch.equal(a.indices, b.indices) for a, b in zip(found, wanted, strict=True))


@pytest.mark.parametrize(("count", "batch_size"), [(1, 8), (10, 1)])
def test_too_few_samples_are_refused_in_one_line(count, batch_size):
    with pytest.raises(ClbenchError, match=f"batch_size = {batch_size} leaves batches of 1 of"):
        Batches(plain(count), batch_size, (), least=2)


@pytest.mark.parametrize("world", [1, 2, 3])
@pytest.mark.parametrize("accumulate", [1, 2, 3, 5, 100])
@pytest.mark.parametrize("batch_size", [3, 8])
def test_parts_make_a_mean_over_what_is_accumulated(processes, world, accumulate, batch_size):
    def loss(batch):
        return (batch.indices.double() ** 1.5).mean()

    together = processes(world, plain(23), batch_size, accumulate=accumulate)
    alone = epoch(plain(23), batch_size)
    for start in range(0, len(alone), accumulate):
        window = torch.cat([batch.indices for batch in alone[start : start + accumulate]])
        parts = [batch for mine in together for batch in mine[start : start + accumulate]]
        found = sum(loss(part) * part.share * part.part for part in parts) / world
        torch.testing.assert_close(found, (window.double() ** 1.5).mean())


def mixed(fraction, count=50, batch_size=16, others=(0.0,)):
    images = source()
    current = Split(images, torch.arange(count) % 10, torch.zeros(count, dtype=torch.int64))
    past = split(images, *range(20, 40))
    return Examples(current, tuple(Mixed(past, f) for f in (fraction, *others)))


@pytest.mark.parametrize("batch_size", [10, 16, 64])
@pytest.mark.parametrize("count", [48, 50])
@pytest.mark.parametrize("fraction", [0.05, 0.3, 0.5, 0.9])
def test_mixed_share_is_right_over_an_epoch(fraction, count, batch_size):
    found = epoch(mixed(fraction, count), batch_size)
    total = sum(len(batch.labels) for batch in found)
    extra = sum(int((batch.labels >= 100).sum()) for batch in found)
    assert total - extra == count
    assert abs(extra - fraction * total) <= 1
    assert all(len(batch.labels) == batch_size for batch in found[:-1])


def test_mixed_share_is_right_in_every_batch():
    for batch in epoch(mixed(0.3, 200, 16), 16)[:-1]:
        assert abs(int((batch.labels >= 100).sum()) - 0.3 * 16) < 1


def test_several_mixes_keep_their_shares():
    found = epoch(mixed(0.25, 300, 16, others=(0.125,)), 16)
    assert [int((batch.labels >= 100).sum()) for batch in found[:-1]] == [6] * (len(found) - 1)


def test_mixed_samples_come_equally_often():
    found = epoch(mixed(0.5, 200), 16)
    times = Counter(i for batch in found for i in batch.indices.tolist() if i >= 20)
    assert set(times) == set(range(20, 40))
    assert max(times.values()) - min(times.values()) <= 1


def test_a_task_without_enough_room_still_gets_on():
    found = epoch(mixed(0.9, 20, others=(0.09,)), 2)
    assert sum(int((batch.labels < 100).sum()) for batch in found) == 20


def test_mixing_in_other_sources_is_refused():
    with pytest.raises(ValueError, match="own source of images"):
        Examples(split(source(), 1, 2), (Mixed(split(source(), 3), 0.5),))


def test_labels_of_examples_are_all_that_can_occur():
    images = source()
    examples = Examples(split(images, 3, 1, 3), (Mixed(split(images, 2, 1), 0.5),))
    assert examples.labels.tolist() == [101, 102, 103]


def test_splits_of_one_source_are_joined_in_order():
    images = source()
    joined = Split.joined([split(images, 3, 1), split(images, 7)])
    assert joined.images is images
    assert (joined.index.tolist(), joined.labels.tolist()) == ([3, 1, 7], [103, 101, 107])


def test_splits_of_two_sources_are_not_joined():
    with pytest.raises(ValueError, match="only splits of one source can be joined"):
        Split.joined([split(source(), 0), split(source(), 0)])


@pytest.mark.parametrize("workers", [1, 4])
def test_workers_change_nothing(workers):
    slow, fast = epoch(plain(kind=SlowImages), workers=workers), epoch(plain())
    for one, other in zip(slow, fast, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(one[:4], other[:4], strict=True))


def test_images_in_memory_need_no_workers():
    assert Batches(plain(), 8, (), workers=4).workers == 0
    assert Batches(plain(kind=SlowImages), 8, (), workers=4).workers == 4


@pytest.mark.parametrize("workers", [0, 1, 4])
def test_fetching_ahead_keeps_the_order(workers):
    def fetch(step):
        time.sleep(0.002 * (step % 3))
        return step * 10

    assert list(fetch_ahead(fetch, range(20), workers)) == [10 * step for step in range(20)]


def test_fetching_ahead_works_at_the_same_time():
    both = threading.Barrier(2, timeout=10)
    assert list(fetch_ahead(lambda step: both.wait() >= 0, range(4), 2)) == [True] * 4


@pytest.mark.parametrize("workers", [0, 4])
def test_an_error_while_fetching_arrives_in_its_place(workers):
    def fetch(step):
        if step == 3:
            raise RuntimeError("step 3")
        return step

    steps = fetch_ahead(fetch, range(6), workers)
    assert [next(steps) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(RuntimeError, match="step 3"):
        next(steps)
