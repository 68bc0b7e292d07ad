"""What an instance can be given, a module for each matter: its parameters, and what must hold between them. Pure."""
