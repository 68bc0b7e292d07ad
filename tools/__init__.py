"""What the checks of this repository need and no distribution has."""
