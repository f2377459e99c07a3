"""What composes, what each choice means, and that whatever cannot run is refused in one sentence."""

import itertools
import re

import hydra
import pytest
from hydra.core.global_hydra import GlobalHydra
from hydra.version import VersionBase

from mtrl import checks, hardware
from mtrl.config import compose
from mtrl.config.compose import compose_sweep, defaults_of, groups
from mtrl.config.values import flatten
from mtrl.errors import ConfigurationError
from mtrl.experiment import compose_run

SETS = {"mt3": 3, "mt10": 10, "mt25": 25, "mt50": 50, "smoke": 2, "mt1": 1}
ALGORITHMS, VARIANTS = ("sac", "td3", "ddpg"), ("plain", "shared", "multihead")


@pytest.fixture(autouse=True)
def enough_memory(monkeypatch):
    monkeypatch.setattr(hardware, "free_memory", lambda: 64 * 2**30)
    monkeypatch.setattr("torch.cuda.mem_get_info", lambda device: (64 * 2**30, 0))


def with_each_algorithm(experiments):
    """Return each recipe with one of the algorithms in turn; with all of them is a hundred compositions more."""
    return [
        pytest.param(name, algo, marks=[] if (i + k) % len(ALGORITHMS) == 0 else pytest.mark.slow)
        for i, name in enumerate(experiments)
        for k, algo in enumerate(ALGORITHMS)
    ]


@pytest.mark.parametrize(("experiment", "algo"), with_each_algorithm(SETS))
def test_every_experiment_composes_with_every_algorithm_and_variant(experiment, algo):
    for variant in VARIANTS:
        words = [f"experiment={experiment}", f"algo={algo}", f"variant={variant}"]
        if variant == "multihead" and SETS[experiment] == 1:
            with pytest.raises(ConfigurationError, match="needs more than one task"):
                compose_run(words)
            continue
        cfg = compose_run(words).config
        assert cfg.experiment == experiment
        assert len(cfg.env.tasks) == SETS[experiment]
        assert type(cfg.algo).__name__.lower() == f"{algo}config"
        assert cfg.variant.name == variant
        assert cfg.variant.task_id is (variant != "plain")


OTHERS = [name for name in groups()["experiment"] if name not in SETS]
PAIRS = list(itertools.product(ALGORITHMS, VARIANTS))
FOR_HEADS = {("mtmhsac", "sac")}
"""Recipes whose tuned values are for heads alone."""


@pytest.mark.parametrize(
    ("experiment", "algo", "variant"),
    [
        # Each recipe with one of the nine pairs in turn, and what is tuned for heads with a variant without.
        pytest.param(
            name,
            algo,
            variant,
            marks=[]
            if i % len(PAIRS) == k or ((name, algo) in FOR_HEADS and variant == "plain")
            else pytest.mark.slow,
        )
        for i, name in enumerate(OTHERS)
        for k, (algo, variant) in enumerate(PAIRS)
    ],
)
def test_every_other_recipe_composes_with_every_algorithm_and_variant_or_is_refused_with_a_fix(
    experiment, algo, variant
):
    """A recipe of separate critics is for one variant; its refusal names another choice, which composes."""
    usual = compose_run([f"experiment={experiment}"])
    assert usual.config.experiment == experiment
    heads_alone = "multihead" in experiment or (experiment, algo) in FOR_HEADS
    words = [f"experiment={experiment}", f"algo={algo}", f"variant={variant}"]
    possible = len(usual.config.env.tasks) > 1 if variant == "multihead" else not heads_alone
    if possible:
        cfg = compose_run(words).config
        assert (type(cfg.algo).__name__.lower(), cfg.variant.name) == (f"{algo}config", variant)
        return
    with pytest.raises(ConfigurationError) as refused:
        compose_run(words)
    fix = re.search(r"(?:use|choose) (variant=\w+)", str(refused.value))
    assert f"variant={compose_run([*words, fix[1]]).config.variant.name}" == fix[1]


def test_step_counts_accept_scientific_notation_and_become_integers():
    cfg = compose_run(["total_steps=2e6", "evaluation.every=1e4", "algo.buffer_size=1e5"]).config
    assert [cfg.total_steps, cfg.evaluation.every, cfg.algo.buffer_size] == [2_000_000, 10_000, 100_000]
    assert all(isinstance(n, int) for n in (cfg.total_steps, cfg.evaluation.every, cfg.algo.buffer_size))


def test_a_key_needs_no_plus_and_an_argument_of_a_foreign_class_neither():
    words = ["experiment=mt3", "algo.gamma=0.9", "algo.kwargs.target_update_interval=3"]
    cfg = compose_run(words).config
    assert cfg.algo.gamma == 0.9
    assert cfg.algo.kwargs == {"target_update_interval": 3}


def test_tuned_values_of_one_algorithm_do_not_reach_another():
    tuned, base = compose_run(["algo=sac"]).config.algo, defaults_of(algo="sac").values["algo"]
    assert tuned.gamma != base["gamma"], "mt1 has no tuning for SAC any more: test another recipe"
    untouched = compose_run(["algo=td3"]).values["algo"]
    assert untouched["gamma"] == defaults_of(algo="td3").values["algo"]["gamma"]


def test_a_task_set_of_ones_own():
    cfg = compose_run(["experiment=mt10", "env.tasks=[door-lock-v3,reach-v3]"]).config
    assert cfg.env.tasks == ["door-lock-v3", "reach-v3"]
    assert compose_run(["task=null", "env.tasks=[push-v3,hammer-v3]"]).config.env.tasks == [
        "push-v3",
        "hammer-v3",
    ]


def test_a_phase_ends_where_phases_say():
    assert compose_run(["phase=2", "phases=[1e3,3e3]"]).config.total_steps == 3000


def test_values_are_plain_and_resolved():
    values = compose_run(["task=push-v3"]).values
    assert values["env"]["tasks"] == ["push-v3"]
    assert values["evaluation"]["copies_per_task"] == values["env"]["copies_per_task"]


def test_a_sweep_is_every_combination():
    assert compose_sweep(["task=reach-v3,push-v3", "seed=range(1,3)"]).members == [
        [f"task={task}", f"seed={seed}"] for task, seed in itertools.product(("reach-v3", "push-v3"), (1, 2))
    ]


REFUSED = {
    "algorithm=sac": "did you mean algo?",
    "evaluation.evry=3": "did you mean evaluation.every?",
    "enviroment.horizon=3": "did you mean env.horizon or evaluation.horizon?",
    "gamma=0.9": "did you mean algo.gamma?",
    "+qqqq=1": "--cfg job shows every key",
    "algo=ppo": "the options are ddpg, sac, td3",
    "experiment=mt11": "did you mean mt1?",
    "variant=multihed": "did you mean multihead?",
    "algo.action_noise=0.1": "it belongs to algo=td3",
    "foo": "write overrides as key=value",
    "seed=1,2": "add -m",
    "algo.gamma=abc": "algo.gamma has the wrong type",
    "algo.tau=true": "algo.tau has the wrong type",
    "seed=1.5": "seed has the wrong type",
    "env=3": "env has the wrong type",
    "env.tasks=reach-v3": "env.tasks has the wrong type",
    "fresh=maybe": "fresh has the wrong type",
    "task=reach-v2": "did you mean 'reach-v3'?",
    "task=nonsense": "is not a Meta-World task",
    "env.tasks=[CartPole-v1]": "'CartPole-v1' is not a Meta-World task",
    "env.tasks=[push-v3]": "task=null env.tasks=",
    "experiment=mt10 env.tasks=[]": "the task set is empty",
    "experiment=mt10 env.tasks=[push-v3,push-v3]": "push-v3 stands twice",
    "experiment=mt10 task=reach-v3": "use experiment=mt1",
    "env.reward=v3": "silently train on v1",
    "env.horizon=501": "at most 500",
    "env.horizon=0": "at least 1",
    "evaluation.horizon=501": "at most 500",
    "evaluation.horizon=0": "at least 1",
    "evaluation.horizon=200": "env.horizon=500: use evaluation.horizon=500",
    "env.copies_per_task=0": "at least 1",
    "env.copies_per_task=-2": "at least 1",
    "total_steps=0": "at least 1",
    "total_steps=1.5": "whole number",
    "total_steps=-1e6": "at least 1",
    "seed=-1": "seed=-1 must lie in 0..",
    "seed=2147483648": "must lie in 0..",
    "evaluation.episodes=0": "at least 1 episode",
    "evaluation.final_episodes=0": "at least 1 episode",
    "evaluation.every=0": "at least 1",
    "evaluation.goals=test": "not one of train, heldout",
    "logging.every=0": "at least 1",
    "logging.progress=loud": "not one of auto, bar, lines, off",
    "checkpoint.every=0": "at least 1",
    "checkpoint.minutes=nan": "finite number greater than 0",
    "checkpoint.keep=0": "at least 1",
    "stop.success=2": "between 0 and 1",
    "phase=4": "phase=4 does not exist",
    "phases=[3e3,1e3]": "must grow",
    "output=": "output is empty",
    "output=/proc/nowhere": "cannot be written",
    "algo.buffer_size=1e12": "GiB are free: use at most algo.buffer_size=",
    "algo.buffer_size=0": "at least 1",
    "algo.batch_size=0": "at least 1",
    "algo.batch_size=2000 algo.buffer_size=1000": "larger than algo.buffer_size=1000",
    "experiment=mt10 algo.balanced_batches=true algo.batch_size=256": "use algo.batch_size=260",
    "algo.learning_starts=-1": "at least 0",
    "algo.learning_rate=0": "greater than 0",
    "algo.learning_rate=1e400": "finite number",
    "algo.gamma=1.1": "between 0 and 1",
    "algo.updates=0": "at least 0.001",
    "algo.updates=1e-9": "at least 0.001",
    "algo.updates_per=minute": "not one of vector_step, environment_step",
    "algo.ent_coef=lots": "must be auto or a number",
    "algo.adam_epsilon=0": "greater than 0",
    "algo.max_reward_ratio=0.5": "at least 1",
    "algo.decay_factor=0": "greater than 0 and at most 1",
    "algo.decay_steps=[2e6,1e6]": "must be [begin, end]",
    "algo.reward_scales_every=0": "at least 1",
    "variant.initialisation=jax": "not one of torch, metaworld_algorithms",
    "algo.cls=stable_baselines3.SAC algo.adam_epsilon=1e-5": "algo.adam_epsilon=1e-08",
    "algo.temperature=hot": "not one of shared, per_task",
    "algo=td3 algo.policy_delay=0": "at least 1",
    "algo=ddpg algo.action_noise=-1": "must not be negative",
    "variant.actor_layers=[]": "one or more widths",
    "variant.critic_layers=[64,0]": "widths above 0",
    "variant=multihead": "needs more than one task",
    "experiment=mt3 variant=multihead variant.shared_layers=7": "must be all or 0 to 3",
    "algo.cls=mtrl.algo.TaskReplayBuffer": "does not learn from a replay buffer",
    "hardware.device=tpu": "not one of auto, cpu, mps, cuda",
    "hardware.device=cuda:first": "not one of auto, cpu, mps, cuda",
    "hardware.device=cuda:99": "torch sees no such GPU",
    "hardware.torch_threads=0": "at least 1",
    "hardware.backend=fast": "not one of auto, native, stock",
    "hardware.backend=native env.reward=v1 task=hammer-v3": "the task hammer-v3 with env.reward=v1",
    "algo.cls=SAC": "algo.cls=SAC does not exist",
    "algo.cls=nowhere.SAC": "algo.cls=nowhere.SAC does not exist",
    "algo.cls=stable_baselines3.SACK": "does not exist",
    "algo.cls=os.path": "is not a class",
    "algo.cls=stable_baselines3.PPO": "does not learn from a replay buffer",
    "algo.kwargs.nope=1": "algo.kwargs.nope is not an argument of mtrl.algo.SAC",
    "seed=abc": "give a whole number",
    "algo.gamma=null": "give a number",
    "task=[a]": "give a word or null",
    "task=null": "name one with task=reach-v3, or a set with env.tasks=",
    "hydra/launcher=foo": "does not exist: the options are basic, ",
    "hydra.run.dir=elsewhere": "does not move a run, whose directory follows from what it learns: use output=...",
    "hydra.run={dir:elsewhere}": "use output=...",
    "hydra.job.chdir=true": "use output=...",
    "hydra/lancher=joblib": "did you mean hydra/launcher?",
    "experiment=mtmhsac variant=shared": "sets variant.shared_layers, which only variant=multihead has: choose",
    "experiment=mtmhsac variant=plain": "choose variant=multihead, or another experiment",
    "experiment=paper/mt10_multihead variant=shared": "choose variant=multihead, or another experiment",
    "~seed": "leave it out, or set seed=",
    "~total_steps": "leave it out, or set total_steps=",
    "~evaluation": "leave it out",
    "~algo": "leave it out, or set algo=",
    "+seed=3": "write it without +",
    "algo@env=sac": "write it without @",
    "variant.name=shared": "choose another with variant=",
    "curriculum.name=mixed": "choose another with curriculum=",
    "phase=1 total_steps=3": "phase=1 and total_steps=3 both say how long to train",
    "experiment=MT10": "did you mean mt10?",
    "algo=SAC": "did you mean sac?",
    "task=Reach-V3": "did you mean 'reach-v3'?",
    "evry=5000": "did you mean evaluation.every, checkpoint.every or logging.every?",
    "hardware.every=5000": "did you mean evaluation.every, checkpoint.every or logging.every?",
    "gama=0.9": "did you mean algo.gamma?",
    "experimnt=mt10": "did you mean experiment?",
    "n_envs=3": "did you mean env.copies_per_task?",
    "algo.lr=3": "did you mean algo.learning_rate?",
    "curriculum=sequential curriculum.difficultyy=3": "did you mean curriculum.difficulty?",
    "algo.ent_coef=auto_x": "must be auto or a number of at least 0, or auto_<initial value above 0>",
    "algo.ent_coef=auto_0": "must be auto or a number",
    "algo.ent_coef=auto_-1": "must be auto or a number",
    "algo.ent_coef=auto_": "must be auto or a number",
    "algo.ent_coef=autofoo": "must be auto or a number",
    "algo.ent_coef=auto_nan": "must be auto or a number",
    "algo.ent_coef=-0.1": "must be auto or a number of at least 0",
    "algo.ent_coef=inf": "must be auto or a number",
    "algo.target_entropy=auto_3": "must be auto or a number",
    "algo.target_entropy=nan": "must be auto or a number",
    "experiment=mt3 algo.ent_coef=0.1": "use algo.temperature=shared or algo.ent_coef=auto",
    "algo=td3 algo.target_noise_clip=nan": "must not be negative and must be finite",
    "algo=td3 algo.target_policy_noise=-1": "must not be negative",
    "algo=ddpg algo.action_noise=inf": "must be finite",
    "algo.buffer_size=5 algo.batch_size=5 env.copies_per_task=8": "use at least algo.buffer_size=8",
    "algo=sac algo.cls=stable_baselines3.TD3 algo.overlap=false": "use algo=td3",
    "experiment=mt3 algo=td3 algo.cls=mtrl.algo.SAC": "use algo=sac",
    "algo=td3 algo.cls=stable_baselines3.SAC": "use algo=sac",
    "algo=ddpg algo.cls=stable_baselines3.TD3": "use algo=td3",
    "algo=ddpg algo.cls=mtrl.algo.sac.SAC": "use algo=sac",
    "algo.cls=stable_baselines3.DQN algo.overlap=false": "does not take ent_coef, target_entropy, which algo=sac",
    "algo.kwargs.use_sde=true": "leave it out, or use algo.cls=stable_baselines3.SAC",
    "algo.kwargs.optimize_memory_usage=true": "leave it out",
    "hardware=cpu hardware.compile=cuda_graph": "use hardware.compile=auto",
    "algo=td3 hardware.compile=cuda_graph": "whose update is not compiled: use hardware.compile=auto",
    "algo=ddpg hardware.compile=inductor": "whose update is not compiled: use hardware.compile=auto",
    # Of the wrong structure, also where OmegaConf does not look.
    "algo.cls=..x": "algo.cls=..x does not exist",
    "algo.cls=???": "algo.cls has no value",
    "env.tasks=[[reach-v3]]": "env.tasks[0] has the wrong type: ['reach-v3'] is given; give a word",
    "env.tasks=[{a:1}]": "env.tasks[0] has the wrong type",
    "curriculum.stages=[[[[[[]]]]]]": "is not a task of this run",
    "curriculum.stages=[[{a:1}]]": "is not a task of this run",
    "curriculum.tables=[{stages:[[[a]]],steps:[1]}]": "has no stages for this set",
    "curriculum.difficulty={reach-v3:[1]}": "curriculum.difficulty.reach-v3 has the wrong type",
    "transfer.train=[[a]]": "transfer.train[0] has the wrong type",
    "transfer.freeze_steps.actor=[1]": "give a number",
    "phases=[a]": "phases[0] has the wrong type",
    "fresh=7": "fresh has the wrong type: 7 is given; give true or false",
    "dry_run=1": "give true or false",
    "seed=${nothing}": "seed has no value: Interpolation key 'nothing' not found",
    "algo.cls=${nothing}": "algo.cls has no value",
    "env=${algo}": "env has the wrong type: it holds keys",
    f"seed={'9' * 5000}": "cannot be read",
    f"seed={'9' * 400}": "seed has the wrong type",
    f"algo.gamma={'9' * 400}": "must lie between 0 and 1",
    "env.tasks=" + "[" * 400 + "]" * 400: "recursion",
    f"output={'x' * 300}": "cannot be written (File name too long)",
    f"transfer.source={'x' * 300}": "does not exist",
    # Larger than anything can be meant.
    "evaluation.episodes=99999999999999999999": "at most a million",
    "total_steps=99999999999999999999": "at most 1000000000000000",
    "evaluation.every=1e300": "at most 1000000000000000",
    "env.copies_per_task=99999999999": "at most 10000",
    "hardware.torch_threads=1000000": "at most 1024",
    "algo.reward_scale=1e308": "at most 1e+06",
    "algo.ent_coef=1e300": "must be auto or a number",
    "algo.updates=1e9": "at most 1000",
    "algo.n_steps=501": "at most 500",
    "variant.actor_layers=[1000000000]": "at most 65536",
    "variant.critic_layers=[65536,65536,65536]": "GiB are free: use narrower or fewer layers",
    # Read by nothing.
    "curriculum.difficulty={reach-v3:3}": "nothing here follows: choose curriculum=sequential or mixed",
    "experiment=mt3 curriculum=sequential curriculum.difficulty={reach-v3:nan}": "must be a finite number",
    "hydra.mode=MULTIRUN": "add -m for a sweep",
    "hydra.searchpath=[a]": "would change nothing: leave it out",
    "+hydra.callbacks.a=1": "would change nothing",
    "~hydra.verbose": "would change nothing",
    "hydra.sweep.dir=x": "is for the members of a sweep: add -m",
    "+hydra.job.env_set.A=1": "is for the members of a sweep: add -m",
    "hydra/launcher=basic": "is for the members of a sweep: add -m",
    "hydra.launcher._target_=os.getcwd": "names code to run",
    "hydra.verbose=7": "must be true or false",
    "+algo=sac": "write it without +",
}


@pytest.mark.parametrize("words", REFUSED)
def test_what_cannot_run_is_refused_in_one_sentence_with_the_fix(words):
    with pytest.raises(ConfigurationError) as caught:
        compose_run(words.split())
    message = str(caught.value)
    assert REFUSED[words] in message
    assert "\n" not in message


NOT_OF_A_SWEEP = ("hydra.launcher={_target_:os.getcwd}", "hydra.sweeper.max_batch_size=0", "hydra.run.dir=x")
NOT_OF_A_SWEEP += (
    "hydra/sweeper=basic",
    "hydra.sweeper.params={seed:1}",
    "hydra.verbose=true,false",
    "hydra.mode=RUN",
)


@pytest.mark.parametrize("word", NOT_OF_A_SWEEP)
def test_a_sweep_takes_of_hydras_keys_those_that_do_something(word):
    with pytest.raises(ConfigurationError):
        compose_sweep([word, "seed=1,2"])
    words = ["hydra/launcher=basic", "hydra.sweep.dir=x", "+hydra.job.env_set.A=1", "seed=1"]
    assert compose_sweep(words).members == [["seed=1"]]


FROM_THE_ENVIRONMENT = {
    "fresh=false": False,
    "dry_run=true": True,
    "seed=3": 3,
    "phase=2": 2,
    "total_steps=1e6": 1_000_000,
    "algo.batch_size=32": 32,
    "algo.gamma=0.5": 0.5,
    "stop.success=0.5": 0.5,
    "env.tasks=[reach-v3]": ["reach-v3"],
    "phases=[1e3,2e3]": [1000, 2000],
    "variant.actor_layers=[32,32]": [32, 32],
    "algo.ent_coef=0.3": 0.3,
    "task=push-v3": "push-v3",
    "output=2026_11_25": "2026_11_25",
    "algo.overlap=false": False,
    "fresh=7": "fresh has the wrong type",
    "seed=x": "seed has the wrong type",
    "phase=": "phase has the wrong type",
    "total_steps=x": "total_steps has the wrong type: x is given; give a number",
    "env.tasks=x": "env.tasks has the wrong type: x is given; give a list",
    "algo=td3": "does not exist: the options are",
}


@pytest.mark.parametrize("word", FROM_THE_ENVIRONMENT)
def test_a_value_of_the_environment_is_read_as_if_it_were_typed_or_refused(word, monkeypatch):
    key, _, text = word.partition("=")
    monkeypatch.setenv("MTRL_TEST", text)
    expected = FROM_THE_ENVIRONMENT[word]
    if isinstance(expected, str) and key not in ("task", "output"):
        with pytest.raises(ConfigurationError, match=re.escape(expected)):
            compose.compose([f"{key}=${{oc.env:MTRL_TEST}}"])
        return
    found = flatten(compose.compose([f"{key}=${{oc.env:MTRL_TEST}}"]).values)[key]
    assert (found, type(found)) == (expected, type(expected))


def test_composing_leaves_a_callers_hydra_as_it_was():
    with hydra.initialize_config_dir(str(compose.CONF.absolute()), version_base="1.2"):
        before, base = GlobalHydra.instance().hydra, VersionBase.instance().version_base
        compose.compose(["seed=2"])
        assert (GlobalHydra.instance().hydra, VersionBase.instance().version_base) == (before, base)


def test_options_of_our_own_sac_are_refused_together_with_all_that_mends_them():
    words = [
        "experiment=mt3",
        "algo.cls=stable_baselines3.SAC",
        "algo.overlap=true",
        "algo.temperature=per_task",
    ]
    with pytest.raises(ConfigurationError, match="SAC would not do: set") as caught:
        compose_run(words)
    fix = str(caught.value).split(": set ")[1].split()
    assert compose_run([*words[:2], *fix]).config.algo.cls == "stable_baselines3.SAC"


def test_gpu_is_refused_where_there_is_none(monkeypatch):
    monkeypatch.setattr(hardware, "cuda_available", lambda device: False)
    for words in (["hardware=gpu"], ["hardware.device=cuda"]):
        with pytest.raises(ConfigurationError, match="use hardware=auto or cpu"):
            compose_run(words)
    monkeypatch.setattr(hardware, "cuda_available", lambda device: True)
    assert compose_run(["hardware=gpu"]).config.hardware.device == "cuda"


def test_a_replay_buffer_larger_than_free_memory_is_refused_at_its_true_size(monkeypatch):
    cfg = compose_run(["experiment=mt10", "algo.buffer_size=1e6"]).config
    needed = checks.replay_bytes(cfg)
    monkeypatch.setattr(hardware, "free_memory", lambda: needed)
    compose_run(["experiment=mt10", "algo.buffer_size=1e6"])
    monkeypatch.setattr(hardware, "free_memory", lambda: needed - 1)
    with pytest.raises(ConfigurationError, match="GiB for its replay buffer") as caught:
        compose_run(["experiment=mt10", "algo.buffer_size=1e6"])
    fix = str(caught.value).split()[-1]
    compose_run(["experiment=mt10", fix])


def test_every_option_says_what_it_is():
    from mtrl.config.help import help_text

    text = help_text()
    for group, options in groups().items():
        for option in options:
            line = next(line for line in text.splitlines() if line.split()[:1] == [option])
            assert len(line.split()) > 2, f"{group}/{option}.yaml has no comment that says what it is"


def test_the_files_are_those_of_the_checkout():
    assert compose.CONF.is_dir()
    assert {"algo", "curriculum", "experiment", "hardware", "variant"} <= set(groups())


def test_a_working_directory_that_is_gone_is_one_sentence(tmp_path, monkeypatch):
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    with pytest.raises(ConfigurationError, match="the working directory cannot be found"):
        compose_run([])
