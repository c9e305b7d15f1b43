"""Carry the data of a service from a host to archives on the controller, and back: `fab backup`, `fab restore`."""
