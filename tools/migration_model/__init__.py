"""The model of a migration between two nodes, made from the rules of hvcore and searched by spin."""
