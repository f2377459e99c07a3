"""faucet-open-v3: turn a faucet open."""

from mtrl.env.native import maths as m
from mtrl.env.native.records import Copy

TARGET_RADIUS = 0.07

_REACH_RADIUS = 0.01

# The handle, and the base, which does not turn.
places = {"object": "site handleStartOpen xpos", "object_rotation": "body faucetBase xquat"}


@m.observes
def observe(copy: Copy) -> None:
    """Return a position at the handle and the quaternion of the base."""
    m.show(
        copy,
        m.plus(m.vector(copy.places.object), (0.0, 0.0, -0.01)),
        m.stored_quaternion(copy.places.object_rotation),
    )


@m.compiled
def turning(copy: Copy, obj: m.Vector) -> tuple[float, bool]:
    """Return the reward for fingers at ``obj`` and for bringing it to the target, and whether it is there."""
    target, obj_init = m.triple(copy.goal.target_pos), m.triple(copy.goal.obj_init_pos)
    target_to_obj = m.distance(obj, target)
    in_place_margin = abs(m.distance(obj_init, target) - TARGET_RADIUS)
    in_place = m.tolerance(target_to_obj, 0.0, TARGET_RADIUS, in_place_margin)

    tcp_to_obj = m.distance(obj, m.tcp_center(copy))
    reach_margin = abs(m.distance(obj_init, m.triple(copy.goal.init_tcp)) - _REACH_RADIUS)
    reach = m.gaussian_tolerance(tcp_to_obj, 0.0, _REACH_RADIUS, reach_margin)

    solved = target_to_obj <= TARGET_RADIUS
    return 10.0 if solved else (2.0 * reach + 3.0 * in_place) * 2.0, solved


@m.rewards
def reward(copy: Copy) -> tuple[float, bool]:
    """Return the reward for fingers beside the handle and for turning it, and whether the faucet is open."""
    return turning(copy, m.plus(m.triple(copy.observation, 4), (-0.04, 0.0, 0.03)))
