"""What is mounted where, and who has claimed a directory."""
