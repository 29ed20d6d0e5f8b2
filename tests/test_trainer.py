from helpers import RECIPE
from lightning.fabric.plugins.environments.slurm import SLURMEnvironment

from clbench.learner.trainer import make_trainer
from clbench.recipe.recipe import parse

NODES = {"devices": 4, "num_nodes": 2, "strategy": "ddp", "accelerator": "cpu"}


def test_several_nodes_are_lightnings_own_and_a_recipe_takes_them(monkeypatch):
    variables = {
        "NTASKS": 8,
        "NTASKS_PER_NODE": 4,
        "NNODES": 2,
        "PROCID": 0,
        "LOCALID": 0,
        "STEP_ID": 0,
    }
    for name, value in (variables | {"NODEID": 0, "JOB_ID": 77, "NODELIST": "a[1-2]"}).items():
        monkeypatch.setenv(f"SLURM_{name}", str(value))
    monkeypatch.setenv("SLURM_JOB_NAME", "clbench")
    trainer = make_trainer(parse(RECIPE | {"trainer": NODES}), 1)
    assert (trainer.num_nodes, trainer.num_devices, trainer.world_size) == (2, 4, 8)
    environment = trainer._accelerator_connector.cluster_environment
    assert isinstance(environment, SLURMEnvironment)
    assert not environment.auto_requeue  # runs go on from their own checkpoints
