"""The program that a host runs: Python's standard library alone, 3.9 and later, told what to do by one JSON object.

It never imports `tasks`. Each step, such as `setup`, is a module with `perform(run)`; `main.STEPS` lists them.
"""
