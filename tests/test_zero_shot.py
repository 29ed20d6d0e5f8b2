"""Zero-shot retention by stored texts, and the command that stores them."""

import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from helpers import comparable, interrupt_after
from PIL import Image
from safetensors.torch import save_file

import clbench
from clbench.cli.cli import main
from clbench.data.reader import Reader
from clbench.data.transforms import Augment, Transform
from clbench.errors import ClbenchError
from clbench.estimate.needed import retained
from clbench.measure.evaluate import Evaluator
from clbench.measure.retention import RetentionTest
from clbench.measure.retention_sets import plan_sets
from clbench.measure.retention_texts import projects
from clbench.metrics.retained.texts import Texts, read_texts, write_texts
from clbench.metrics.retained.zero_shot import nearest_text
from clbench.models import ModelConfig
from clbench.models.backbone import load
from clbench.recipe.recipe import parse
from clbench.streams.outline import Needed

#: Numbers of an embedding; the birds come last in the file, and one class of it has no images.
WIDTH, FILE = 6, ("bat", "wren", "owl", "jay")
CLIP = {
    "backbone": "vit_base_patch16_clip_224",
    "options": {"patch_size": 8, "embed_dim": 16, "depth": 1, "num_heads": 2},
}


@pytest.fixture
def birds(tmp_path):
    """Noise about a colour, in a folder a class."""
    random = np.random.default_rng(0)
    for number, name in enumerate(sorted(FILE[1:])):
        (tmp_path / "birds" / name).mkdir(parents=True)
        for place in range(5):
            middle = 90 * np.eye(3)[number] + 80
            pixels = (middle + random.normal(0, 50, (16, 16, 3))).clip(0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(tmp_path / "birds" / name / f"{place}.png")
    return str(tmp_path / "birds")


@pytest.fixture
def weights(tmp_path):
    """A random image tower with its projection, in a file."""
    torch.manual_seed(0)
    save_file(load(ModelConfig(weights="none", **CLIP), WIDTH, 16).model.state_dict(), path := (
        tmp_path / "clip.safetensors"
    ))  # fmt: skip
    return str(path)


@pytest.fixture
def texts(tmp_path):
    """A file of random texts."""
    rows = torch.randn(len(FILE), WIDTH, generator=torch.Generator().manual_seed(3))
    write_texts(tmp_path / "texts.npz", Texts(FILE, rows), {"words": FILE})
    return str(tmp_path / "texts.npz")


@pytest.fixture
def values(tmp_path, birds, weights, texts):
    measures = ["ncm", {"zero_shot": {"embeddings": texts}}]
    return {
        "stream": {"name": "split_digits", "tasks": 2, "pretrain_classes": []},
        "model": {"weights": weights, **CLIP},
        "images": {"size": 16},
        "optimizer": {"name": "sgd", "lr": 0.05},
        "retention": {"data": birds, "measures": measures},
        "data_dir": str(tmp_path / "data"),
        "steps": 2,
        "trainer": {"enable_progress_bar": False, "accelerator": "cpu"},
    }


def given(values, **retention):
    return parse(values | {"retention": values["retention"] | retention})


def test_the_nearest_text_by_looking_at_each():
    images, rows = torch.randn(20, 5), torch.randn(7, 5) * torch.arange(1, 8)[:, None]
    for image, answer in zip(images, nearest_text(images, rows).tolist(), strict=True):
        cosines = [float(image @ row / image.norm() / row.norm()) for row in rows]
        assert answer == int(np.argmax(cosines))


def test_zero_shot_is_what_a_slow_look_at_each_image_says(values, texts):
    recipe = parse(values)
    loaded = load(recipe.model, 2, 16)
    transform = Transform(16, loaded.mean, loaded.std, Augment())
    evaluator = Evaluator(Reader(transform, 4, 0))
    whole = load(recipe.model, WIDTH, 16).model.eval()  # with its projection as the classifier
    whole.get_classifier().load_state_dict(loaded.head.state_dict())
    # Texts in the middle of the images, so that answers differ.
    test = RetentionTest.make(recipe, None, loaded, evaluator, torch.device("cpu"))
    (one,) = test.sets
    with torch.no_grad():
        seen = whole(transform.test(one.split.images.take(one.split.index)))
    middle = torch.nn.functional.normalize(seen.mean(0), dim=0)
    rows = seen[[2, 0, 7, 12]] - seen.mean(0)
    rows -= (rows @ middle)[:, None] * middle  # what all images have in common says nothing
    write_texts(recipe.data_dir.parent / "texts.npz", Texts(FILE, rows), {})
    test = RetentionTest.make(recipe, None, loaded, evaluator, torch.device("cpu"))
    right, answers = [], set()
    for path, image in zip(one.split.images.files.paths, seen, strict=True):
        cosines = [float(image @ row / image.norm() / row.norm()) for row in rows]
        answers.add(answer := FILE[int(np.argmax(cosines))])
        right.append(answer == path.parent.name)
    assert len(answers) == len(FILE)
    assert test.measure(loaded.model)["retained"]["zero_shot"] == pytest.approx(np.mean(right))
    other = RetentionTest.make(recipe, None, loaded, evaluator, torch.device("cpu"))
    assert other.fingerprint() == test.fingerprint()


def test_a_run_has_it_before_and_after_every_task(values, tmp_path, monkeypatch):
    whole = clbench.run(values, tmp_path / "whole")
    course = whole.summary()["retention"]["measures"]["zero_shot"]
    assert len(course["after_task"]) == 2
    assert course["kept"] == pytest.approx(course["after_task"][-1] / course["before"])
    interrupt_after(monkeypatch, 1)
    with pytest.raises(KeyboardInterrupt):
        clbench.run(values, tmp_path / "cut")
    monkeypatch.undo()
    # The texts are the run's own, as its images are.
    texts = read_texts(tmp_path / "texts.npz")
    write_texts(tmp_path / "texts.npz", Texts(FILE, torch.eye(4, WIDTH)), {})
    with pytest.raises(ClbenchError, match="images that retention is measured on"):
        clbench.run(values, tmp_path / "cut", resume=True)
    write_texts(tmp_path / "texts.npz", texts, {})
    again = clbench.run(values, tmp_path / "cut", resume=True)
    assert comparable(again) == comparable(whole)


def test_a_dry_run_counts_its_images(values):
    stream = SimpleNamespace(pretraining=None)
    assert retained(parse(values), stream, Needed(), None).images == 15


@pytest.mark.parametrize(
    ("backbone", "named", "outputs", "projected"),
    [
        ("vit_base_patch16_clip_224", "openai", 512, True),
        ("vit_base_patch16_clip_quickgelu_224", "openai", 512, True),
        ("vit_base_patch16_clip_224", "laion2b_ft_in12k_in1k", 1000, False),
        ("vit_base_patch16_clip_224", "openai_ft_in12k", 11821, False),
        ("vit_base_patch16_clip_224", "none", 0, False),
        ("vit_base_patch16_clip_224", "my/file.pt", 512, True),
        ("convnext_base", "clip_laion2b", 640, True),
        ("resnet50_clip_gap", "openai", 0, False),
        ("vit_base_patch16_siglip_224", "webli", 0, False),
        ("vit_base_patch16_224", "augreg_in21k", 21843, False),
    ],
)
def test_towers_with_their_projection(backbone, named, outputs, projected):
    assert projects(ModelConfig(backbone=backbone, weights=named), outputs) is projected


def test_other_networks_are_refused(values, texts):
    for data in ("auto", values["retention"]["data"]):
        with pytest.raises(ClbenchError, match=r"^retention.measures: zero_shot needs an image .*"):
            plan_sets(given(values, data=data), 1000, {})
    own = {"birds": {"data": values["retention"]["data"], "measures": ["ncm"]}}
    recipe = given(values, data="none", sets=own)  # nobody takes the measures over
    assert list(plan_sets(recipe, 0, {}).sets[0].measures) == ["ncm"]
    own["birds"]["measures"] = values["retention"]["measures"]
    with pytest.raises(
        ClbenchError, match=r"^retention.sets.birds.measures: zero_shot needs .* no"
    ):
        plan_sets(given(values, data="none", sets=own), 0, {})


def test_a_set_without_texts_goes_without_or_is_refused(values, tmp_path):
    (tmp_path / "birds" / "tit").mkdir()
    (tmp_path / "birds" / "tit" / "0.png").write_bytes(b"x")
    with pytest.raises(ClbenchError, match=r"zero_shot: .* has no text for tit: make"):
        plan_sets(parse(values), WIDTH, {})
    birds = {"data": values["retention"]["data"]}
    plan = plan_sets(given(values, data="none", sets={"birds": birds}), WIDTH, {})
    assert list(plan.sets[0].measures) == ["ncm"]
    assert "sets.birds is not measured by zero_shot" in plan.reasons[0]


def saved(**arrays):
    return lambda path: np.savez(path, **arrays)


ROWS = np.ones((4, WIDTH), np.float32)


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda path: None, "there is no file .* of text embeddings"),
        (lambda path: path.write_bytes(b"x"), "is no .npz file of text embeddings"),
        (lambda path: np.save(path.open("wb"), ROWS), "is no .npz file"),
        (saved(embeddings=ROWS), "has no array 'classes"),
        (saved(classes=np.array(FILE, object), embeddings=ROWS), "is no .npz file .*pickle"),
        (saved(classes=np.arange(4), embeddings=ROWS), "classes are of shape .* and not a list"),
        (saved(classes=FILE[:3], embeddings=ROWS), "not a row of floats for 3 classes"),
        (saved(classes=FILE, embeddings=ROWS[0]), r"embeddings are of shape \(6,\)"),
        (saved(classes=FILE, embeddings=ROWS.astype(int)), "not a row of floats"),
        (saved(classes=("owl", *FILE[1:]), embeddings=ROWS), "the class owl is there twice"),
        (saved(classes=FILE, embeddings=ROWS * np.nan), "embedding of bat is not finite"),
        (saved(classes=FILE, embeddings=ROWS * 0), "embedding of bat is zero"),
        (saved(classes=FILE, embeddings=ROWS[:, 1:]), "5 numbers, but the weights' projection"),
    ],
)
def test_files_that_do_not_do_are_told(values, tmp_path, make, told):
    (tmp_path / "texts.npz").unlink()
    make(tmp_path / "texts.npz")
    with pytest.raises(ClbenchError, match=told) as found:
        plan_sets(parse(values), WIDTH, {})
    assert "\n" not in str(found.value)


@pytest.mark.parametrize("settings", [None, {"embeddings": ""}, {"embedding": "x"}])
def test_the_file_is_named(values, settings):
    with pytest.raises(ClbenchError, match=r"retention.measures.zero_shot.embedding"):
        given(values, measures={"zero_shot": settings})


class Tower:
    """Embeds a text, as its letters' codes, by what is easy to say of it."""

    def eval(self):
        return self

    def encode_text(self, codes_BL, normalize=False):
        assert normalize
        rows = torch.stack([codes_BL.sum(1), (codes_BL > 0).sum(1)], 1).float()
        return torch.nn.functional.normalize(rows, dim=1)


def tokens(texts):
    return torch.tensor([[*map(ord, text)] + [0] * (60 - len(text)) for text in texts])


def classifier(model, tokenizer, classnames, templates, num_classes_per_batch=10):
    """As open_clip's ``build_zero_shot_classifier`` gives it, (D, C)."""
    found = []
    for name in classnames:
        texts = [one.format(name) if isinstance(one, str) else one(name) for one in templates]
        rows = model.encode_text(tokenizer(texts), normalize=True)
        found.append(torch.nn.functional.normalize(rows.mean(0), dim=0))
    return torch.stack(found, 1)


@pytest.fixture
def open_clip(monkeypatch):
    """What the command asks of open_clip."""

    def create(model_name, pretrained=None, return_transform=True):
        if pretrained == "nowhere":
            raise RuntimeError("Pretrained value 'nowhere' is not a known tag\nor file")
        assert not return_transform
        return Tower()

    stub = SimpleNamespace(
        create_model_from_pretrained=create,
        get_tokenizer=lambda name: tokens,
        build_zero_shot_classifier=classifier,
        IMAGENET_CLASSNAMES=[f"thing {number}" for number in range(1000)],
        OPENAI_IMAGENET_TEMPLATES=[lambda c: f"a {c}.", lambda c: f"the {c}."],
        SIMPLE_IMAGENET_TEMPLATES=[lambda c: f"itap of a {c}."],
    )
    monkeypatch.setitem(sys.modules, "open_clip", stub)


def command(tmp_path, *words):
    path = tmp_path / "made" / "made.npz"
    code = main(["embed", *words, "--output", str(path), "--pretrained", "laion"])
    assert code == 0
    return read_texts(path), np.load(path)["words"].tolist()


def test_the_command_averages_prompts(open_clip, birds, tmp_path, capsys):
    texts, words = command(tmp_path, birds, "--templates", "{}!", "one {}")
    assert texts.classes == tuple(words) == ("jay", "owl", "wren")
    for name, row in zip(words, texts.rows_CD, strict=True):
        rows = [[sum(map(ord, text)), len(text)] for text in (f"{name}!", f"one {name}")]
        mean = np.mean([row / np.linalg.norm(row) for row in rows], axis=0)
        assert (row / row.norm()).tolist() == pytest.approx((mean / np.linalg.norm(mean)).tolist())
    assert (
        "3 classes, each 2 numbers of 2 prompts, such as 'jay!' for jay" in capsys.readouterr().out
    )


def test_where_the_command_has_classes_and_words_from(open_clip, tmp_path, capsys):
    texts, words = command(tmp_path, "imagenet", "--templates", "openai")
    assert (len(words), texts.classes[0], words[:2]) == (1000, "n01440764", ["thing 0", "thing 1"])
    assert "2 prompts, such as 'a thing 0.'" in capsys.readouterr().out
    for name in ("n01440764", "n00004475", "snow_owl"):
        (tmp_path / "mixed" / name).mkdir(parents=True)
        (tmp_path / "mixed" / name / "0.png").write_bytes(b"x")
    _, words = command(tmp_path, str(tmp_path / "mixed"))
    assert words == ["organism", "tench", "snow owl"]  # by WordNet, as not all are ImageNet-1k's
    assert command(tmp_path, "digits")[0].classes == tuple("0123456789")
    (tmp_path / "words.yaml").write_text("owl: snowy owl\n'7': seven\n")
    texts, words = command(tmp_path, str(tmp_path / "words.yaml"))
    assert (texts.classes, words) == (("owl", "7"), ["snowy owl", "seven"])


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["digits"], "needs --pretrained"),
        (["digits", "--pretrained", "nowhere"], "open_clip has no model 'ViT-B-16' with weights"),
        (["nothing", "--pretrained", "laion"], "'nothing' is no folder of class folders"),
        (["flowers102", "--pretrained", "laion"], "clbench data flowers102 says where"),
        (["words.yaml", "--pretrained", "laion"], "'owl' has no words, but 3"),
        (["list.yaml", "--pretrained", "laion"], "must be a mapping of classes to words"),
        (["digits", "--pretrained", "laion", "--templates", "a photo"], "'a photo' is no template"),
        (["digits", "--pretrained", "laion", "--templates", "{0} {x}"], "is no template"),
        ([], "needs CLASSES"),
    ],
)
def test_the_command_tells_what_is_wrong(open_clip, words, told, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "words.yaml").write_text("owl: 3")
    (tmp_path / "list.yaml").write_text("[owl]")
    assert main(["embed", *words]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert told in line
    assert not (tmp_path / "texts.npz").exists()


def test_without_open_clip_the_way_out_is_said(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "open_clip", None)
    assert main(["embed", "digits", "--pretrained", "openai"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "pip install open_clip_torch" in line
    assert "bring the file" in line


@pytest.mark.parametrize("length", [1e300, 1e30, 1e-20, 1e-60])
def test_texts_of_any_length_have_their_direction(tmp_path, length):
    """Whose squares a float cannot hold, or which it cannot hold itself."""
    rows = np.random.default_rng(0).normal(size=(3, 8))
    images = torch.randn(200, 8, generator=torch.Generator().manual_seed(0))
    found = []
    for name, longer in (("plain", 1.0), ("longer", length)):
        given = rows * np.array([[1.0], [longer], [1.0]])
        np.savez(tmp_path / f"{name}.npz", classes=np.array(["a", "b", "c"]), embeddings=given)
        texts = read_texts(tmp_path / f"{name}.npz").rows_CD
        found.append(nearest_text(images, texts))
    assert torch.equal(*found)
    assert found[0].unique().tolist() == [0, 1, 2]
