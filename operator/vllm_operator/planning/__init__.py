"""Decisions: feasibility, placement, flags and suggestions."""
