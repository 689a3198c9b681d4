"""Whole actions: each moves a checkpoint between a source and a repository, or looks at both."""
