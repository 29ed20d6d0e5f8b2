"""Which process this is, and what the program that started it says."""

from contextlib import ExitStack

import pytest
import torch
from helpers import RECIPE

from clbench.errors import ClbenchError
from clbench.learner.trainer import make_trainer
from clbench.processes import processes
from clbench.processes.processes import mean_over_processes, placement
from clbench.recipe.recipe import parse
from clbench.runner.folder import take


@pytest.fixture
def torchrun(monkeypatch):
    def start(world, local):
        variables = {"WORLD_SIZE": world, "LOCAL_WORLD_SIZE": local, "RANK": 0, "LOCAL_RANK": 0}
        for name, value in (variables | {"TORCHELASTIC_RUN_ID": "none"}).items():
            monkeypatch.setenv(name, str(value))

    return start


@pytest.fixture
def srun(monkeypatch):
    def start(tasks, nodes, **more):
        variables = {"NTASKS": tasks, "NNODES": nodes, "PROCID": 0, "LOCALID": 0, "NODEID": 0}
        variables |= {"STEP_ID": 0}
        for name, value in (variables | {"JOB_NAME": "clbench"} | more).items():
            monkeypatch.setenv(f"SLURM_{name}", str(value))

    return start


def test_a_process_of_its_own_has_the_recipes_numbers():
    assert placement({"devices": 4, "num_nodes": 2}) == {}


@pytest.mark.parametrize("trainer", [{}, {"devices": "auto"}, {"devices": -1}, {"devices": 2}])
def test_torchrun_says_how_many_processes_there_are(torchrun, trainer):
    torchrun(6, 2)
    assert placement(trainer) == {"devices": 2, "num_nodes": 3}


def test_a_list_of_devices_stays(torchrun):
    torchrun(2, 2)
    assert placement({"devices": [3, 5]}) == {"num_nodes": 1}


@pytest.mark.parametrize(
    "trainer",
    [{"devices": 3}, {"devices": "4"}, {"devices": [0]}, {"num_nodes": 2}, {"devices": "1,"}],
)
def test_other_numbers_than_torchruns_are_refused(torchrun, trainer):
    torchrun(2, 2)
    with pytest.raises(ClbenchError, match=r"trainer\.\w+ is .*, but torchrun started \d"):
        placement(trainer)


def test_nodes_of_different_sizes_are_refused(torchrun):
    torchrun(5, 3)
    with pytest.raises(ClbenchError, match="as many on every node"):
        placement({})


def test_srun_says_how_many_processes_there_are(srun):
    srun(8, 2)
    assert placement({}) == {"devices": 4, "num_nodes": 2}
    srun(8, 2, NTASKS_PER_NODE=4)
    assert placement({}) == {"devices": 4, "num_nodes": 2}
    with pytest.raises(ClbenchError, match="srun started 4 processes on every node"):
        placement({"devices": 2})


@pytest.mark.parametrize("step", ["", str(0xFFFFFFFB)])
def test_a_script_of_sbatch_is_not_srun(srun, monkeypatch, step):
    """Its variables are there, but nobody starts processes."""
    srun(4, 1, STEP_ID=step)
    assert placement({}) == {}
    two = parse(RECIPE | {"trainer": RECIPE["trainer"] | {"devices": 2}})
    environment = make_trainer(two, 1).strategy.cluster_environment
    assert not environment.creates_processes_externally


@pytest.mark.parametrize("name", ["bash", "interactive"])
def test_a_shell_in_a_job_is_not_srun(srun, name):
    srun(8, 2, JOB_NAME=name)
    assert placement({"devices": 2}) == {}


def test_the_trainer_takes_the_numbers_and_does_not_wait_for_ever(torchrun):
    torchrun(2, 2)
    trainer = make_trainer(parse(RECIPE | {"process_timeout": 12.0}), 1)
    assert (trainer.num_devices, trainer.num_nodes, trainer.world_size) == (2, 1, 2)
    assert trainer.strategy._timeout.total_seconds() == 12


@pytest.mark.parametrize("word", ["true", "false"])
def test_strategies_keep_their_meaning(word):
    strategy = f"ddp_find_unused_parameters_{word}"
    more = {"devices": 2, "strategy": strategy}
    trainer = make_trainer(parse(RECIPE | {"trainer": RECIPE["trainer"] | more}), 1)
    assert trainer.strategy._ddp_kwargs["find_unused_parameters"] == (word == "true")


def test_any_number_of_processes_may_resume_a_run(tmp_path):
    def recipe(**trainer):
        return parse(RECIPE | {"trainer": RECIPE["trainer"] | trainer})

    def of(resume=True, **trainer):
        with ExitStack() as held:
            return take(recipe(**trainer), tmp_path, resume, held)

    assert of(resume=False, devices=2, strategy="ddp") == (tmp_path, False)
    assert of(devices=4, num_nodes=2) == of() == (tmp_path, True)
    with pytest.raises(ClbenchError, match=r"different: trainer\)"):
        of(gradient_clip_val=1.0)


def test_the_mean_over_one_process_is_its_own():
    assert mean_over_processes(torch.tensor(3.0)) == 3


def test_the_mean_leaves_the_tensor_alone(monkeypatch):
    monkeypatch.setattr(processes, "world_size", lambda: 2)
    monkeypatch.setattr(processes.dist, "all_reduce", lambda t: t.add_(4.0 / 2))
    value = torch.tensor(3.0)
    assert mean_over_processes(value) == 3.5
    assert value == 3


def test_what_lightning_refuses_of_srun_is_one_line(srun):
    srun(2, 1)
    with pytest.raises(ClbenchError, match="srun: You set `--ntasks=2`"):
        make_trainer(parse(RECIPE), 1)
