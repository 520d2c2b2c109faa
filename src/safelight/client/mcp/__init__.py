"""Pictures for assistants: an MCP server over stdio.

`desk` is what its tools do, without the protocol; `folders`, `purse` and `previews` are the bounds
it keeps; `server` puts them on the official `mcp` package, which only that module imports. Which
tools there are and how they are set up: docs/integrations.md.
"""
