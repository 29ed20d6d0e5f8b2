"""Run a stream: ``python train.py --config split_cifar100_sfa.yaml``; ``--help`` says more."""

from clbench.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
