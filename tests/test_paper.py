"""``conf/experiment/paper``: the eleven runs of the predecessor have its values, and say what is corrected."""

import pytest

from mtrl.config.compose import CONF, groups
from mtrl.curriculum.stages import stages_of
from mtrl.experiment import compose_run

WIDE, NARROW = [512, 1024, 1024, 512], [256, 256, 256]
TASKS = {"mt1": 1, "mt3": 3, "mt10": 10}

# variant, learning rate, buffer, warm-up, updates, per, layers, steps, horizon, environments
RUNS = {
    "mt1_reach": ("shared", 1e-4, 1e6, 5_000, 1, "environment_step", NARROW, 1e6, 500, 8),
    "mt1_push": ("shared", 1e-4, 1.5e6, 5_000, 1, "environment_step", NARROW, 2e6, 200, 8),
    "mt1_pick_place": ("shared", 1e-4, 1.5e6, 5_000, 1, "environment_step", NARROW, 5e6, 200, 10),
    "mt3_plain": ("plain", 3e-4, 1e6, 5_000, 1, "vector_step", WIDE, 12e6, 500, 3),
    "mt3_shared": ("shared", 3e-4, 1e6, 5_000, 1, "vector_step", WIDE, 12e6, 500, 3),
    "mt3_transfer": ("shared", 1e-5, 1.5e6, 5_000, 1, "environment_step", NARROW, 1e6, 200, 3),
    "mt3_multihead_curriculum": ("multihead", 1e-4, 1e6, 10_000, 1, "vector_step", NARROW, 33e6, 500, 30),
    "mt10_plain": ("plain", 3e-4, 1e6, 5_000, 1, "vector_step", WIDE, 27e6, 500, 10),
    "mt10_shared": ("shared", 3e-4, 1e6, 5_000, 1, "vector_step", WIDE, 27e6, 500, 10),
    "mt10_multihead": ("multihead", 3e-5, 1e6, 5_000, 1, "vector_step", WIDE, 18e6, 500, 10),
    "mt10_multihead_curriculum": ("multihead", 1e-4, 1e6, 10_000, 5, "vector_step", NARROW, 24e6, 500, 30),
}

# Curriculum V1: steps of each phase in millions, and each task's share of the environments in percent.
PHASES = {
    "mt3_multihead_curriculum": (
        (9, 3, 3, 3, 3, 12),
        {
            "reach-v3": (50, 20, 0, 13.3, 13.3, 6.7),
            "push-v3": (50, 70, 100, 53.3, 40, 33.3),
            "pick-place-v3": (0, 10, 0, 33.3, 46.7, 60),
        },
    ),
    "mt10_multihead_curriculum": (
        (3, 3, 6, 3, 6, 3),
        {
            "reach-v3": (10, 6.7, 3.3, 3.3, 3.3, 10),
            "push-v3": (10, 13.3, 16.7, 33.3, 30, 6.7),
            "pick-place-v3": (10, 13.3, 16.7, 6.7, 3.3, 0),
            "door-open-v3": (10, 13.3, 16.7, 10, 6.7, 10),
            "drawer-open-v3": (10, 6.7, 3.3, 3.3, 3.3, 10),
            "drawer-close-v3": (10, 6.7, 3.3, 3.3, 3.3, 10),
            "button-press-topdown-v3": (10, 6.7, 3.3, 3.3, 3.3, 10),
            "peg-insert-side-v3": (10, 13.3, 16.7, 6.7, 10, 0),
            "window-open-v3": (10, 6.7, 3.3, 3.3, 3.3, 10),
            "window-close-v3": (10, 13.3, 16.7, 26.7, 33.3, 33.3),
        },
    ),
}


def test_these_are_all_of_them():
    assert {f"paper/{name}" for name in RUNS} == {
        name for name in groups()["experiment"] if name.startswith("paper/")
    }


@pytest.mark.parametrize("name", RUNS)
def test_a_run_has_the_values_of_the_predecessor(name):
    cfg = compose_run([f"experiment=paper/{name}"]).config
    algo, variant = cfg.algo, cfg.variant
    assert variant.actor_layers == variant.critic_layers
    assert (
        variant.name,
        cfg.learning_rate,
        algo.buffer_size,
        algo.learning_starts,
        algo.updates,
        algo.updates_per,
        variant.actor_layers,
        cfg.total_steps,
        cfg.env.horizon,
        cfg.n_envs,
    ) == RUNS[name]
    common = (cfg.seed, algo.batch_size, algo.tau, algo.gamma, algo.ent_coef, algo.temperature)
    assert common == (42, 256, 0.005, 0.99, "auto", "shared")
    assert (cfg.env.reward, cfg.env.normalize_reward, cfg.env.normalize_observations) == ("v1", False, False)
    assert (algo.cls, algo.n_steps, algo.balanced_batches, algo.reward_scaling) == (
        "mtrl.algo.SAC",
        1,
        False,
        "none",
    )
    assert (algo.max_gradient_norm, algo.reward_scale, variant.layer_norm) == (None, 1.0, False)
    assert cfg.stop.success is None, "it would end before its steps"
    assert len(cfg.env.tasks) == TASKS[name.split("_")[0]]
    if variant.name == "multihead":
        assert (variant.shared_layers, variant.actor_heads) == (0, False)


def test_the_transfer_begins_with_the_run_on_pick_place():
    cfg = compose_run(["experiment=paper/mt3_transfer"]).config
    assert cfg.transfer.train == ["experiment=paper/mt1_pick_place"]


@pytest.mark.parametrize("name", RUNS)
def test_a_curriculum_has_the_phases_of_the_predecessor(name):
    cfg = compose_run([f"experiment=paper/{name}"]).config
    if name not in PHASES:
        assert cfg.curriculum.name == "none"
        return
    millions, shares = PHASES[name]
    stages = stages_of(cfg)
    # The last phase ends with the run.
    ends = [stage.steps for stage in stages[:-1]]
    assert [*ends, cfg.total_steps - sum(ends)] == [1e6 * steps for steps in millions]
    for task, expected in shares.items():
        found = [100 * stage.weights[cfg.env.tasks.index(task)] for stage in stages]
        assert found == pytest.approx(expected, abs=0.051), task


@pytest.mark.parametrize("name", RUNS)
def test_a_file_says_what_is_corrected(name):
    lines = (CONF / "experiment" / "paper" / f"{name}.yaml").read_text().splitlines()
    (corrected,) = [line for line in lines if line.startswith("# Corrected: ")]
    assert "time limit" in corrected
