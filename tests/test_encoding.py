"""Text is read and written as UTF-8, whatever the machine's own encoding is."""

import ast
import re
from pathlib import Path

import clbench


def test_text_files_are_opened_as_utf_8():
    """Every read and write of text names its encoding, or it would be the machine's."""
    wrong = []
    for path in Path(clbench.__file__).parent.rglob("*.py"):
        text = path.read_text("utf-8")
        if not re.search(r"open\(|_text\(|text=|newlines=", text):
            continue
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.Call) and _leaves_the_encoding_open(node):
                wrong.append(f"{path.name}:{node.lineno}")
    assert wrong == []


def _leaves_the_encoding_open(call):
    name = getattr(call.func, "attr", getattr(call.func, "id", ""))
    named = {word.arg: word.value for word in call.keywords}
    texts = [a.value for a in call.args if isinstance(a, ast.Constant) and isinstance(a.value, str)]
    if "encoding" in named:
        return False
    if name == "read_text" and isinstance(call.func, ast.Attribute):
        return "utf-8" not in texts
    if name == "write_text":
        return texts[1:] != ["utf-8"] and "utf-8" not in texts
    if name in ("open", "fdopen") and (texts or isinstance(call.func, ast.Name)):
        return not any("b" in text for text in texts if len(text) < 4)
    return any(key in named for key in ("text", "universal_newlines"))
