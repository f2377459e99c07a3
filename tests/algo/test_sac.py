"""mtrl.algo.SAC against stable-baselines3's own SAC, and each of its options against a plain computation."""

import contextlib
import copy
import shutil
from unittest import mock

import numpy as np
import pytest
import stable_baselines3
import torch
from drift import ACTIONS, OBS, assert_continues_alike, assert_equal, envs, weights
from stable_baselines3.common.buffers import ReplayBuffer
from stable_baselines3.common.logger import Logger

from mtrl.algo.graph import GraphedUpdate
from mtrl.algo.replay import TaskReplayBuffer, TaskSamples
from mtrl.algo.sac import SAC, check_finite, record_q_value
from mtrl.algo.update import prepare, update
from mtrl.errors import TrainingNotFiniteError


def sac(n_tasks=1, copies=2, one_hot=True, layers=(32, 32), **options):
    policy = {"actor_layers": list(layers), "critic_layers": list(layers)} | options.pop("policy_kwargs", {})
    usual = {"seed": 3, "buffer_size": 2000, "learning_starts": 40, "batch_size": 48, "device": "cpu"}
    options = usual | options
    return SAC("MlpPolicy", envs(n_tasks, copies, one_hot), n_tasks=n_tasks, policy_kwargs=policy, **options)


def copy_linear(stacked, index, linears):
    """Give one of the stacked layers the weights of linear layers side by side."""
    with torch.no_grad():
        stacked.weight[index] = torch.cat([linear.weight for linear in linears]).t()
        stacked.bias[index, 0] = torch.cat([linear.bias for linear in linears])


def copy_weights(stock, ours):
    """Give our networks the weights of stable-baselines3's."""
    for layer, linear in zip(ours.actor.net.layers, stock.actor.latent_pi[::2], strict=False):
        copy_linear(layer, 0, [linear])
    copy_linear(ours.actor.net.layers[-1], 0, [stock.actor.mu, stock.actor.log_std])
    for theirs, mine in ((stock.critic, ours.critic), (stock.critic_target, ours.critic_target)):
        for index, network in enumerate(theirs.q_networks):
            for layer, linear in zip(mine.net.layers, network[::2], strict=True):
                copy_linear(layer, index, [linear])


class FixedBatches:
    """Stands for a replay buffer: the same batches for both."""

    def __init__(self, dtype):
        generator = torch.Generator().manual_seed(0)
        self.normal = lambda n: torch.randn(64, n, generator=generator, dtype=torch.float64).to(dtype)

    def sample(self, batch_size, env=None):
        obs, actions = self.normal(OBS), torch.tanh(self.normal(ACTIONS))
        next_obs, dones = self.normal(OBS), (self.normal(1) > 1.5).to(obs.dtype)
        tasks = torch.zeros(batch_size, dtype=torch.int64)
        return TaskSamples(obs, actions, next_obs, dones, self.normal(1), None, tasks)


@pytest.mark.parametrize(
    ("dtype", "tolerance", "ent_coef"),
    [(torch.float64, 1e-9, "auto"), (torch.float64, 1e-9, 0.2), (torch.float32, 2e-4, "auto")],
)
def test_200_updates_equal_those_of_stable_baselines3_parameter_by_parameter(dtype, tolerance, ent_coef):
    torch.set_default_dtype(dtype)
    try:
        shared = {"seed": 0, "device": "cpu", "ent_coef": ent_coef, "buffer_size": 100}
        stock = stable_baselines3.SAC("MlpPolicy", envs(), policy_kwargs={"net_arch": [32, 32, 32]}, **shared)
        ours = sac(layers=(32, 32, 32), **shared)
        copy_weights(stock, ours)
        before = copy.deepcopy(ours.critic.state_dict())
        # stable-baselines3 casts observations to float32 before its networks
        for network in (stock.actor, stock.critic, stock.critic_target):
            network.extract_features = lambda obs, extractor: obs
        for model in (stock, ours):
            model.replay_buffer = FixedBatches(dtype)
            model.set_logger(Logger(None, []))
            torch.manual_seed(1)
            for steps in (1, 99, 100):
                model.train(steps, 64)
        expected = sac(layers=(32, 32, 32), **shared)
        copy_weights(stock, expected)
        for part in ("actor", "critic", "critic_target"):
            theirs, mine = (dict(getattr(model, part).named_parameters()) for model in (expected, ours))
            for name in theirs:
                torch.testing.assert_close(mine[name], theirs[name], rtol=tolerance, atol=tolerance)
        moved = [(ours.critic.state_dict()[name] - before[name]).abs().max().item() for name in before]
        assert min(moved) > 100 * tolerance
        if ent_coef == "auto":
            torch.testing.assert_close(ours.log_ent_coef, stock.log_ent_coef, rtol=tolerance, atol=tolerance)
            assert abs(float(stock.log_ent_coef.detach())) > 0.01
        log = [model.logger.name_to_value for model in (stock, ours)]
        for name in log[0]:
            assert log[1][name] == pytest.approx(log[0][name], rel=max(tolerance, 1e-6), abs=1e-5), name
    finally:
        torch.set_default_dtype(torch.float32)


EVERYTHING = {
    "temperature": "per_task",
    "balanced_batches": True,
    "max_gradient_norm": 1.0,
    "reward_scaling": "per_task",
    "reward_scale": 0.1,
    "n_steps": 3,
    "policy_kwargs": {"layer_norm": True, "critic_heads": True, "shared_layers": 1, "actor_heads": True},
}


def test_saved_and_loaded_model_with_every_option_acts_and_updates_the_same(tmp_path):
    model = sac(n_tasks=3, **EVERYTHING).learn(200)
    assert model._n_updates > 20
    assert_continues_alike(model, tmp_path)


def test_model_of_a_gpu_run_loads_on_a_processor(tmp_path):
    model = sac().learn(60)
    model.compile = "cuda_graph"
    model.save(tmp_path / "model.zip")
    assert SAC.load(tmp_path / "model.zip", device="cpu").compile == "off"
    with pytest.raises(ValueError, match="needs a CUDA device"):
        SAC.load(tmp_path / "model.zip", device="cpu", compile="cuda_graph")


def test_arguments_may_be_given_in_the_order_of_stable_baselines3():
    given = {"learning_rate": 1e-3, "buffer_size": 1000, "learning_starts": 40, "batch_size": 32, "tau": 0.01}
    given |= {"gamma": 0.9, "train_freq": 2, "gradient_steps": 3}
    algorithms = (SAC, stable_baselines3.SAC)
    ours, stock = (cls("MlpPolicy", envs(), *given.values(), seed=3, device="cpu") for cls in algorithms)
    assert [getattr(ours, name) for name in given] == [getattr(stock, name) for name in given]
    assert ours.learn(60)._n_updates == 3 * 5
    assert ours.replay_buffer.buffer_size == 1000


@pytest.mark.parametrize("heads", ["critic_heads", "actor_heads"])
def test_heads_for_other_tasks_than_the_environments_have_are_refused(heads):
    policy = {"actor_layers": [8], "critic_layers": [8], heads: True}
    model = SAC("MlpPolicy", envs(2), n_tasks=5, policy_kwargs=policy, device="cpu", buffer_size=100)
    with pytest.raises(ValueError, match="not the one-hot of its task 0 among 5"):
        model.learn(10)


def test_saved_model_loads_with_stable_baselines3_itself(tmp_path):
    model = sac(layers=(32, 32)).learn(100)
    model.save(tmp_path / "model.zip")
    stock, obs = stable_baselines3.SAC.load(tmp_path / "model.zip", env=envs()), model.env.reset()
    assert np.array_equal(*(each.predict(obs, deterministic=True)[0] for each in (model, stock)))


@pytest.mark.parametrize("algorithm", ["SAC", "TD3", "DDPG"])
def test_q_values_of_algorithms_that_log_none_are_those_of_all_critics_and_training_goes_on_as_before(
    algorithm,
):
    models = []
    for look in (True, False):
        own = {"replay_buffer_class": TaskReplayBuffer, "replay_buffer_kwargs": {"seed": 1}, "device": "cpu"}
        own |= {"policy_kwargs": {"net_arch": [8]}, "buffer_size": 60, "learning_starts": 8, "batch_size": 16}
        model = getattr(stable_baselines3, algorithm)("MlpPolicy", envs(), seed=1, **own)
        model.set_logger(Logger(None, []))
        model.learn(8)
        record_q_value(model)
        assert "train/q_value" not in model.logger.name_to_value, "nothing has been learned"
        model.learn(92, reset_num_timesteps=False)
        if look:
            buffer = model.replay_buffer
            assert buffer.total_added > buffer.size() == buffer.buffer_size
            # A batch as large as the buffer is each of its transitions once.
            model.batch_size = buffer.buffer_size
            record_q_value(model)
            with torch.no_grad():
                values = torch.stack(model.critic(buffer.observations, buffer.actions))
            assert model.logger.name_to_value["train/q_value"] == pytest.approx(
                float(values.mean()), rel=1e-5
            )
            model.batch_size = 16
        models.append(model.learn(40, reset_num_timesteps=False))
    assert_equal(*map(weights, models))


def test_temperature_per_task_follows_the_entropy_of_its_own_task():
    model = sac(n_tasks=3, temperature="per_task", batch_size=60)
    model.learn(60)
    batch = prepare(model, 60)
    with torch.no_grad():
        model.log_ent_coef.copy_(torch.tensor([0.0, 1.0, 2.0]))
    before = model.log_ent_coef.detach().clone()
    torch.manual_seed(5)
    _, log_prob = model.actor.action_log_prob(batch.observations)
    excess = (log_prob + model.target_entropy).detach()
    torch.manual_seed(5)
    model._update(model, batch)
    expected = torch.stack([-(excess * (batch.tasks == task)).sum() / 60 for task in range(3)])
    torch.testing.assert_close(model.log_ent_coef.grad, expected)
    assert torch.equal(torch.sign(before - model.log_ent_coef.detach()), torch.sign(expected))


def test_gradient_is_clipped_for_actor_and_critics_apart():
    limit = 1e-3
    model = sac(max_gradient_norm=limit).learn(60)
    for part in (model.actor_parameters, model.critic_parameters):
        norm = torch.sqrt(sum(parameter.grad.square().sum() for parameter in part))
        assert norm.item() == pytest.approx(limit, rel=1e-3)


def test_learning_rate_decays_geometrically_between_two_steps_and_stays_there():
    model, rates = sac(decay_factor=0.01, decay_steps=[100, 200]), {}
    model.set_logger(Logger(None, []))
    for model.num_timesteps in (0, 100, 150, 200, 10**6):
        model._update_learning_rate(model.optimizers())
        rates[model.num_timesteps] = {
            group["lr"] for each in model.optimizers() for group in each.param_groups
        }
    rate = model.learning_rate
    expected = {0: rate, 100: rate, 150: rate / 10, 200: rate / 100, 10**6: rate / 100}
    assert {step: [pytest.approx(value)] for step, value in expected.items()} == {
        step: list(found) for step, found in rates.items()
    }
    assert model.logger.name_to_value["train/learning_rate"] == pytest.approx(rate / 100)


@pytest.mark.parametrize("scaling", ["none", "per_task", "return"])
def test_rewards_are_scaled_when_sampled_and_never_stored(scaling):
    options = {"reward_scaling": scaling, "reward_scale": 0.1, "balanced_batches": True, "batch_size": 40}
    model = sac(n_tasks=2, **options).learn(200)
    buffer = model.replay_buffer
    stored, tasks = buffer.rewards[: buffer.size()].clone(), buffer.tasks[: buffer.size()]
    # the first 40 transitions are random warm-up, the same whatever is learned
    assert torch.equal(stored[:40], sac(n_tasks=2).learn(40).replay_buffer.rewards[:40])
    factors = torch.full((2,), 0.1)
    if scaling == "per_task":
        means = torch.stack([stored[tasks == task].mean() for task in range(2)])
        factors = 0.1 * means.max() / means
        model._measure_reward_scales()
    elif scaling == "return":
        factors = 0.1 * torch.from_numpy(buffer.returns.factors()).float()
        # The rewards of task 1 are ten times those of task 0.
        assert factors[0] > 3 * factors[1] > 0
        model._measure_reward_scales()
    torch.testing.assert_close(model.policy.reward_scales, factors)
    state = buffer.get_state()
    plain = buffer.sample(40)
    buffer.set_state(state)
    torch.testing.assert_close(prepare(model, 40).rewards, plain.rewards * factors[plain.tasks, None])
    assert torch.equal(stored, buffer.rewards[: len(stored)])


def test_task_without_any_reward_is_lifted_by_the_largest_ratio_only():
    model = sac(n_tasks=2, reward_scaling="per_task")
    for mean, ratio, scale, scales in ((0, 30, 1, [30, 1]), (0, 3, 0.5, [1.5, 0.5]), (np.nan, 30, 1, [1, 1])):
        model.replay_buffer.mean_reward_per_task = lambda mean=mean: np.array([mean, 2.0])
        model.max_reward_ratio, model.reward_scale = ratio, scale
        model._measure_reward_scales()
        assert model.policy.reward_scales.tolist() == scales


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"temperature": "per-task"}, "not one of shared, per_task"),
        ({"reward_scaling": "x"}, "not one of none, per_task, return"),
        ({"compile": "x"}, "not one of off"),
        ({"compile": "cuda_graph"}, "needs a CUDA device"),
        ({"temperature": "per_task", "ent_coef": 0.1, "n_tasks": 2}, "leave ent_coef at auto"),
        (
            {"policy_kwargs": {"n_tasks": 5, "critic_heads": True}, "n_tasks": 2},
            "made for 5 tasks.*n_tasks=2",
        ),
        ({"use_sde": True}, "use_sde"),
        ({"replay_buffer_class": ReplayBuffer}, "ReplayBuffer knows no tasks"),
        ({"overlap": True, "train_freq": (1, "episode"), "copies": 1}, "train_freq in steps"),
    ],
)
def test_contradicting_options_are_refused_before_anything_starts(options, message):
    with pytest.raises(ValueError, match=message):
        sac(**options)


def test_overlapped_run_updates_on_what_was_collected_before_the_step():
    """The same run written out: choose, update, then store."""
    model = sac(overlap=True, gradient_steps=2).learn(160)
    plain = sac(gradient_steps=2)
    plain.learn(0)
    plain.set_logger(Logger(None, []))
    while plain.num_timesteps < 160:
        actions, buffer_actions = plain._sample_action(plain.learning_starts, None, 2)
        if plain.num_timesteps > plain.learning_starts:
            plain.train(2, plain.batch_size)
        new_obs, rewards, dones, infos = plain.env.step(actions)
        plain.num_timesteps += 2
        plain._store_transition(plain.replay_buffer, buffer_actions, new_obs, rewards, dones, infos)
    assert model._n_updates == plain._n_updates == 2 * (80 - 21)
    assert_equal(weights(model), weights(plain))


def test_overlapped_run_cut_in_two_equals_one_in_one_piece():
    whole, halves = sac(overlap=True).learn(200), sac(overlap=True).learn(100)
    assert_equal(weights(whole), weights(halves.learn(100, reset_num_timesteps=False)))


@pytest.mark.parametrize("options", [{"overlap": True}, {"temperature": "per_task"}, EVERYTHING])
def test_loaded_model_learns_on_without_its_transitions(options, tmp_path):
    model = sac(n_tasks=3, learning_starts=12, **options).learn(60)
    model.save(tmp_path / "model.zip")
    loaded = SAC.load(tmp_path / "model.zip", device="cpu")
    loaded.set_env(envs(3))
    loaded.learn(60, reset_num_timesteps=False)
    assert loaded._n_updates > model._n_updates
    stock = stable_baselines3.SAC.load(tmp_path / "model.zip", env=envs(3))
    obs = stock.env.reset()
    assert np.array_equal(*(each.predict(obs, deterministic=True)[0] for each in (model, stock)))
    if "temperature" in options:
        with pytest.raises(ValueError, match=r"only mtrl\.algo\.SAC learns a temperature per task"):
            stock.learn(60, reset_num_timesteps=False)


def test_zip_of_stable_baselines3_is_refused_in_words(tmp_path):
    stable_baselines3.SAC("MlpPolicy", envs(), buffer_size=9, device="cpu").save(tmp_path / "model.zip")
    with pytest.raises(ValueError, match=r"SACPolicy is no StackedSACPolicy: .* with stable_baselines3\.SAC"):
        SAC.load(tmp_path / "model.zip", env=envs())


def test_without_overlap_learn_updates_after_every_rollout():
    model = sac(gradient_steps=-1).learn(100)
    assert model._n_updates == 100 - 40
    before = weights(model)
    model.train(0)
    assert_equal(before, weights(model))


@pytest.mark.parametrize(
    ("tensor_of", "name"),
    [
        (lambda model: model.actor.net.layers[0].weight, "policy.actor.net.layers.0.weight"),
        (lambda model: model.critic_target.net.layers[1].bias, "policy.critic_target.net.layers.1.bias"),
        (lambda model: model.log_ent_coef, "log_ent_coef"),
        (lambda model: model.policy.reward_scales, "policy.reward_scales"),
        (lambda model: model.critic.optimizer.tensors()[2][0], "critic.optimizer.state.0.exp_avg_sq"),
        (lambda model: model.ent_coef_optimizer.tensors()[1][0], "ent_coef_optimizer.state.0.exp_avg"),
    ],
)
def test_whatever_is_saved_is_looked_at_for_nan(tensor_of, name):
    model = sac().learn(60)
    with torch.no_grad():
        tensor_of(model).view(-1)[0] = float("nan")
    with pytest.raises(TrainingNotFiniteError, match="at step 60: continue from the last") as caught:
        check_finite(model)
    assert (caught.value.tensor, caught.value.step) == (name, 60)


@pytest.mark.parametrize("spoiled", ["actor", "critic", "critic_target", 3e38, 1e25])
def test_loss_that_is_no_number_stops_training(spoiled):
    """A weight that is NaN, and observations whose values or squares become infinite."""
    model = sac(n_tasks=2, batch_size=40).learn(60)
    if isinstance(spoiled, str):
        getattr(model, spoiled).net.layers[0].weight.data[0, 0, 0] = float("nan")
    else:
        model.replay_buffer.observations[model.replay_buffer.tasks == 1, 0] = spoiled
    with pytest.raises(TrainingNotFiniteError, match=r"^critic loss is NaN or infinite at step 60: continue"):
        model.train(1, 40)


def test_nan_of_one_task_names_the_task():
    model = sac(n_tasks=3, temperature="per_task").learn(60)
    for tensor in (model.policy.reward_scales, model.log_ent_coef, model.ent_coef_optimizer.tensors()[1][0]):
        with torch.no_grad():
            kept = tensor.clone()
            tensor[2] = float("inf")
            with pytest.raises(TrainingNotFiniteError) as caught:
                check_finite(model)
            assert caught.value.tasks == [2]
            tensor.copy_(kept)
    check_finite(model)


def test_nan_action_never_reaches_the_environment():
    """It is traced to a weight, or else to its copy and task."""
    model = sac(n_tasks=2).learn(60)
    model._last_obs[3, 0] = float("nan")
    steps = [env.steps for env in model.env.envs]
    with pytest.raises(TrainingNotFiniteError, match=r"^action of copy 3 of task 1 is NaN or .* at step 60"):
        model.learn(10, reset_num_timesteps=False)
    with torch.no_grad():
        model.actor.net.layers[0].bias.fill_(float("inf"))
    with pytest.raises(TrainingNotFiniteError, match=r"policy.actor.net.layers.0.bias.*at step 60"):
        model.learn(10, reset_num_timesteps=False)
    assert [env.steps for env in model.env.envs] == steps


def test_returns_over_several_steps_end_where_learn_resets_the_environments():
    model = sac(n_steps=3, gamma=0.9, copies=1).learn(10)
    model.learn(10)
    buffer = model.replay_buffer
    assert (buffer.n_steps, buffer.gamma) == (3, 0.9)
    assert buffer.rows(0, 20)["previous"].tolist() == ([0] + [1] * 9) * 2
    _, length = buffer._chain.ahead(np.arange(20), 3)
    assert length.tolist() == [*[3] * 8, 2, 1] * 2
    model.learn(5, reset_num_timesteps=False)
    assert buffer.rows(20, 25)["previous"].tolist() == [1] * 5


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
@pytest.mark.parametrize("options", [{}, EVERYTHING], ids=["plain options", "every option"])
def test_recorded_update_equals_the_eager_one_on_a_gpu(options):
    ways = ("off", "cuda_graph")
    models = [sac(n_tasks=3, device="cuda", compile=way, **options).learn(150) for way in ways]
    for name, value in models[0].policy.state_dict().items():
        torch.testing.assert_close(models[1].policy.state_dict()[name], value, rtol=1e-3, atol=1e-4)


class Recording(GraphedUpdate):
    """The bookkeeping around a CUDA graph, with a graph that runs its update when it is replayed."""

    recorded = 0

    def _aside(self, learner, batch):
        return update(learner, batch)

    def _record(self, learner):
        self.recorded += 1
        self._graph, self._learner = self, learner

    def replay(self):
        self._losses = update(self._learner, self._batch)


def reload(model):
    model.actor.optimizer.load_state_dict(copy.deepcopy(model.actor.optimizer.state_dict()))


def scale(model):
    model.critic_parameters[0].data = 2 * model.critic_parameters[0].data


def lower_learning_rate(model):
    model.learning_rate = 1e-4
    model._setup_lr_schedule()


@pytest.mark.parametrize(
    ("change", "anew"),
    [
        (lambda model: setattr(model, "max_gradient_norm", 0.5), True),
        (lambda model: setattr(model, "target_entropy", -1.0), True),
        (lambda model: setattr(model.log_ent_coef, "data", torch.full((3,), -1.0)), True),
        (scale, True),
        (reload, True),
        (lambda model: setattr(model, "gamma", 0.5), True),
        (lower_learning_rate, False),
        (lambda model: setattr(model, "lr_schedule", lambda progress: 1e-3 * progress), False),
    ],
    ids=["clipping", "target", "temperature", "weights", "optimiser", "gamma", "learning rate", "schedule"],
)
def test_recording_is_made_anew_only_for_what_it_cannot_read(change, anew):
    options = {name: value for name, value in EVERYTHING.items() if name != "reward_scaling"}
    models, way = [], Recording()
    for update_ in (update, way):
        model = sac(n_tasks=3, **options)
        model._update = update_
        model.learn(80)
        change(model)
        for remaining in (0.9, 0.5, 0.1):
            model._current_progress_remaining = remaining
            model.train(2, 48)
        models.append(model)
    assert_equal(*map(weights, models))
    assert way.recorded == (2 if anew else 1)


def test_one_warning_says_that_unbalanced_batches_of_heads_are_not_recorded(caplog):
    way = Recording()
    model = sac(n_tasks=3, policy_kwargs={"critic_heads": True})
    model._update = way
    model.learn(100)
    assert way.recorded == 0
    assert caplog.text.count("algo.balanced_batches=true") == 1


def test_recording_is_made_and_repeated_on_the_learners_own_gpu(monkeypatch):
    current, seen = ["cuda:0"], []

    @contextlib.contextmanager
    def device(name):
        current.append(str(name))
        yield
        current.pop()

    def stream():
        seen.append(("stream", current[-1]))
        return mock.Mock()

    model = sac().learn(60)
    batch = prepare(model, 48)
    model.device = torch.device("cuda:1")
    graph = mock.Mock(replay=lambda: seen.append(("replay", current[-1])))
    for name, stand_in in {
        "device": device,
        "Stream": stream,
        "current_stream": stream,
        "stream": lambda stream: contextlib.nullcontext(),
        "CUDAGraph": lambda: graph,
        "graph": lambda graph, stream: contextlib.nullcontext(),
    }.items():
        monkeypatch.setattr(torch.cuda, name, stand_in)
    way = GraphedUpdate()
    for _ in range(5):
        way(model, batch)
    assert seen.count(("replay", "cuda:1")) == 2
    assert {where for _, where in seen} == {"cuda:1"}


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler")
def test_compiled_update_learns_like_the_eager_one():
    plain, model = (sac(compile=way, layers=(16,), ent_coef=0.0) for way in ("off", "inductor"))
    for each in (plain, model):
        each.replay_buffer = FixedBatches(torch.float32)
        each.set_logger(Logger(None, []))
        # the compiled noise is another draw: without it and its entropy both are the same function
        with torch.no_grad():
            each.actor.net.layers[-1].weight[:, :, ACTIONS:] = 0
            each.actor.net.layers[-1].bias[:, :, ACTIONS:] = -20
        each.train(3, 64)
    for name in ("train/critic_loss", "train/q_value"):
        assert model.logger.name_to_value[name] == pytest.approx(plain.logger.name_to_value[name], rel=1e-4)
    for name, value in plain.critic.named_parameters():
        # Adam turns the sign of a gradient near zero into a whole step, so single weights may differ
        assert (dict(model.critic.named_parameters())[name] - value).abs().mean() < 1e-5
