"""The parameters of an instance and the rules between them, a module for each subject. Pure."""
