"""What every room needs and none owns: errors for users, files written whole or not at all, progress."""
