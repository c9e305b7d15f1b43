"""The command line: one small module for each group of verbs. The engine they call lies in `tasks/engine`."""

import atexit
import gc
import sys

# Invoke keeps Python from writing bytecode, and every run would compile the engine anew: a fifth of its time.
sys.dont_write_bytecode = bool(sys.flags.dont_write_bytecode)
# Modules are no garbage. Looking for some among them, as they load and once more at the exit, took another fifth.
gc.set_threshold(100_000)
atexit.register(gc.freeze)
