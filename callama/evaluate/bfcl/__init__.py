"""The Berkeley Function-Calling Leaderboard's categories, scored by its official checker."""
