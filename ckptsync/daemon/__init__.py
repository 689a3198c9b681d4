"""The process that keeps pipelines in sync: its threads, its alarm clock, its service manager."""
