"""The viewer: a web page to explore a shape space."""
