"""What runs are compared with, by the names that tables have for it."""

#: Plain fine-tuning, without a method; also the name of a run that has none.
PLAIN = "sequential"
#: All tasks at once.
BOUND = "multitask"
BASELINES = (PLAIN, BOUND)
