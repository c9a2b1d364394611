"""Answers of a model: how they are asked for, sampled, and dealt out to ranks."""
