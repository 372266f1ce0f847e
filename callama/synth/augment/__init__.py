"""Cleaned conversations turned into the scenarios that their data lacks."""
