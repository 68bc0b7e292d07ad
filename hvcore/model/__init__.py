"""Values: instances, states, plans, records. Pure and frozen."""
