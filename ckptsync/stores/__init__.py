"""Where bytes live: one interface, the stores that keep it, and stores around a store."""
