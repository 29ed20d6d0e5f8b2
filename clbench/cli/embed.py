"""``clbench embed``: text embeddings of classes, by the text tower of a CLIP model.

What a class is called and how it is asked for are as Radford et al. have them (*Learning
transferable visual models from natural language supervision*, 3.1.4): of each class, the mean of
the normalised embeddings of all prompts. open_clip is imported here and nowhere else.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from clbench.cli.data import needed
from clbench.cli.imports import imports
from clbench.errors import ClbenchError, first_line, shown
from clbench.recipe.known import said
from clbench.text.textfile import read_file
from clbench.text.yamltext import read_text

#: What open_clip calls its lists of prompts, by the words for them here.
LISTS = {"openai": "OPENAI_IMAGENET_TEMPLATES", "simple": "SIMPLE_IMAGENET_TEMPLATES"}
USUAL = "a photo of a {}."
#: Classes of which texts are embedded at a time.
AT_ONCE = 10


def embed(
    what: str,
    model: str,
    pretrained: str | None,
    templates: Sequence[str],
    output: Path,
    data: Path,
) -> str:
    """Write the text embeddings of some classes.

    Args:
        what: ``imagenet``, the name of a data set, a folder of class folders, or a YAML file of
            words by class.
        model, pretrained: as open_clip names them.
        templates: prompts with ``{}`` in the place of the words, or one of :data:`LISTS`.
        output: the file.
        data: the data root.

    Returns:
        What was done, for people.

    Raises:
        ClbenchError: if open_clip, the classes or the weights are not there, or a prompt is none.
    """
    if pretrained is None and ":" not in model:  # hf-hub:… and local-dir:… name their weights
        raise ClbenchError(
            "clbench embed needs --pretrained, as open_clip calls the weights of --model "
            f"{model}, such as openai: without them its texts would mean nothing"
        )
    _check_there(what)
    with imports():
        open_clip = _open_clip()
        import torch

        from clbench.metrics.retained.texts import Texts, write_texts
    words = _words(what, data, open_clip)
    prompts = _prompts(templates, open_clip)
    output.parent.mkdir(parents=True, exist_ok=True)  # before minutes of work
    logging.disable()  # open_clip tells of each of its steps
    try:
        tower = open_clip.create_model_from_pretrained(
            model, pretrained=pretrained, return_transform=False
        )
        tokenizer = open_clip.get_tokenizer(model)
    except Exception as error:  # a dozen kinds, of the hub's client too
        raise ClbenchError(
            f"open_clip has no model {shown(model)} with weights {shown(pretrained)} here "
            f"({first_line(error)}): python -c 'import open_clip; "
            "print(open_clip.list_pretrained())' has their names"
        ) from error
    finally:
        logging.disable(logging.NOTSET)
    with torch.inference_mode():
        rows_DC = open_clip.build_zero_shot_classifier(
            tower.eval(), tokenizer, list(words.values()), prompts, AT_ONCE
        )
    texts = Texts(tuple(words), rows_DC.T.float())
    about = {"words": [*words.values()], "model": [model, pretrained or ""]}
    write_texts(output, texts, about)
    first, called = next(iter(words.items()))
    return (
        f"Written: {output}: {len(words):,} classes, each {texts.rows_CD.shape[1]:,} numbers of "
        f"{len(prompts):,} prompt{'s' * (len(prompts) > 1)}, such as "
        f"{_filled(prompts[0], called)!r} for {first}. In a recipe: "
        f"retention.measures: [{{zero_shot: {{embeddings: {output}}}}}]"
    )


def _open_clip() -> Any:
    try:
        return import_module("open_clip")
    except ImportError as error:
        raise ClbenchError(
            f"clbench embed needs open_clip ({first_line(error)}): pip install open_clip_torch; or "
            "run this where it is installed, and bring the file: runs need only that"
        ) from error


def _check_there(what: str) -> None:
    """Refuse what is the name of no classes."""
    path, sets = Path(what), said("data", needed)
    if what != "imagenet" and sets.get(what) != [what] and not path.is_file() | path.is_dir():
        raise ClbenchError(
            f"clbench embed: {shown(what)} is no folder of class folders, no YAML file, no data "
            "set (clbench data lists them), and not imagenet"
        )


def _words(what: str, data: Path, open_clip: Any) -> Mapping[str, str]:
    """What each class is called in a prompt, by its name.

    Classes of ImageNet-1k have open_clip's names; of other WordNet ids the first of WordNet's.

    Raises:
        ClbenchError: if the classes are not there.
    """
    from timm.data.imagenet_info import ImageNetInfo

    from clbench.data import datasets
    from clbench.data.datasets.base import MissingData
    from clbench.data.datasets.folders import imagenet_classes, imagenet_synsets, read_class_folders

    path = Path(what)
    if what == "imagenet":
        names: Sequence[str] = imagenet_synsets()
    elif what in datasets.DATASETS:
        try:
            names = datasets.load(what, data, False).classes
        except MissingData as error:
            raise ClbenchError(
                f"clbench embed: what the classes of {what} are called is in its files, which are "
                f"not in {data}: clbench data {what} says where they belong; or give a YAML file "
                "of words by class"
            ) from error
    elif path.is_file():
        return _written(path)
    else:
        names = read_class_folders(path, "clbench embed").classes
    if (numbers := imagenet_classes(names)) is not None:
        called = list(open_clip.IMAGENET_CLASSNAMES)
        return {name: called[number] for name, number in zip(names, numbers, strict=True)}
    lists = ImageNetInfo("imagenet-21k-goog")
    known = {*lists.label_names()}
    return {
        name: lists.label_name_to_description(name).split(",")[0]
        if name in known
        else name.replace("_", " ")
        for name in names
    }


def _written(path: Path) -> Mapping[str, str]:
    """The words by class of a YAML file."""
    found = read_text(read_file(path), str(path))
    if not isinstance(found, dict) or not found:
        raise ClbenchError(f"{path} must be a mapping of classes to words, as in owl: snowy owl")
    wrong = [name for name, words in found.items() if not isinstance(words, str) or not words]
    if wrong:
        raise ClbenchError(f"{path}: {shown(wrong[0])} has no words, but {shown(found[wrong[0]])}")
    return {str(name): words for name, words in found.items()}


def _prompts(templates: Sequence[str], open_clip: Any) -> list[str] | list[Callable[[str], str]]:
    """The prompts, each with a place for the words; open_clip takes texts or functions."""
    if len(templates) == 1 and templates[0] in LISTS:
        return list(getattr(open_clip, LISTS[templates[0]]))
    for one in templates:
        try:
            right = one.format("\0").count("\0") == 1
        except (IndexError, KeyError, ValueError):
            right = False
        if not right:
            raise ClbenchError(
                f"clbench embed: {shown(one)} is no template: write {{}} once, where the words go, "
                f"as in {shown(USUAL)}; or say one of {', '.join(LISTS)}, alone"
            )
    return list(templates) or [USUAL]


def _filled(prompt: str | Callable[[str], str], words: str) -> str:
    return prompt.format(words) if isinstance(prompt, str) else prompt(words)
