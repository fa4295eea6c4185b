"""Simulate, break, judge: find the race before your users do."""
