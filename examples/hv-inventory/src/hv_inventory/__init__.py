"""The owner of an instance and its asset tag: an example of an extension of hvcore's drivers."""
