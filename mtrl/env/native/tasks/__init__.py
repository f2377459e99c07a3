"""One module per task: where its object is, what is observed of it, and Meta-World's rewards.

The module's name is the task's: ``button_press_topdown.py`` is button-press-topdown-v3. A file that lies here is a
native task; nothing else registers it, and a run compiles and loads those of its own tasks only. It has:

* ``places``: where in an ``MjData`` is what the task's functions need beyond the hand, by the names in
  ``records.PLACES`` (see ``records.Place``)
* ``observe(copy)``: writes position and rotation of the object into ``copy.frame``
* ``reward(copy)``: the reward and whether the task is solved, from ``copy.observation``, ``copy.action``,
  ``copy.places`` and what the reset has left in ``copy.goal`` (``records.GOAL``). The action holds float64 whatever it
  came in; ``copy.single`` says that it came in float32, see ``maths.rounded``.
* ``reward_v1(copy)``, in MT10's tasks: the same for Meta-World's v1 reward
"""
