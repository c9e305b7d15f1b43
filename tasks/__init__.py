"""The command line: one small module for each group of verbs. The engine they call lies in `tasks/engine`."""

import sys

# Invoke keeps Python from writing bytecode, and every run would compile the engine anew: a fifth of its time.
sys.dont_write_bytecode = bool(sys.flags.dont_write_bytecode)
