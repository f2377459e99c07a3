"""Which environment copy plays which task, and when that changes."""

from mtrl.curriculum.rotation import Rotation
from mtrl.curriculum.staged import AdaptiveCurriculum, Curriculum, Transition, begin_curriculum

__all__ = ["AdaptiveCurriculum", "Curriculum", "Rotation", "Transition", "begin_curriculum"]
