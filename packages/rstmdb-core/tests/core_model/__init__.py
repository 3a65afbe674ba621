"""An independent model of the engine and the driver that holds the two against each other."""
