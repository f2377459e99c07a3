"""Meta-World as stable-baselines3 vector environments.

Every backend gives the same contract, which the tests hold them to:

* Copy *i* plays the task it is assigned. ``env_method("set_task", task, goal, indices=[i])`` changes that at the
  copy's next reset; ``goal`` (0 to 49) fixes the goal, None draws it from the copy's own generator.
* Observations are float32, ``(n_envs, 39)``, or ``(n_envs, 39 + n_tasks)`` with the task's one-hot appended.
* An episode lasts ``horizon`` steps, a truncation: ``TimeLimit.truncated`` and ``terminal_observation`` are set.
* Each step's ``info`` holds ``task_id`` (index in the task set), ``success`` (now), ``is_success`` (at any step of
  this episode); the last one of an episode also ``episode`` (``r`` return, ``l`` length, ``t`` seconds) and ``goal``.
* ``env_method("get_state")`` and ``env_method("set_state", state)`` save and restore a copy in mid-episode, exactly.
"""
