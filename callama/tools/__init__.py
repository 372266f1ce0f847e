"""A user's own functions as tools: lists, MCP replies, OpenAPI documents and Python modules, read in one place."""
