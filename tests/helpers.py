"""A small recipe, and how two runs of it are compared."""

RECIPE = {
    "stream": {"name": "split_digits"},
    "images": {"size": 8},
    "model": {
        "backbone": "tiny_cnn",
        "weights": "pretrain",
        "options": {"width": 8},
        "pretraining": {"epochs": 3},
    },
    "optimizer": {"name": "sgd", "lr": 0.05, "momentum": 0.9},
    "steps": 6,
    "batch_size": 32,
    "trainer": {"enable_progress_bar": False, "accelerator": "cpu"},
}


def comparable(record):
    """The summary of a run without what is measured with a clock or in memory."""
    summary = record.summary()
    for measured in ("seconds", "peak_memory_bytes"):
        del summary["cost"][measured]
    del summary["footprint"]["time_share"]
    return summary
