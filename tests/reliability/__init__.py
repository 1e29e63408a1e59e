"""Whole runs that are disturbed for real, compared with one that was not: ``make faults`` (docs/reliability.md)."""
