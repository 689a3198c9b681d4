"""Checkpoint sync and disaster recovery for stateful data pipelines."""

__version__ = "0.1.0"
