"""Names of OpenTelemetry's semantic conventions for generative AI that both metrics and spans use."""

from __future__ import annotations

VERSION = "1.41.0"
"""Version of the conventions: the last one before they moved to a repository of their own. Their status is
"Development", so names may still change."""

SCHEMA_URL = f"https://opentelemetry.io/schemas/{VERSION}"

_PROVIDERS = {
    "azure": "azure.ai.openai",
    "bedrock": "aws.bedrock",
    "bedrock_converse": "aws.bedrock",
    "google_anthropic_vertex": "gcp.vertex_ai",
    "google_genai": "gcp.gemini",
    "google_vertexai": "gcp.vertex_ai",
    "ibm": "ibm.watsonx.ai",
    "mistralai": "mistral_ai",
    "xai": "x_ai",
}
"""LangChain's name of a provider → the name in the conventions, where they differ."""


def provider_name(provider: str) -> str:
    """Return the name of a provider in the conventions, given LangChain's: `"bedrock"` → `"aws.bedrock"`."""
    return _PROVIDERS.get(provider, provider)
