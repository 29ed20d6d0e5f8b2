"""``python -m clbench``: the same as the command ``clbench``."""

from clbench.cli.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
