"""Add parts of `templates/parts` to the service in `service/`: `fab add`."""
