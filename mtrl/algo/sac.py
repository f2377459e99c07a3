"""Soft actor-critic for many tasks: stable-baselines3's, its update made lean, with what many tasks need."""

import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import fields
from functools import partial
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from stable_baselines3 import SAC as StableBaselinesSAC
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.save_util import recursive_getattr
from stable_baselines3.common.type_aliases import GymEnv, RolloutReturn, TrainFrequencyUnit
from stable_baselines3.common.utils import update_learning_rate
from stable_baselines3.common.vec_env import VecEnv, VecEnvWrapper

from mtrl.algo.graph import GraphedUpdate
from mtrl.algo.optimizer import FusedAdam
from mtrl.algo.policies import StackedSACPolicy
from mtrl.algo.replay import TaskReplayBuffer
from mtrl.algo.update import move_targets, prepare, update
from mtrl.config.types import OWN_OPTIONS, SACConfig, one_of
from mtrl.errors import TrainingNotFiniteError


class WorkWhileStepping(VecEnvWrapper):
    """Calls ``work``, once, while the environments step: between ``step_async`` and ``step_wait``."""

    work: Callable[[], None] | None = None

    def reset(self) -> Any:
        """Reset the environments."""
        return self.venv.reset()

    def step_wait(self) -> Any:
        """Work, then wait for the environments."""
        work, self.work = self.work, None
        if work is not None:
            work()
        return self.venv.step_wait()


class SAC(StableBaselinesSAC):
    """SAC with options for many tasks; with all of them left alone it makes stable-baselines3's update.

    The further arguments are stable-baselines3's, in its order. The options are those of ``algo=sac``, which
    ``mtrl.config.types.SACConfig`` describes; those that contradict each other are a ValueError. And:

    Args:
        policy: A ``StackedSACPolicy`` or "MlpPolicy".
        env: Environment to learn from.
        n_tasks: Number of tasks; with more than one, each ``info`` must name its ``task_id``.
        compile: ``off``, ``inductor`` (torch.compile), or ``cuda_graph`` (the update is recorded once and
            replayed). It belongs to the machine, as ``device`` does, and is not saved with the model.

    With ``overlap``, the updates that stable-baselines3 would make after a rollout are made during the first
    vector step of the next one, after its actions were chosen and before its transitions are stored. How many are
    due follows from ``num_timesteps``, so a checkpoint needs no note of them; the last rollout has none after it.
    """

    policy_aliases: ClassVar[dict[str, type[BasePolicy]]] = {"MlpPolicy": StackedSACPolicy}
    learning_seconds: float = 0.0
    """Seconds spent in updates so far, which overlap hides inside the steps of the environments."""
    _learning: bool = False
    _working_env: WorkWhileStepping | None = None

    def __init__(
        self,
        policy: str | type[StackedSACPolicy],
        env: GymEnv | str,
        *args: Any,
        n_tasks: int = 1,
        temperature: str = "shared",
        balanced_batches: bool = False,
        max_gradient_norm: float | None = None,
        reward_scaling: str = "none",
        reward_scale: float = 1.0,
        max_reward_ratio: float = 30.0,
        reward_scales_every: int = 500,
        adam_epsilon: float = 1e-8,
        decay_factor: float = 1.0,
        decay_steps: Sequence[int] = (0, 0),
        overlap: bool = False,
        compile: str = "off",
        _init_setup_model: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(policy, env, *args, _init_setup_model=False, **kwargs)
        # An option that the update reads must also be in graph.py:_binding, or a CUDA graph replays the old value.
        self.n_tasks, self.temperature, self.balanced_batches = n_tasks, temperature, balanced_batches
        self.reward_scaling, self.reward_scale = reward_scaling, reward_scale
        self.max_reward_ratio, self.reward_scales_every = max_reward_ratio, reward_scales_every
        self.max_gradient_norm, self.adam_epsilon = max_gradient_norm, adam_epsilon
        self.decay_factor, self.decay_steps = decay_factor, list(decay_steps)
        self.overlap, self.compile = overlap, compile
        self.replay_buffer_class = self.replay_buffer_class or TaskReplayBuffer
        if _init_setup_model:
            self._setup_model()

    def _setup_model(self) -> None:
        self._check_options()
        networks = self.policy_kwargs = {"n_tasks": self.n_tasks} | self.policy_kwargs
        if self.temperature == "per_task":
            networks["temperature"] = "per_task"
        if "optimizer_class" not in networks:
            given = networks.get("optimizer_kwargs") or {}
            networks["optimizer_kwargs"] = {"eps": self.adam_epsilon} | given
        if self.replay_buffer is None:
            names = ("n_tasks", "n_steps", "gamma", "seed", "n_envs", "device", "optimize_memory_usage")
            options: dict[str, Any] = {name: getattr(self, name) for name in names}
            options["one_hot"] = bool(networks.get("critic_heads") or networks.get("actor_heads"))
            options |= {"balanced": self.balanced_batches, "measure_returns": self.reward_scaling == "return"}
            spaces, options = (self.observation_space, self.action_space), options | self.replay_buffer_kwargs
            self.replay_buffer = self.replay_buffer_class(self.buffer_size, *spaces, **options)
        with warnings.catch_warnings():
            # it does apply: the buffer above was given it
            warnings.filterwarnings("ignore", message=".*is ignored because a custom `replay_buffer_class`.*")
            super()._setup_model()
        if self.overlap and self.train_freq.unit is not TrainFrequencyUnit.STEP:
            raise ValueError("overlap needs train_freq in steps, not in episodes")
        self.has_heads = self.actor.n_heads > 1 or self.critic.n_heads > 1
        self.actor_parameters = list(self.actor.parameters())
        self.critic_parameters = list(self.critic.parameters())
        self.target_parameters = list(self.critic_target.parameters())
        self.policy.reward_scales.fill_(self.reward_scale)
        if self.ent_coef_optimizer is not None:
            if self.temperature == "per_task":
                self.log_ent_coef = self.log_ent_coef.detach().repeat(self.n_tasks).requires_grad_(True)
            rate = self.lr_schedule(1)
            self.ent_coef_optimizer = FusedAdam([self.log_ent_coef], lr=rate, eps=self.adam_epsilon)
        self._update = GraphedUpdate() if self.compile == "cuda_graph" else update
        if self.compile == "inductor":
            # the optimisers stay outside: torch.compile breaks its graph at every backward
            self.actor.action_log_prob = torch.compile(self.actor.action_log_prob)
            for critic in (self.critic, self.critic_target):
                critic.q_values = torch.compile(critic.q_values)

    def _check_options(self) -> None:
        """Refuse what would silently learn something else than was asked for; ``mtrl.checks`` refuses the rest."""
        one_of("off", "inductor", "cuda_graph")("compile", self.compile)
        for option in fields(SACConfig):
            check, value = option.metadata["check"], getattr(self, option.name, None)
            if option.name in OWN_OPTIONS and check and value is not None:
                check(option.name, value)
        tasks, buffer = self.policy_kwargs.get("n_tasks", self.n_tasks), self.replay_buffer_class
        if tasks != self.n_tasks:
            raise ValueError(f"the policy is made for {tasks} tasks, the learner for n_tasks={self.n_tasks}")
        if self.temperature == "per_task" and not str(self.ent_coef).startswith("auto"):
            raise ValueError("a temperature per task is learned: leave ent_coef at auto")
        if self.compile == "cuda_graph" and self.device.type != "cuda":
            raise ValueError("compile=cuda_graph needs a CUDA device: use compile=off")
        if not issubclass(self.policy_class, StackedSACPolicy):
            policy = self.policy_class.__name__
            raise ValueError(f"{policy} is no StackedSACPolicy: train or load it with stable_baselines3.SAC")
        if not issubclass(buffer, TaskReplayBuffer):
            raise ValueError(f"{buffer.__name__} knows no tasks: leave replay_buffer_class out")

    def learn(self, *args: Any, **kwargs: Any) -> "SAC":
        """Train as stable-baselines3's ``learn`` does."""
        self._learning = True
        try:
            return super().learn(*args, **kwargs)
        finally:
            self._learning = False

    def _setup_learn(self, *args: Any, **kwargs: Any) -> tuple[int, Any]:
        before = self._last_obs
        result = super()._setup_learn(*args, **kwargs)
        # the environments were reset: what comes next does not follow what is in the buffer
        if self._last_obs is not before:
            self.replay_buffer.end_episodes()
        return result

    def collect_rollouts(self, env: VecEnv, *args: Any, **kwargs: Any) -> RolloutReturn:
        """Collect as stable-baselines3 does; with ``overlap``, the first step hides the due updates."""
        if not self.overlap:
            return super().collect_rollouts(env, *args, **kwargs)
        if self._working_env is None or self._working_env.venv is not env:
            self._working_env = WorkWhileStepping(env)
        per_rollout = self.train_freq.frequency * env.num_envs
        due = self.gradient_steps if self.gradient_steps >= 0 else per_rollout
        # a model that was loaded without its transitions has nothing to learn from yet
        if due and self.num_timesteps > max(self.learning_starts, 0) and self.replay_buffer.size():
            self._working_env.work = partial(self._make_updates, due, self.batch_size)
        return super().collect_rollouts(self._working_env, *args, **kwargs)

    def _sample_action(self, *args: Any) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        action, buffer_action = super()._sample_action(*args)
        finite = np.isfinite(action).all(axis=1)
        if not finite.all():
            check_finite(self)
            copy = int(np.argmin(finite))
            tasks = [task for task in self.replay_buffer.playing[[copy]].tolist() if task >= 0]
            raise TrainingNotFiniteError(f"action of copy {copy}", self.num_timesteps, tasks)
        return action, buffer_action

    def train(self, gradient_steps: int, batch_size: int = 64) -> None:
        """Make updates, which an overlapping ``learn`` leaves to its next vector step; a loss must be finite."""
        if not (self.overlap and self._learning):
            self._make_updates(gradient_steps, batch_size)

    def _make_updates(self, gradient_steps: int, batch_size: int) -> None:
        started = time.perf_counter()
        self.policy.train()
        self._update_learning_rate(self.optimizers())
        if gradient_steps < 1:
            return
        total = torch.zeros(4 + len(self.temperatures()), device=self.device)
        for step in range(gradient_steps):
            if self.reward_scaling != "none" and (self._n_updates + step) % self.reward_scales_every == 0:
                self._measure_reward_scales()
            total += self._update(self, prepare(self, batch_size))
            if step % self.target_update_interval == 0:
                move_targets(self)
        self._n_updates += gradient_steps
        self._record(total / gradient_steps)
        self.learning_seconds += time.perf_counter() - started

    def _update_learning_rate(self, optimizers: list[FusedAdam]) -> None:
        """Set the learning rate of this step; the decay is counted in steps, so that a longer run begins the same."""
        super()._update_learning_rate(optimizers)
        begin, end = self.decay_steps
        if self.decay_factor == 1 or self.num_timesteps <= begin:
            return
        share = min((self.num_timesteps - begin) / max(end - begin, 1), 1.0)
        rate = self.lr_schedule(self._current_progress_remaining) * self.decay_factor**share
        for optimizer in optimizers:
            update_learning_rate(optimizer, rate)
        self.logger.record("train/learning_rate", rate)

    def optimizers(self) -> list[FusedAdam]:
        """Return the optimisers of actor, critics and, where it is learned, temperature."""
        every = (self.actor.optimizer, self.critic.optimizer, self.ent_coef_optimizer)
        return [optimizer for optimizer in every if optimizer is not None]

    def temperatures(self) -> torch.Tensor:
        """Return the temperature, shape (1,), or that of each task, (n_tasks,)."""
        if self.ent_coef_optimizer is None:
            return self.ent_coef_tensor.view(1)
        return self.log_ent_coef.detach().exp()

    def _measure_reward_scales(self) -> None:
        """Set the factor on each task's rewards from what was collected."""
        if self.reward_scaling == "return":
            factors = self.replay_buffer.returns.factors()
        else:
            means = self.replay_buffer.mean_reward_per_task()
            means[np.isnan(means)] = largest = max(np.nanmax(means), 0.0)
            # Without max_reward_ratio, a task without any reward would have an infinite ratio.
            factors = np.ones(self.n_tasks)
            if largest > 0:
                factors = largest / np.maximum(means, largest / self.max_reward_ratio)
        self.policy.reward_scales.copy_(torch.from_numpy(factors * self.reward_scale))

    def _record(self, means: torch.Tensor) -> None:
        """Log the means over one call of ``train``, as stable-baselines3 does."""
        actor, critic, temperature, q_value, *temperatures = means.tolist()
        for name, loss in {"critic": critic, "actor": actor, "temperature": temperature}.items():
            if not np.isfinite(loss):
                raise TrainingNotFiniteError(f"{name} loss", self.num_timesteps, [])
        # A new value also needs a column in mtrl.training.callbacks, _LEARNING, or it is not written.
        values = {"actor_loss": actor, "critic_loss": critic, "q_value": q_value}
        values["ent_coef"] = sum(temperatures) / len(temperatures)
        if self.ent_coef_optimizer is not None:
            values["ent_coef_loss"] = temperature
        if len(temperatures) > 1:
            values |= {f"ent_coef/{task}": value for task, value in enumerate(temperatures)}
        self.logger.record("train/n_updates", self._n_updates, exclude="tensorboard")
        for name, value in values.items():
            self.logger.record(f"train/{name}", value)

    def _excluded_save_params(self) -> list[str]:
        ours = ["_update", "_working_env", "_learning", "learning_seconds", "compile"]
        parameters = [f"{part}_parameters" for part in ("actor", "critic", "target")]
        return [*super()._excluded_save_params(), *parameters, *ours]


def check_finite(model: OffPolicyAlgorithm) -> None:
    """Raise TrainingNotFiniteError at the first tensor, of all that ``model`` saves, with a NaN or an infinity."""
    variables = {name: recursive_getattr(model, name) for name in model._get_torch_save_params()[1]}
    left, n_tasks = list((model.get_parameters() | variables).items()), getattr(model, "n_tasks", 1)
    while left:
        name, state = left.pop(0)
        if isinstance(state, dict | list):
            parts = state.items() if isinstance(state, dict) else enumerate(state)
            left = [(f"{name}.{part}", inner) for part, inner in parts] + left
        elif torch.is_tensor(state) and not bool((finite := torch.isfinite(state.detach())).all()):
            per_task = n_tasks > 1 and state.shape == (n_tasks,)
            tasks = torch.nonzero(~finite).flatten().tolist() if per_task else []
            raise TrainingNotFiniteError(name, model.num_timesteps, tasks)


def record_q_value(model: OffPolicyAlgorithm) -> None:
    """Log ``train/q_value``, the mean over critics and one batch, where the algorithm itself logs losses alone.

    The batch is spread evenly over the replay buffer and draws no random number: training is the same without it.
    """
    buffer, critic = model.replay_buffer, getattr(model, "critic", None)
    # mtrl's own SAC records it with every update; another buffer, or an algorithm without critic, is unknown here.
    unknown = isinstance(model, SAC) or critic is None or not isinstance(buffer, TaskReplayBuffer)
    if unknown or model._n_updates == 0 or buffer.size() == 0:
        return
    batch = buffer.spread(model.batch_size, model._vec_normalize_env)
    with torch.no_grad():
        values = critic(batch.observations, batch.actions)
    means = [float(value.mean()) for value in (values if isinstance(values, tuple) else (values,))]
    model.logger.record("train/q_value", float(np.mean(means)))
