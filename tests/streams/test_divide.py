"""Which classes make up which task: by number or name, even or uneven."""

import re
import unicodedata
from pathlib import Path

import numpy as np
import pytest

from clbench.cli.cli import field_help
from clbench.errors import ClbenchError
from clbench.recipe.recipe import parse
from clbench.streams import STREAMS
from clbench.streams.called import class_numbers
from clbench.streams.divide import divide
from clbench.streams.folder import FolderConfig
from clbench.streams.split import SPLITS

NAMES = ("ant", "bee", "cat", "dog", "eel", "fox")


def config(**fields):
    return FolderConfig.model_validate({"name": "image_folder", "train": "x"} | fields)


def groups(names=NAMES, labels=None, **fields):
    made = config(**fields).groups(names, range(len(names)) if labels is None else labels)
    return [list(group.labels) for group in made]


def refused(**stream):
    """The message of a recipe that is refused."""
    values = {
        "stream": {"name": "image_folder", "train": "x"} | stream,
        "model": {"backbone": "tiny_cnn", "weights": "none"},
        "epochs": 1,
    }
    with pytest.raises(ClbenchError) as caught:
        parse(values)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        ([["cat", "dog"], [1, 5, 0]], [[2, 3], [1, 5, 0]]),
        ([[2, 3], [1, 5, 0], [4]], [[2, 3], [1, 5, 0], [4]]),
        ([["fox"], ["ant", 1]], [[5], [0, 1]]),
    ],
)
def test_classes_by_name_or_number(given, wanted):
    assert groups(classes=given) == wanted


def test_what_classes_leave_out_is_said(capsys):
    groups(classes=[["cat"], ["dog", "eel"]], tasks=5, order_seed=1)
    said = capsys.readouterr().out.splitlines()
    assert said[0] == "stream.classes leaves out 3 of 6 classes: ant, bee, fox"
    assert "stream.order_seed is not used" in said[1]
    assert "makes 2 tasks: stream.tasks is not used" in said[2]
    groups(classes=[["ant", "bee", "cat"], ["dog", "eel", "fox"]])
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("tasks", "wanted"),
    [
        ([2, 3, 1], [[0, 1], [2, 3, 4], [5]]),
        (3, [[0, 1], [2, 3], [4, 5]]),
        ([6], [[0, 1, 2, 3, 4, 5]]),
    ],
)
def test_sizes_of_tasks(tasks, wanted):
    assert groups(tasks=tasks) == wanted


def test_sizes_of_tasks_in_a_drawn_order():
    drawn = groups(tasks=[2, 3, 1], order_seed=3)
    assert [len(group) for group in drawn] == [2, 3, 1]
    flat = [label for group in drawn for label in group]
    assert sorted(flat) == list(range(6)) != flat
    assert flat == [label for group in groups(tasks=6, order_seed=3) for label in group]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"tasks": 4}, r"tasks = 4 does not divide .* 6 classes; use one of \[1, 2, 3, 6\], or "
         r"uneven sizes such as stream.tasks: \[2, 2, 1, 1\], or list the groups"),
        ({"tasks": 7}, r"7 does not divide the stream's 6 classes; use one of \[1, 2, 3, 6\], or"),
        ({"tasks": 10**30}, "does not divide"),
        ({"tasks": [2, 3]}, r"tasks = \[2, 3\] makes 5 classes, but the stream has 6: give sizes"),
        ({"tasks": [1] * 999}, "makes 999 classes, but the stream has 6"),
        ({"classes": [["cat"], ["kat"]]}, r"no class named 'kat' \(did you mean cat\?\); .* ant,"),
        ({"classes": [[0], [6]]}, r"no class with the number 6, .* 0…5"),
        ({"classes": [[-1]]}, "no class with the number -1"),
        ({"classes": [["cat", 2]]}, r"different classes.* 2 \(cat\) is named more than once"),
        ({"classes": [["cat"], ["cat"]]}, "more than once"),
        ({"classes": []}, "non-empty groups"),
        ({"classes": [[]]}, "non-empty groups"),
        ({"classes": [["1"]]}, "no class named '1'"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_one_line(fields, message):
    with pytest.raises(ClbenchError, match=message) as caught:
        groups(**fields)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"classes": [1, 2]}, "a list of tasks, each a list of classes by name or number"),
        ({"classes": "cat"}, "a list of tasks"),
        ({"classes": {"a": [1]}}, "a list of tasks"),
        ({"classes": [[["cat"]]]}, r"\['cat'\] is neither"),
        ({"classes": [[True]]}, "should be text: put it into quotes"),
        ({"classes": [[1.5]]}, "1.5 is neither"),
        ({"classes": [[None]]}, "None is neither"),
        ({"tasks": 0}, "a number of tasks of equal size, or the number of classes of each task"),
        ({"tasks": []}, "a number of tasks"),
        ({"tasks": [2, 0]}, "a number of tasks"),
        ({"tasks": [2, 1.5]}, "a number of tasks"),
        ({"tasks": [[2]]}, "a number of tasks"),
        ({"tasks": True}, "an integer, not true or false"),
        ({"tasks": None}, "a number of tasks"),
    ],
)
def test_what_is_of_another_kind_is_one_line(fields, message):
    (field,) = fields
    text = refused(**fields)
    assert text.startswith(f"stream.{field}")
    assert re.search(message, text)
    assert ";" not in text


def test_numbers_that_are_also_names_need_quotes():
    names = ("1", "10", "2", "cat")
    assert class_numbers(["1", "2", "cat", 3], names, "f") == [0, 2, 3, 3]
    with pytest.raises(ClbenchError, match=r"1 could be the class named '1' or .* number 1, '10'"):
        class_numbers([1], names, "f")
    with pytest.raises(ClbenchError, match=r"'01' or the class with the number 1, '02'"):
        class_numbers([1], ("01", "02"), "f")
    assert class_numbers([0, 1], ("0", "1"), "f") == [0, 1]  # both say the same


def test_accents_of_macos_are_the_same_names():
    names = [unicodedata.normalize("NFD", name) for name in ("café", "zoë")]
    assert class_numbers([unicodedata.normalize("NFC", "zoë")], names, "f") == [1]


def test_it_means_the_same_for_split_streams():
    values = {"model": {"backbone": "tiny_cnn", "weights": "none"}, "epochs": 1}
    stream = {"name": "split_digits", "pretrain_classes": [], "validation": 0}

    def tasks(**fields):
        recipe = parse(values | {"stream": stream | fields})
        names = recipe.build_stream().class_names
        return [[names[c] for c in task.classes] for task in recipe.build_stream().tasks]

    assert tasks(classes=[["4", 2], [9, "0", 7]]) == [["4", "2"], ["9", "0", "7"]]
    assert [len(names) for names in tasks(tasks=[2, 7, 1])] == [2, 7, 1]
    assert [len(names) for names in tasks(tasks=[1, 2], leave_out=list("0123456"))] == [1, 2]
    with pytest.raises(ClbenchError, match=r"both name 0"):
        tasks(pretrain_classes=[0], leave_out=["0"])


def test_sizes_survive_a_recipe_that_is_written_down():
    values = {"model": {"backbone": "tiny_cnn", "weights": "none"}, "epochs": 1}
    stream = {"name": "split_digits", "tasks": [2, 4], "classes": [["4", 5], [6]]}
    recipe = parse(values | {"stream": stream})
    again = parse(recipe.model_dump(mode="json"))
    assert again == recipe
    assert again.stream.classes == [["4", 5], [6]]


def test_a_field_of_other_streams_is_refused_by_their_names():
    text = refused(name="transfer6", classes=[[1]])
    assert "unknown key stream.classes: it is a field of split_*, food101, image_folder" in text
    assert "did you mean" not in text


def test_help_says_for_which_streams_a_field_is():
    text = " ".join(field_help().split())
    assert re.search(
        r"stream\.classes [^(]*\(quoted[^(]*\(of split_\*, food101, image_folder, shards,"
        r" torchvision, huggingface\)",
        text,
    )
    assert re.search(r"stream\.benchmark [^(]*\(of avalanche\)", text)
    assert re.search(r"stream\.validation [^(]*stream\.train_per_class", text)


def test_labels_are_kept_in_their_order():
    assert divide([9, 3, 5], [1, 2], None) == [[9], [3, 5]]


#: RandomState(1993).permutation(100), the order of the published curves on CIFAR-100.
ORDER_1993 = [
    *(68, 56, 78, 8, 23, 84, 90, 65, 74, 76, 40, 89, 3, 92, 55, 9, 26, 80, 43, 38),
    *(58, 70, 77, 1, 85, 19, 17, 50, 28, 53, 13, 81, 45, 82, 6, 59, 83, 16, 15, 44),
    *(91, 41, 72, 60, 79, 52, 20, 10, 31, 54, 37, 95, 14, 71, 96, 98, 97, 2, 64, 66),
    *(42, 22, 35, 86, 24, 34, 87, 21, 99, 0, 88, 27, 18, 94, 11, 12, 47, 25, 30, 46),
    *(62, 69, 36, 61, 7, 63, 75, 5, 32, 4, 51, 48, 73, 93, 39, 67, 29, 49, 57, 33),
]


def test_the_legacy_order_is_that_of_the_literature():
    made = [c for task in divide(range(100), 10, None, "legacy-1993") for c in task]
    assert made == ORDER_1993
    inverse = divide(range(100), 10, None, "legacy-1993-inverse")
    assert inverse[0] == [69, 23, 57, 12, 89, 87, 34, 84, 3, 15]
    assert all(ORDER_1993[c] == place for place, c in enumerate(c for t in inverse for c in t))
    # Of the classes that tasks can learn, not of their labels.
    assert divide([5, 7, 9], 3, None, "legacy-0") == [[9], [7], [5]]
    assert groups(order="legacy-1", tasks=3) == [[2, 1], [4, 0], [3, 5]]


@pytest.mark.parametrize(("seed", "count"), [(1993, 100), (1, 100), (0, 100), (1993, 200)])
@pytest.mark.parametrize(
    ("program", "order"), [("pilot", ""), ("pycil", ""), ("mammoth", "-inverse")]
)
def test_orders_are_those_that_the_programs_draw(program, order, seed, count):
    """Each with the label that the program gave it, the classes count from 0."""
    known = np.load(Path(__file__).parents[1] / "reference/class_orders.npz")
    new_label = known[f"{program}/seed{seed}_of{count}/new_label_of_class"]
    tasks = divide(range(count), 10, None, f"legacy-{seed}{order}")
    assert [new_label[c] for task in tasks for c in task] == list(range(count))


@pytest.mark.parametrize("name", [*SPLITS, "torchvision", "huggingface", "image_folder", "shards"])
def test_every_stream_of_one_set_of_classes_takes_orders_and_sizes(name):
    """B50-Inc10, uneven tasks and the class orders of others: one meaning for all of them."""
    needed = {"torchvision": "GTSRB", "huggingface": "a/b"}
    values = {"name": name, "pretrain_classes": [], "leave_out": [], "order": "legacy-1993"}
    values |= {"dataset": needed[name]} if name in needed else {}
    if name in ("image_folder", "shards"):
        values = {"name": name, "order": "legacy-1993", "train": "pictures"}
    names = [str(label) for label in range(100)]
    for fields, sizes in (
        ({"tasks": 6, "first": 50}, [50, *[10] * 5]),
        ({"tasks": [40, 1, 59]}, [40, 1, 59]),
    ):
        config = STREAMS[name].model_validate(values | fields)
        made = config.groups(names, range(100))
        assert [len(group.labels) for group in made] == sizes
        assert [label for group in made for label in group.labels] == ORDER_1993


@pytest.mark.parametrize(
    ("tasks", "first", "sizes"),
    [(6, 50, [50, *[10] * 5]), (2, 99, [99, 1]), (11, 50, [50, *[5] * 10]), (10, 10, [10] * 10)],
)
def test_a_larger_first_task(tasks, first, sizes):
    made = divide(range(100), tasks, None, "legacy-1993", first)
    assert [len(group) for group in made] == sizes
    assert [label for group in made for label in group] == ORDER_1993


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"order": "1993"}, "must be legacy-SEED, as in legacy-1993, or"),
        ({"order": 1993}, "stream.order = 1993: should be text"),
        ({"order": "legacy-"}, "must be legacy-SEED"),
        ({"order": "legacy-1", "order_seed": 2}, "order = legacy-1 and order_seed = 2 both give"),
        ({"first": 0}, "stream.first"),
        ({"first": 2, "tasks": [2, 4]}, "first = 2, and tasks lists the size of every task"),
    ],
)
def test_orders_and_sizes_that_contradict(fields, told):
    assert told in refused(**fields)


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"first": 2, "tasks": 4}, "other 3 of stream.tasks = 4: use one of [2, 3, 5] tasks"),
        ({"first": 2}, "other 0 of stream.tasks = 1: use one of [2, 3, 5] tasks"),
        ({"first": 6, "tasks": 2}, "stream.first = 6 leaves no classes .* give at most 5"),
    ],
)
def test_first_tasks_that_do_not_fit(fields, told):
    with pytest.raises(ClbenchError, match=told.replace("[", r"\[").replace("]", r"\]")):
        groups(**fields)
