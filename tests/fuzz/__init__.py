"""Seeded mutations of what users give clbench: `make fuzz`, or `python -m fuzz recipes --count 50`.

A fault is a traceback, a hang, a crash, an error of more than one line, an exit code that has no
meaning, or nonsense that is taken without a word.
"""
