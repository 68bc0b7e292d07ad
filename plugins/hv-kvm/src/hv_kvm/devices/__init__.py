"""The built-in device families, one module each, registered through the same hooks as a third party's."""
