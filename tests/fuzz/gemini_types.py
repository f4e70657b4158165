"""The document of Gemini's `generateContent`: its SDK has types of what is in it, and none of the whole."""

from typing import Any

from google.genai import types
from pydantic import BaseModel, ConfigDict
from pydantic.alias_generators import to_camel


class GenerateContent(BaseModel):
    """What is posted."""

    model_config = ConfigDict(alias_generator=to_camel, arbitrary_types_allowed=True)

    contents: list[types.Content]
    system_instruction: types.Content | None = None
    tools: list[types.Tool] | None = None
    tool_config: types.ToolConfig | None = None
    safety_settings: list[types.SafetySetting] | None = None
    generation_config: types.GenerationConfig | None = None
    cached_content: str | None = None
    labels: dict[str, str] | None = None
    x_more: Any = None
