"""Q-values of algorithms that do not record them: the critics' own, and training does not notice the look."""

import pytest
import torch
from stable_baselines3 import DDPG, SAC, TD3
from stable_baselines3.common.logger import Logger

import mtrl
from mtrl.algo.replay import TaskReplayBuffer
from mtrl.algo.sac import SAC as OwnSAC
from mtrl.algo.sac import record_q_value

SMALL = {"buffer_size": 60, "learning_starts": 8, "batch_size": 16, "seed": 1}


@pytest.fixture(scope="module")
def env():
    made = mtrl.make_vec_env(["reach-v3"], 2, horizon=10)
    yield made
    made.close()


def make(algorithm, env):
    own = {"replay_buffer_class": TaskReplayBuffer, "replay_buffer_kwargs": {"seed": 1}}
    networks = {"actor_layers": [8], "critic_layers": [8]} if algorithm is OwnSAC else {"net_arch": [8]}
    model = algorithm("MlpPolicy", env, policy_kwargs=networks, **own, **SMALL)
    model.set_logger(Logger(folder=None, output_formats=[]))
    return model


def recorded(model):
    record_q_value(model)
    return model.logger.name_to_value.get("train/q_value")


@pytest.mark.parametrize("algorithm", [SAC, TD3, DDPG])
def test_it_is_the_mean_of_all_critics_over_the_whole_buffer(algorithm, env):
    model = make(algorithm, env)
    model.learn(8)
    assert recorded(model) is None, "nothing has been learned"
    model.learn(92, reset_num_timesteps=False)
    buffer = model.replay_buffer
    assert buffer.total_added > buffer.size() == buffer.buffer_size
    # A batch as large as the buffer is each of its transitions once.
    model.batch_size = buffer.buffer_size
    with torch.no_grad():
        values = torch.stack(model.critic(buffer.observations, buffer.actions))
    assert recorded(model) == pytest.approx(float(values.mean()), rel=1e-5)


@pytest.mark.parametrize("algorithm", [SAC, TD3, DDPG])
def test_training_goes_on_as_if_nobody_had_looked(algorithm, env):
    weights = []
    for look in (True, False):
        model = make(algorithm, env)
        model.learn(40)
        if look:
            assert recorded(model) is not None
        model.learn(40, reset_num_timesteps=False)
        weights.append(torch.nn.utils.parameters_to_vector(model.policy.parameters()))
    assert torch.equal(*weights)


def test_what_records_its_own_is_left_alone(env):
    model = make(OwnSAC, env)
    model.learn(40)
    own = model.logger.name_to_value["train/q_value"]
    assert recorded(model) == own
