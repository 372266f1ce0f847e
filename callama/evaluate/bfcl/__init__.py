"""The Berkeley Function-Calling Leaderboard's single-turn categories, scored by its official checker."""
