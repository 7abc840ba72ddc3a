"""Agents: what needs no VM and no model."""
