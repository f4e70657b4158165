"""What a rollout offers its agent beside the model: tools, a user, a stop condition, embeddings, moderations."""

from ._rollout.embedding import Embed
from ._rollout.moderation import Found, Moderate
from ._rollout.options import StopCondition, UserSimulator
from ._rollout.services import Said
from ._rollout.tools import HostTool, ToolLike

__all__ = ["Embed", "Found", "HostTool", "Moderate", "Said", "StopCondition", "ToolLike", "UserSimulator"]
