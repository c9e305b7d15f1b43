"""The command line: one small module for each group of verbs. The engine they call lies in `tasks/engine`."""

import atexit
import gc
import sys

# Invoke turns bytecode off, and each run would compile the engine again: a fifth of its time.
sys.dont_write_bytecode = bool(sys.flags.dont_write_bytecode)
# Modules are never garbage. Collecting while they load, and at exit, took another fifth.
gc.set_threshold(100_000)
atexit.register(gc.freeze)
