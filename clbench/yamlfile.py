"""Recipes as YAML files: the import path that the tutorial uses."""

from clbench.recipe.yamlfile import find, read, read_mapping

__all__ = ["find", "read", "read_mapping"]
