"""What a copy plays depends on its seed and on set_task, and on nothing else."""

import json

import pytest

from mtrl.env.metaworld import Schedule
from mtrl.tasks import GOALS


def goals_of(schedule, count=200):
    return [schedule.next_episode()[1] for _ in range(count)]


def test_a_seed_fixes_the_order_of_goals_and_all_are_met():
    assert goals_of(Schedule(4, 0, 5)) == goals_of(Schedule(4, 0, 5)) != goals_of(Schedule(4, 0, 6))
    assert set(goals_of(Schedule(4, 0, 5), 1000)) == set(range(GOALS))


def test_a_fixed_goal_stays_until_it_is_released():
    schedule = Schedule(4, 0, 1)
    schedule.set_task(2, 7)
    assert [schedule.next_episode() for _ in range(3)] == [(2, 7)] * 3
    schedule.set_task(1)
    assert len(set(goals_of(schedule))) > 10
    assert schedule.next_episode()[0] == 1


def test_the_state_travels_through_json():
    schedule = Schedule(4, 0, 1)
    schedule.set_task(3)
    goals_of(schedule, 5)
    state = json.loads(json.dumps(schedule.get_state()))
    expected = [schedule.next_episode() for _ in range(20)]
    other = Schedule(4, 0, 99)
    other.set_state(state)
    assert [other.next_episode() for _ in range(20)] == expected


@pytest.mark.parametrize("goal", [-1, GOALS])
def test_a_goal_that_does_not_exist_is_refused(goal):
    with pytest.raises(ValueError, match="goals 0 to 49"):
        Schedule(4, 0, 1).set_task(0, goal)
