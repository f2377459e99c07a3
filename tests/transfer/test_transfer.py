"""Weights of one task set given to another act as they did, and what does not fit is refused."""

import io
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
import stable_baselines3
import torch
from saved_runs import save_run
from tiny import TinyVecEnv
from tiny_runs import TINY

from mtrl.algo.make import make_agent
from mtrl.config.types import HardwareConfig
from mtrl.env.make import make_training_env
from mtrl.env.metaworld import observation_space
from mtrl.env.normalize import TaskNormalize
from mtrl.errors import ConfigurationError
from mtrl.experiment import compose_run, run_directory
from mtrl.rundir.write import write_yaml
from mtrl.tasks import MT3, OBSERVATION_SIZE
from mtrl.transfer.start import Transfer, freeze

torch.set_num_threads(1)
CPU = HardwareConfig("cpu", "native", 1, 1, 1, "off")
LAYERS = ("variant.actor_layers=[16,12]", "variant.critic_layers=[14,10]")
SMALL = (*TINY, "algo.batch_size=60", "algo.learning_starts=40", *LAYERS)


def composed(*overrides):
    return compose_run([*SMALL, *overrides])


def check(*overrides):
    return Transfer(composed(*overrides).config)


def refused(match, *overrides):
    """Return the sentence with which a transfer is refused."""
    with pytest.raises(ConfigurationError, match=match) as refusal:
        check(*overrides)
    assert "\n" not in str(refusal.value)
    return str(refusal.value)


def light_env(cfg):
    tasks, told = cfg.env.tasks, cfg.variant.task_id
    env = TinyVecEnv(tasks, range(len(tasks)), 1, cfg.env.horizon)
    if not told:
        env.one_hots, env.observation_space = env.one_hots[:, :0], observation_space(len(tasks), told)
    if cfg.env.normalize_observations:
        env = TaskNormalize(env, observations=True, reward=False, gamma=0.99)
    return env


@pytest.fixture
def build(tmp_path):
    """Return a function that makes an agent, trained for some steps and saved as a run's best model."""

    def build(*overrides, steps=0, save=False):
        composition = composed(f"output={tmp_path}", *overrides)
        agent, path = (
            make_agent(composition.config, light_env(composition.config), CPU),
            run_directory(composition),
        )
        if steps:
            agent.learn(steps)
        if save:
            best = path / "checkpoints" / "best"
            best.mkdir(parents=True)
            agent.save(best / "model.zip")
            write_yaml(path / "config.yaml", {**composition.values, "choices": composition.choices})
        return composition.config, agent, path

    return build


def transferred(build, path, *overrides):
    cfg, agent, _ = build(*overrides, f"transfer.source={path}")
    return cfg, agent, Transfer(cfg).begin(agent)


def observations(agent, tasks, task):
    """Return random observations, with the one-hot of ``task`` among ``tasks`` where the agent is told it."""
    obs = np.random.default_rng(0).normal(size=(32, OBSERVATION_SIZE)).astype(np.float32)
    told = agent.observation_space.shape[0] > OBSERVATION_SIZE
    one_hot = np.eye(len(tasks), dtype=np.float32)[[list(tasks).index(task)] * 32]
    return np.concatenate([obs, one_hot], axis=1) if told else obs


def actions(agent, obs):
    return agent.predict(obs, deterministic=True)[0]


def q_values(agent, obs):
    moves = torch.linspace(-1, 1, 4 * len(obs)).view(-1, 4)
    with torch.no_grad():
        return torch.cat(agent.critic(torch.from_numpy(obs), moves), 1).numpy()


def assert_same(first, second):
    np.testing.assert_allclose(first, second, atol=2e-5, rtol=1e-5)


def tasks_are(*tasks):
    return f"env.tasks=[{','.join(tasks)}]"


PUSH_REACH, TO_PUSH = tasks_are("push-v3", "reach-v3"), {"push-v3": "push-v3", "reach-v3": "reach-v3"}
MANY = tasks_are("reach-v3", "pick-place-v3", "push-v3", "peg-insert-side-v3")
RELATED = {**TO_PUSH, "pick-place-v3": "push-v3"}
HEADS = ("variant=multihead", "variant.actor_heads=true", "algo.temperature=per_task")
SEPARATE = ("variant=multihead", "variant.shared_layers=0")
ACTS_ALIKE = {
    "one task becomes three": (["task=pick-place-v3"], [], dict.fromkeys(MT3, "pick-place-v3")),
    **{
        f"other order, {algo}": (
            [f"algo={algo}", "algo.batch_size=40", PUSH_REACH],
            [f"algo={algo}", tasks_are("door-open-v3", "reach-v3", "push-v3")],
            TO_PUSH,
        )
        for algo in ("sac", "td3", "ddpg")
    },
    **{
        f"heads, {shared}": ([*HEADS, shared, PUSH_REACH], [*HEADS, shared, MANY], RELATED)
        for shared in (f"variant.shared_layers={number}" for number in (0, 1, "all"))
    },
    "a policy that was not told the task": (
        ["variant=plain"],
        ["variant=shared"],
        {task: task for task in MT3},
    ),
    "one network for all becomes a critic for each": (
        ["variant.layer_norm=false", PUSH_REACH],
        ["variant.layer_norm=false", *SEPARATE],
        RELATED,
    ),
    "a single task loses its one-hot": (["task=reach-v3"], ["variant=plain"], dict.fromkeys(MT3, "reach-v3")),
}
"""Overrides of the source and of the run, and from which task each of the run's begins."""


@pytest.mark.parametrize("case", ACTS_ALIKE)
def test_each_task_acts_as_the_one_it_comes_from(build, case):
    given, own, origins = ACTS_ALIKE[case]
    recipe = "experiment=mt1" if given[0].startswith("task=") else "experiment=mt3"
    source_cfg, source, path = build(recipe, *given, steps=80, save=True)
    cfg, target, lineage = transferred(build, path, "experiment=mt3", *own)
    few, many = source_cfg.env.tasks, cfg.env.tasks
    for task, origin in origins.items():
        assert lineage["origins"][task] == origin
        ours, theirs = observations(target, many, task), observations(source, few, origin)
        assert_same(actions(target, ours), actions(source, theirs))
        assert_same(q_values(target, ours), q_values(source, theirs))
        if cfg.algo.cls.endswith("SAC") and cfg.algo.temperature == "per_task":
            ours, theirs = (agent.log_ent_coef.detach() for agent in (target, source))
            assert_same(ours[many.index(task)], theirs[few.index(origin)])


@pytest.mark.parametrize("algo", ["sac", "td3", "ddpg"])
def test_a_transferred_policy_collects_the_first_transitions_itself(build, algo):
    words = ("experiment=mt1", f"algo={algo}", *(["algo.action_noise=0"] if algo != "sac" else []))
    _, source, path = build(*words, "task=push-v3", steps=120, save=True)
    _, target, _ = transferred(build, path, *words, "task=reach-v3")
    with torch.no_grad():
        if algo == "sac":
            # Sampled actions follow its own narrow distribution, which uniform ones do not.
            source.actor.net.layers[-1].bias.view(2, 4)[1] = -9
            target.actor.net.layers[-1].bias.view(2, 4)[1] = -9
    target.learn(30)
    held = target.replay_buffer.rows(0, 30)
    np.testing.assert_allclose(held["actions"], actions(source, held["observations"]), atol=0.01)


def test_without_its_actor_a_transfer_explores_at_random(build):
    _, source, path = build("experiment=mt1", "task=push-v3", steps=120, save=True)
    parts = "transfer.parts=[critic]"
    _, target, _ = transferred(build, path, "experiment=mt1", "task=reach-v3", parts)
    # The learning rate is lowered for any transfer.
    assert target.learning_rate == pytest.approx(0.3 * source.learning_rate)
    target.learn(30)
    held = target.replay_buffer.rows(0, 30)
    assert np.abs(held["actions"] - actions(source, held["observations"])).max() > 0.1


@pytest.mark.parametrize("rule", ["mean", "fresh"])
def test_new_tasks_begin_as_asked(build, rule):
    own = ("experiment=mt3", "variant=multihead", "variant.actor_heads=true", "variant.shared_layers=all")
    _, source, path = build(*own, tasks_are("reach-v3", "push-v3"), steps=60, save=True)
    words = (f"transfer.source={path}", f"transfer.new_tasks={rule}")
    cfg, target, _ = build(*own, tasks_are("reach-v3", "pick-place-v3"), *words)
    initial = target.actor.net.layers[-1].weight.detach().clone()
    Transfer(cfg).begin(target)
    head = target.actor.net.layers[-1].weight.detach()
    theirs = source.actor.net.layers[-1].weight.detach()
    assert torch.equal(head[0], theirs[0])
    assert torch.equal(head[1], theirs.mean(0) if rule == "mean" else initial[1])


@pytest.mark.parametrize("kind", ["SAC", "TD3"])
def test_a_zip_of_stable_baselines3_is_a_source(build, tmp_path, kind):
    layers = {"pi": [16, 12], "qf": [14, 10]}
    _, plain, _ = build("experiment=mt1", "variant=plain", f"algo={kind.lower()}")
    source = getattr(stable_baselines3, kind)(
        "MlpPolicy", plain.env, policy_kwargs={"net_arch": layers}, buffer_size=10, device="cpu"
    )
    source.save(tmp_path / "theirs.zip")
    words = ("experiment=mt3", f"algo={kind.lower()}", "variant.layer_norm=false")
    _, target, _ = transferred(build, tmp_path / "theirs.zip", *words)
    theirs, ours = (observations(agent, MT3, "push-v3") for agent in (source, target))
    assert_same(actions(target, ours), actions(source, theirs))
    assert_same(q_values(target, ours), q_values(source, theirs))


def test_optimisers_go_with_their_weights(build):
    _, source, path = build("experiment=mt1", "task=push-v3", steps=120, save=True)
    parts = "transfer.parts=[actor,critic,temperature,optimiser]"
    _, target, _ = transferred(build, path, "experiment=mt3", parts)
    theirs, ours = (agent.actor.optimizer.state_dict()["state"] for agent in (source, target))
    assert torch.equal(ours[2]["exp_avg"], theirs[2]["exp_avg"])
    assert float(ours[0]["step"]) == float(theirs[0]["step"]) > 0
    assert ours[0]["exp_avg"].shape == target.actor.net.layers[0].weight.shape
    # It learns on with them.
    target.learn(60)


def test_transitions_of_common_tasks_come_along(train, tmp_path):
    path = train(tmp_path, "experiment=mt3", PUSH_REACH, "total_steps=120", tiny=SMALL)
    parts = "transfer.parts=[actor,critic,replay]"
    words = (*SMALL, "experiment=mt3", f"transfer.source={path}", parts)
    cfg = compose_run([*words, "env.tasks=[reach-v3,pick-place-v3,push-v3]"]).config
    env = make_training_env(cfg, CPU)
    agent = make_agent(cfg, env, CPU)
    lineage = Transfer(cfg).begin(agent)
    env.close()
    replay = agent.replay_buffer
    assert lineage["transitions"] == replay.size() == 120
    tasks = replay.tasks[:120].numpy().astype(int)
    assert np.bincount(tasks, minlength=3).tolist() == [60, 0, 60]
    one_hot = replay.observations[:120, OBSERVATION_SIZE:].numpy()
    np.testing.assert_array_equal(one_hot.argmax(1), tasks)
    np.testing.assert_array_equal(one_hot.sum(1), 1)


def test_a_frozen_part_waits_and_the_others_learn(build):
    _, _, path = build("experiment=mt1", "task=push-v3", save=True)
    cfg, agent, _ = transferred(
        build, path, "experiment=mt1", "task=reach-v3", "transfer.freeze_steps.actor=100"
    )
    freeze(cfg, agent)
    before = [parameter.detach().clone() for parameter in agent.actor.parameters()]
    critic = next(agent.critic.parameters()).detach().clone()
    agent.learn(90)
    assert all(map(torch.equal, before, agent.actor.parameters()))
    assert not torch.equal(critic, next(agent.critic.parameters()))
    agent.learn(60, reset_num_timesteps=False)
    assert not any(map(torch.equal, before, agent.actor.parameters()))


def test_normalisation_comes_along(build):
    normal = "env.normalize_observations=true"
    _, source, path = build("experiment=mt1", "task=push-v3", normal, steps=60, save=True)
    source.get_vec_normalize_env().save_statistics(path / "checkpoints" / "best" / "normaliser.npz")
    _, target, _ = transferred(build, path, "experiment=mt3", normal)
    theirs, ours = source.get_vec_normalize_env().obs_rms, target.get_vec_normalize_env().obs_rms
    np.testing.assert_array_equal(ours.mean[:OBSERVATION_SIZE], theirs.mean[:OBSERVATION_SIZE])
    np.testing.assert_array_equal(ours.mean[OBSERVATION_SIZE:], 0)
    assert ours.count == theirs.count
    refused(r"env\.normalize_observations=true", "experiment=mt3", f"transfer.source={path}")


def test_rewards_of_common_tasks_are_scaled_as_the_critic_learned_them(build):
    own = ("algo.reward_scaling=return", "algo.reward_scale=0.5")
    _, source, path = build("experiment=mt3", *own, steps=120, save=True)
    factors = dict(zip(MT3, source.policy.reward_scales.tolist(), strict=True))
    assert len({0.5, *factors.values()}) == 4
    tasks = "env.tasks=[door-open-v3,push-v3,reach-v3]"
    _, target, _ = transferred(build, path, "experiment=mt3", tasks, "algo.reward_scaling=return")
    target._measure_reward_scales()
    scales = target.policy.reward_scales.tolist()
    assert scales == pytest.approx([target.reward_scale, factors["push-v3"], factors["reach-v3"]])
    _, target, _ = transferred(build, path, "experiment=mt3", *own, "transfer.parts=[actor]")
    assert target.replay_buffer.returns.factors().tolist() == [1.0] * 3


@pytest.mark.parametrize(
    ("given", "own", "words"),
    [
        ([], ["variant.actor_layers=[16]"], r"layers \[16, 12\] and .*\[16\]"),
        ([], ["variant.critic_layers=[14,11]"], r"variant.critic_layers=\[14,10\]"),
        (["variant.layer_norm=true"], ["variant.layer_norm=false"], "LayerNorm"),
        ([], ["algo=td3"], "trained with SAC and this run uses TD3.*use algo=sac"),
        # Two critics of all tasks are not the heads of one for two tasks.
        (["algo=td3", PUSH_REACH], ["algo=ddpg"], "trained with TD3 and this run uses DDPG.*use algo=td3"),
        ([], ["variant=plain"], "is told its 3 tasks"),
        (["variant=multihead", "variant.shared_layers=all"], [], "use variant.*=multihead"),
    ],
)
def test_what_does_not_fit_is_refused_with_both_sides(build, given, own, words):
    _, _, path = build("experiment=mt3", *given, save=True)
    said = refused(words, "experiment=mt3", f"transfer.source={path}", *own)
    assert "the source" in said
    assert "this run" in said


def test_a_source_without_a_model_is_refused(tmp_path):
    refused("does not exist", "experiment=mt3", f"transfer.source={tmp_path / 'nowhere'}")
    refused("holds no model", "experiment=mt3", f"transfer.source={tmp_path}")
    (tmp_path / "checkpoints").mkdir()
    refused("no saved model yet", "experiment=mt3", f"transfer.source={tmp_path}")


def test_a_run_directory_needs_no_quotes(build):
    _, _, path = build("experiment=mt1", "task=push-v3", save=True)
    assert "=" in str(path)
    assert "," in str(path)
    words = ["experiment=mt3", f"transfer.source={path}"]
    assert composed(*words).config.transfer.source == str(path)


def test_the_run_directory_follows_the_content_of_the_source(build, tmp_path):
    def directory(*words):
        return run_directory(composed("experiment=mt3", *words))

    _, _, path = build("experiment=mt1", "task=push-v3", save=True)
    copy = shutil.copytree(path, tmp_path / "elsewhere")
    here, there, none = (
        directory(f"transfer.source={path}"),
        directory(f"transfer.source={copy}"),
        directory(),
    )
    assert here == there != none
    _, _, other = build("experiment=mt1", "task=push-v3", "seed=2", save=True)
    assert directory(f"transfer.source={other}") not in (here, none)
    assert directory("transfer.learning_rate_multiplier=0.1") == none


def written(write):
    """Return the bytes that ``write`` writes to a file."""
    write(content := io.BytesIO())
    return content.getvalue()


def as_pth(value):
    return written(lambda file: torch.save(value, file))


def vast_statistics(file):
    header = {"descr": "<f8", "fortran_order": False, "shape": (10**13,)}
    with zipfile.ZipFile(file, "w") as archive, archive.open("norm_obs.npy", "w") as entry:
        np.lib.format.write_array_header_1_0(entry, header)


def policy(change):
    return lambda content: as_pth(change(torch.load(io.BytesIO(content), weights_only=True)))


def damage(path, change):
    """Give a file, or an entry of a zip, another content, or what ``change`` makes of its own."""
    path, _, entry = str(path).partition(":")
    if not entry:
        Path(path).write_bytes(change(Path(path).read_bytes()) if callable(change) else change)
        return
    with zipfile.ZipFile(path) as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    entries[entry] = change(entries[entry]) if callable(change) else change
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in entries.items():
            archive.writestr(name, content)


MODEL, POLICY, VARIABLES = "model.zip", "model.zip:policy.pth", "model.zip:pytorch_variables.pth"
CONFIG, STATISTICS, FIRST = "../../config.yaml", "normaliser.npz", "actor.net.layers.0.weight"
DAMAGES = [
    (MODEL, lambda whole: whole[: len(whole) // 2], r"transfer\.source=.*"),
    (MODEL, b"no zip", r"transfer\.source=.* cannot be read"),
    (MODEL, lambda whole: whole[:3000] + b"\0" * 64 + whole[3064:], r"transfer\.source=.*"),
    (MODEL, written(lambda file: zipfile.ZipFile(file, "w").close()), "holds no policy"),
    (STATISTICS, b"PK\3\4", "normaliser.npz cannot"),
    (STATISTICS, written(lambda file: np.savez(file, norm_reward=True)), "has no norm_obs"),
    # 80 TB.
    (STATISTICS, written(vast_statistics), "claims"),
    (CONFIG, b"env: 3\nalgo: {}\n", "the section env is not"),
    (CONFIG, b"env: {tasks: 5}\nalgo: {}\n", "they are no list of names"),
    (CONFIG, b"env: {tasks: [rech-v3]}\nalgo: {}\n", "did you mean 'reach-v3'"),
    (POLICY, as_pth([1, 2]), "no table of weights"),
    (POLICY, policy(lambda weights: weights | {FIRST: weights[FIRST] * np.nan}), "NaN"),
    (POLICY, policy(lambda weights: weights | {FIRST: 3}), "not a table of numbers"),
    (POLICY, policy(lambda weights: weights | {FIRST: weights[FIRST][0]}), "no network"),
    (
        POLICY,
        policy(lambda weights: {key: weights[key] for key in weights if ".1." not in key}),
        "do not fit",
    ),
    (VARIABLES, b"xx", "something else than weights"),
    (VARIABLES, as_pth({"log_ent_coef": "x"}), "its temperature is no number"),
    (VARIABLES, as_pth({"log_ent_coef": torch.zeros(2)}), "2 temperatures for 1 tasks"),
    ("score.json", b"\xff\xfe", "score.json cannot be read"),
    ("model.zip:actor.optimizer.pth", as_pth({"state": {0: {"step": 1}}}), "has not Adam's moments of actor"),
]


@pytest.fixture(scope="module")
def whole_source(tmp_path_factory):
    return save_run(tmp_path_factory.mktemp("whole"), "experiment=mt1", *SMALL)


@pytest.mark.parametrize(("file", "change", "said"), DAMAGES)
def test_each_damage_of_a_source_is_refused_in_one_sentence(whole_source, tmp_path, file, change, said):
    path = shutil.copytree(whole_source, tmp_path / "source")
    damage(path / "checkpoints" / "best" / file, change)
    words = ["experiment=mt3", f"transfer.source={path}"]
    if "optimizer" in file:
        # It is refused only where it is asked for.
        check(*words)
        words.append("transfer.parts=[actor,optimiser]")
    assert "weights_only" not in refused(said, *words)


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["transfer.baseline=true"], "transfer.baseline=true compares"),
        (["transfer.source=HERE", "transfer.parts=[]"], r"transfer.parts=\[\] takes nothing"),
        (["transfer.source=HERE", "transfer.parts=[optimiser]"], "optimiser of neither"),
        (["transfer.source=HERE", "transfer.source_tasks=[rech-v3]"], "did you mean 'reach-v3'"),
        (["transfer.source=HERE", "transfer.source_tasks=[push-v3]"], "contradicts the source"),
        (
            ["transfer.source=HERE", "transfer.freeze_steps.actor=9", "hardware.compile=inductor"],
            "transfer.freeze_steps.actor cannot be kept by a compiled update",
        ),
    ],
)
def test_what_would_do_nothing_is_refused(whole_source, overrides, words):
    refused(words, "experiment=mt3", *(text.replace("HERE", str(whole_source)) for text in overrides))


def test_everything_that_differs_is_named_at_once(build):
    own = ("experiment=mt3", "variant=multihead", "variant.shared_layers=1", "variant.actor_heads=true")
    _, _, path = build(*own, "variant.layer_norm=true", save=True)
    words = ["experiment=mt3", "variant=plain", "variant.layer_norm=false", "variant.actor_layers=[16]"]
    words += ["variant.critic_layers=[9,9]", f"transfer.source={path}"]
    # What it advises is taken at its word, all in one round.
    advice = refused("use ", *words).rsplit("use ", 1)[1].split()
    keys = ["actor_heads", "actor_layers", "critic_layers", "layer_norm", "shared_layers"]
    assert {text.split("=")[0] for text in advice} == {"variant", *(f"variant.{key}" for key in keys)}
    assert check("experiment=mt3", *advice, f"transfer.source={path}")
