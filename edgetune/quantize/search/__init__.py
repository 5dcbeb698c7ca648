"""Search the type of every tensor of a file under a budget."""
