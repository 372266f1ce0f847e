"""Training data about a user's own functions that a larger model writes, under the same audits as all other data."""
