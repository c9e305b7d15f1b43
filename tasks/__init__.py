"""The command line: one small module for each group of verbs. The engine they call lies in `tasks/engine`."""
