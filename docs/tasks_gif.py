"""Make docs/tasks.gif, the ten tasks of MT10 side by side: python docs/tasks_gif.py [RUN].

RUN is a run directory whose policy plays; without it, Meta-World's scripted experts play. Needs the extra ``video``.
"""

import random
import sys
from pathlib import Path

import numpy as np
from PIL import Image

from mtrl.env.camera import Camera, choose_graphics

choose_graphics()

from metaworld.policies import ENV_POLICY_MAP  # noqa: E402 - MuJoCo reads what choose_graphics has set

import mtrl  # noqa: E402
from mtrl.tasks import MT10  # noqa: E402

EXPERTS = {task: ENV_POLICY_MAP[task]() for task in MT10}
SIZE, COLUMNS, STEPS, EVERY, COLOURS = 150, 5, 90, 3, 96


def scripted_action(task: str, obs: np.ndarray) -> np.ndarray:
    """Return the action of Meta-World's expert for a task and its observation (39,)."""
    return np.clip(EXPERTS[task].get_action(obs.astype(np.float64)), -1, 1)


def main(run: str | None) -> None:
    """Play, draw and write."""
    policy = mtrl.load(run) if run else None
    random.seed(0)
    env = mtrl.make_vec_env(MT10, 1, seed=1, backend="stock")
    obs, camera, frames = env.reset(), Camera(SIZE), []
    for step in range(STEPS):
        if step % EVERY == 0:
            pictures = [camera.picture(*simulation) for simulation in env.env_method("simulation")]
            rows = [np.hstack(pictures[i : i + COLUMNS]) for i in range(0, len(pictures), COLUMNS)]
            frames.append(Image.fromarray(np.vstack(rows)))
        if policy:
            actions = policy.predict(obs)[0]
        else:
            actions = np.array([scripted_action(task, row[:39]) for task, row in zip(MT10, obs, strict=True)])
        obs, *_ = env.step(actions.astype(np.float32))
    palette = frames[len(frames) // 2].quantize(COLOURS)
    small = [frame.quantize(palette=palette, dither=Image.Dither.NONE) for frame in frames]
    target = Path(__file__).with_name("tasks.gif")
    small[0].save(target, save_all=True, append_images=small[1:], duration=110, loop=0, optimize=True)
    camera.close()
    print(f"{target}: {target.stat().st_size / 1024:.0f} KiB")


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else None)
