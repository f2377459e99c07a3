"""Weights of one task set given to another act as they did, and what does not fit is refused."""

import io
import json
import shutil
import zipfile
from functools import partial

import gymnasium
import numpy as np
import pytest
import stable_baselines3
import torch
from saved_runs import save_run
from stable_baselines3.common.vec_env import DummyVecEnv
from tiny_runs import TINY

from mtrl.algo.make import make_agent
from mtrl.config.compose import members
from mtrl.config.types import HardwareConfig
from mtrl.env.make import make_training_env
from mtrl.env.metaworld import action_space, observation_space
from mtrl.env.normalize import TaskNormalize
from mtrl.errors import ConfigurationError
from mtrl.experiment import compose_run, run_directory
from mtrl.rundir.write import write_yaml
from mtrl.tasks import MT3, OBSERVATION_SIZE
from mtrl.transfer.start import freeze, prepare_transfer

torch.set_num_threads(1)
CPU = HardwareConfig("cpu", "native", 1, 1, 1, "off")
LAYERS = ("variant.actor_layers=[16,12]", "variant.critic_layers=[14,10]")
SMALL = (*TINY, "algo.batch_size=60", "algo.learning_starts=40", *LAYERS)


def composed(*overrides):
    return compose_run([*SMALL, *overrides])


class Light(gymnasium.Env):
    """Random observations of the shape of Meta-World's, for tests that look at weights alone."""

    def __init__(self, cfg, task):
        self.one_hot = np.eye(len(cfg.env.tasks), dtype=np.float32)[task] if cfg.variant.task_id else []
        self.task, self.steps, self.horizon = task, 0, cfg.env.horizon
        self.observation_space = observation_space(len(cfg.env.tasks), cfg.variant.task_id)
        self.action_space = action_space()

    def _observe(self):
        seen = self.np_random.normal(size=OBSERVATION_SIZE).astype(np.float32)
        return np.concatenate([seen, self.one_hot], dtype=np.float32)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.steps = 0
        return self._observe(), {}

    def step(self, action):
        self.steps += 1
        reward = float(-np.square(action).sum())
        return self._observe(), reward, False, self.steps == self.horizon, {"task_id": self.task}


def light_env(cfg):
    env = DummyVecEnv([partial(Light, cfg, task) for task in range(len(cfg.env.tasks))])
    if cfg.env.normalize_observations:
        env = TaskNormalize(env, observations=True, reward=False, gamma=0.99)
    return env


@pytest.fixture
def build(tmp_path):
    """Return a function that makes an agent, trained for some steps and saved as a run's best model."""
    opened = []

    def build(*overrides, steps=0, save=False):
        composition = composed(f"output={tmp_path}", *overrides)
        env = light_env(composition.config)
        opened.append(env)
        agent = make_agent(composition.config, env, CPU)
        if steps:
            agent.learn(steps)
        path = run_directory(composition)
        if save:
            best = path / "checkpoints" / "best"
            best.mkdir(parents=True)
            agent.save(best / "model.zip")
            write_yaml(path / "config.yaml", {**composition.values, "choices": composition.choices})
        return composition.config, agent, path

    yield build
    for env in opened:
        env.close()


def transferred(build, path, *overrides):
    cfg, agent, _ = build(*overrides, f"transfer.source={path}")
    lineage = prepare_transfer(cfg).begin(agent)
    return cfg, agent, lineage


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
HEADS = ("experiment=mt3", "variant=multihead", "variant.actor_heads=true", "algo.temperature=per_task")
ACTS_ALIKE = {
    "one task becomes three": (
        ["experiment=mt1", "task=pick-place-v3"],
        ["experiment=mt3"],
        dict.fromkeys(MT3, "pick-place-v3"),
    ),
    **{
        f"other order, {algo}": (
            ["experiment=mt3", f"algo={algo}", "algo.batch_size=40", PUSH_REACH],
            ["experiment=mt3", f"algo={algo}", tasks_are("door-open-v3", "reach-v3", "push-v3")],
            TO_PUSH,
        )
        for algo in ("sac", "td3", "ddpg")
    },
    **{
        f"heads, shared_layers={shared}": (
            [*HEADS, f"variant.shared_layers={shared}", PUSH_REACH],
            [*HEADS, f"variant.shared_layers={shared}", MANY],
            RELATED,
        )
        for shared in ("0", "1", "all")
    },
    "a policy that was not told the task": (
        ["experiment=mt3", "variant=plain"],
        ["experiment=mt3", "variant=shared"],
        {task: task for task in MT3},
    ),
    "one network for all becomes a critic for each": (
        ["experiment=mt3", "variant.layer_norm=false", PUSH_REACH],
        ["experiment=mt3", "variant.layer_norm=false", "variant=multihead", "variant.shared_layers=0"],
        RELATED,
    ),
    "a single task loses its one-hot": (
        ["experiment=mt1", "task=reach-v3"],
        ["experiment=mt3", "variant=plain"],
        dict.fromkeys(MT3, "reach-v3"),
    ),
}


@pytest.mark.parametrize("case", ACTS_ALIKE)
def test_each_task_acts_as_the_one_it_comes_from(build, case):
    given, own, origins = ACTS_ALIKE[case]
    source_cfg, source, path = build(*given, steps=80, save=True)
    cfg, target, lineage = transferred(build, path, *own)
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
    quiet = {"sac": (), "td3": ("algo.action_noise=0",), "ddpg": ("algo.action_noise=0",)}[algo]
    words = ("experiment=mt1", f"algo={algo}", *quiet)
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
    prepare_transfer(cfg).begin(target)
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
    theirs = source.actor.optimizer.state_dict()["state"]
    ours = target.actor.optimizer.state_dict()["state"]
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
    lineage = prepare_transfer(cfg).begin(agent)
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
    cfg, agent, _ = build(
        "experiment=mt1", "task=reach-v3", f"transfer.source={path}", "transfer.freeze_steps.actor=100"
    )
    prepare_transfer(cfg).begin(agent)
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
    with pytest.raises(ConfigurationError, match=r"env\.normalize_observations=true"):
        prepare_transfer(composed("experiment=mt3", f"transfer.source={path}").config)


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
    with pytest.raises(ConfigurationError, match=words) as refusal:
        prepare_transfer(composed("experiment=mt3", f"transfer.source={path}", *own).config)
    assert "the source" in str(refusal.value)
    assert "this run" in str(refusal.value)


def test_a_source_without_a_model_is_refused(tmp_path):
    for path, words in ((tmp_path, "holds no model"), (tmp_path / "nowhere", "does not exist")):
        with pytest.raises(ConfigurationError, match=words):
            composed("experiment=mt3", f"transfer.source={path}")
    (tmp_path / "checkpoints").mkdir()
    with pytest.raises(ConfigurationError, match="no saved model yet"):
        composed("experiment=mt3", f"transfer.source={tmp_path}")


def test_a_corrupt_source_is_refused(build):
    _, _, path = build("experiment=mt1", save=True)
    model = path / "checkpoints" / "best" / "model.zip"
    whole = model.read_bytes()
    for damaged in (whole[: len(whole) // 2], b"no zip", whole[:3000] + b"\0" * 64 + whole[3064:]):
        model.write_bytes(damaged)
        with pytest.raises(ConfigurationError, match=r"transfer\.source=.*") as refusal:
            prepare_transfer(composed("experiment=mt1", f"transfer.source={path}").config)
        assert "\n" not in str(refusal.value)
    with zipfile.ZipFile(model, "w") as archive:
        archive.writestr("data", json.dumps({}))
    with pytest.raises(ConfigurationError, match="holds no policy"):
        composed("experiment=mt1", f"transfer.source={path}")


def test_a_run_directory_needs_no_quotes(build):
    _, _, path = build("experiment=mt1", "task=push-v3", save=True)
    assert "=" in str(path)
    assert "," in str(path)
    words = ["experiment=mt3", f"transfer.source={path}"]
    assert composed(*words).config.transfer.source == str(path)
    swept = members([*words, "seed=1,2"])
    assert [composed(*member).config.transfer.source for member in swept] == [str(path)] * 2


def test_the_run_directory_follows_the_content_of_the_source(build, tmp_path):
    _, _, path = build("experiment=mt1", "task=push-v3", save=True)
    copy = tmp_path / "elsewhere"
    shutil.copytree(path, copy)
    here, there, none = (
        run_directory(composed("experiment=mt3", *words))
        for words in ([f"transfer.source={path}"], [f"transfer.source={copy}"], [])
    )
    assert here == there != none
    build("experiment=mt1", "task=push-v3", "seed=2", save=True)
    model = run_directory(composed(f"output={tmp_path}", "experiment=mt1", "task=push-v3", "seed=2"))
    other = run_directory(composed("experiment=mt3", f"transfer.source={model}"))
    assert other not in (here, none)
    lowered = run_directory(composed("experiment=mt3", "transfer.learning_rate_multiplier=0.1"))
    assert lowered == none


def rewritten(model, name, content):
    with zipfile.ZipFile(model) as archive:
        entries = {entry: archive.read(entry) for entry in archive.namelist()}
    with zipfile.ZipFile(model, "w") as archive:
        for entry, data in (entries | {name: content}).items():
            archive.writestr(entry, data)


def as_pth(value):
    content = io.BytesIO()
    torch.save(value, content)
    return content.getvalue()


def policy_with(change):
    """Return a function that rewrites the policy in a model.zip as ``change`` makes it of its weights."""

    def damage(best):
        model = best / "model.zip"
        with zipfile.ZipFile(model) as archive:
            weights = torch.load(io.BytesIO(archive.read("policy.pth")), weights_only=True)
        rewritten(model, "policy.pth", as_pth(change(weights)))

    return damage


def with_variables(content):
    return lambda best: rewritten(best / "model.zip", "pytorch_variables.pth", content)


def with_vast_statistics(best):
    header = {"descr": "<f8", "fortran_order": False, "shape": (10**13,)}
    archive = zipfile.ZipFile(best / "normaliser.npz", "w")
    with archive, archive.open("norm_obs.npy", "w") as file:
        np.lib.format.write_array_header_1_0(file, header)


def with_config(text):
    return lambda best: (best.parent.parent / "config.yaml").write_text(text)


FIRST = "actor.net.layers.0.weight"
DAMAGES = {
    "normaliser cut": (
        lambda best: (best / "normaliser.npz").write_bytes(b"PK\3\4"),
        "normaliser.npz cannot",
    ),
    "normaliser without norm_obs": (
        lambda best: np.savez(best / "normaliser.npz", norm_reward=True),
        "has no norm_obs",
    ),
    "normaliser of 80 TB": (with_vast_statistics, "claims"),
    "environment is a number": (with_config("env: 3\nalgo: {}\n"), "the section env is not"),
    "tasks are a number": (with_config("env: {tasks: 5}\nalgo: {}\n"), "they are no list of names"),
    "tasks do not exist": (with_config("env: {tasks: [rech-v3]}\nalgo: {}\n"), "did you mean 'reach-v3'"),
    "policy is a list": (policy_with(lambda _: [1, 2]), "no table of weights"),
    "policy is NaN": (policy_with(lambda weights: weights | {FIRST: weights[FIRST] * np.nan}), "NaN"),
    "a weight is a number": (policy_with(lambda weights: weights | {FIRST: 3}), "not a table of numbers"),
    "a weight of another shape": (
        policy_with(lambda weights: weights | {FIRST: weights[FIRST][0]}),
        "no network",
    ),
    "a layer lacks": (
        policy_with(lambda weights: {key: w for key, w in weights.items() if "layers.1" not in key}),
        "do not fit each other",
    ),
    "variables are garbage": (with_variables(b"xx"), "something else than weights"),
    "temperature is a word": (with_variables(as_pth({"log_ent_coef": "x"})), "its temperature is no number"),
    "two temperatures": (
        with_variables(as_pth({"log_ent_coef": torch.zeros(2)})),
        "2 temperatures for 1 tasks",
    ),
    "score is garbage": (
        lambda best: (best / "score.json").write_bytes(b"\xff\xfe"),
        "score.json cannot be read",
    ),
}


@pytest.fixture(scope="module")
def whole_source(tmp_path_factory):
    return save_run(tmp_path_factory.mktemp("whole"), "experiment=mt1", *SMALL)


@pytest.mark.parametrize("name", DAMAGES)
def test_each_damage_of_a_source_is_refused_in_one_sentence(whole_source, tmp_path, name):
    path = shutil.copytree(whole_source, tmp_path / "source")
    words = ["experiment=mt3", f"transfer.source={path}"]
    prepare_transfer(composed(*words).config)
    damage, said = DAMAGES[name]
    damage(path / "checkpoints" / "best")
    with pytest.raises(ConfigurationError, match=said) as refusal:
        prepare_transfer(composed(*words).config)
    assert "\n" not in str(refusal.value)
    assert "weights_only" not in str(refusal.value)


def test_an_optimiser_that_fits_no_weight_is_refused(whole_source, tmp_path):
    path = shutil.copytree(whole_source, tmp_path / "source")
    model = path / "checkpoints" / "best" / "model.zip"
    rewritten(model, "actor.optimizer.pth", as_pth({"state": {0: {"step": 1}}}))
    words = ["experiment=mt3", f"transfer.source={path}"]
    prepare_transfer(composed(*words).config)
    with pytest.raises(ConfigurationError, match="has not Adam's moments of actor"):
        prepare_transfer(composed(*words, "transfer.parts=[actor,optimiser]").config)


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
    overrides = [text.replace("HERE", str(whole_source)) for text in overrides]
    with pytest.raises(ConfigurationError, match=words):
        prepare_transfer(composed("experiment=mt3", *overrides).config)


def test_everything_that_differs_is_named_at_once(build):
    own = ("experiment=mt3", "variant=multihead", "variant.shared_layers=1", "variant.actor_heads=true")
    _, _, path = build(*own, "variant.layer_norm=true", save=True)
    words = ["experiment=mt3", "variant=plain", "variant.layer_norm=false", "variant.actor_layers=[16]"]
    words += ["variant.critic_layers=[9,9]", f"transfer.source={path}"]
    with pytest.raises(ConfigurationError) as refusal:
        prepare_transfer(composed(*words).config)
    # What it advises is taken at its word, all in one round.
    advice = str(refusal.value).rsplit("use ", 1)[1].split()
    keys = ["actor_heads", "actor_layers", "critic_layers", "layer_norm", "shared_layers"]
    assert {text.split("=")[0] for text in advice} == {"variant", *(f"variant.{key}" for key in keys)}
    assert prepare_transfer(composed("experiment=mt3", *advice, f"transfer.source={path}").config)
