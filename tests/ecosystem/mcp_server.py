"""An MCP server over stdio: tools that answer, fail, and return media."""

from __future__ import annotations

import base64

from mcp.server.fastmcp import FastMCP, Image

server = FastMCP("tools", log_level="ERROR")


@server.tool()
def add(a: int, b: int) -> str:
    """Add two numbers."""
    return f"{a} + {b} = {a + b}"


@server.tool()
def fail(reason: str) -> str:
    """Fail."""
    raise ValueError(reason)


@server.tool()
def picture() -> Image:
    """Return a picture."""
    return Image(data=base64.b64decode("iVBORw0KGgo=") + b"\0" * 3000, format="png")


if __name__ == "__main__":
    server.run("stdio")
