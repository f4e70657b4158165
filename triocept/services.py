"""What a rollout offers its agent beside the model: tools, a user, a stop condition."""

from ._rollout.options import StopCondition, UserSimulator
from ._rollout.services import Said
from ._rollout.tools import HostTool, ToolLike

__all__ = ["HostTool", "Said", "StopCondition", "ToolLike", "UserSimulator"]
