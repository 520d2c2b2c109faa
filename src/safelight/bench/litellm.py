"""What the LiteLLM proxy is told wherever a bench starts it: to ask nobody and to log little.

Owns its environment alone; each bench owns its configuration and its start.
"""

from __future__ import annotations

from types import MappingProxyType

LITELLM_QUIET = MappingProxyType(
    {
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",
        "LITELLM_LOCAL_ANTHROPIC_BETA_HEADERS": "True",
        "LITELLM_TELEMETRY": "False",
        "LITELLM_MODE": "PRODUCTION",
        "LITELLM_LOG": "ERROR",
        "LITELLM_DONT_SHOW_FEEDBACK_BOX": "True",
        "DISABLE_ADMIN_UI": "True",
        "NO_DOCS": "True",
        "NO_PROXY": "*",
        "HF_HUB_OFFLINE": "1",
    }
)
