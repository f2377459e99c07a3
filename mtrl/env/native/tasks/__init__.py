"""One module per task: where its object is, what is observed of it, and Meta-World's v2 reward.

Each module has three functions. ``places(data)`` names the arrays of an ``MjData`` whose addresses the step
needs beyond those of the hand. ``observe(places)`` returns position and quaternion of the object.
``reward(places, goal, obs, action, single)`` returns the reward and whether the task is solved; ``action``
holds float64 whatever it came in, and ``single`` says that it came in float32 (see ``geometry.rounded``).
"""
