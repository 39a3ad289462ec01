"""Fuzzed posts and rows, hostile servers and odd pictures: what is wrong with how each was taken, or ""."""
